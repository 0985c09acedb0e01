//! Asynchronous tasks: pictures and videos are submitted, then looked at until they are done.
//!
//! Time plays no part: a task is PENDING when submitted, RUNNING at the first look, SUCCEEDED from the second on.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::required;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::reply::Reply;

/// The oldest tasks are forgotten beyond this many.
const MOST_TASKS: usize = 1000;
const MOST_RESULTS: u64 = 10;

/// What a task makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Image,
    Video,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Pending,
    Running,
    Succeeded,
    Canceled,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Canceled => "CANCELED",
        }
    }

    /// What the next look sees.
    fn next(self) -> Self {
        match self {
            Self::Pending => Self::Running,
            Self::Running => Self::Succeeded,
            ended => ended,
        }
    }
}

#[derive(Clone, Debug)]
struct Task {
    id: String,
    kind: Kind,
    model: String,
    prompt: String,
    count: u64,
    seconds: u64,
    submitted: String,
    status: Status,
}

/// All tasks, oldest first.
#[derive(Debug, Default)]
pub(crate) struct TaskBoard(VecDeque<Task>);

impl TaskBoard {
    fn find(&mut self, id: &str) -> Option<&mut Task> {
        self.0.iter_mut().find(|task| task.id == id)
    }
}

pub(super) fn submit(call: &Call<'_>, model: &str, kind: Kind, board: &Mutex<TaskBoard>) -> Result<Reply, Refusal> {
    if call.header("x-dashscope-async") != Some("enable") {
        return Err(Refusal::new(403, "current user api does not support synchronous calls.").code("AccessDenied"));
    }
    let body = call.json()?;
    let task = Task {
        id: call.request.to_string(),
        kind,
        model: model.to_owned(),
        prompt: required(&body["input"], "prompt")?.to_owned(),
        count: body["parameters"]["n"].as_u64().unwrap_or(1).clamp(1, MOST_RESULTS),
        seconds: body["parameters"]["duration"].as_u64().unwrap_or(5),
        submitted: wall_clock(),
        status: Status::Pending,
    };
    let reply = json!({"output": {"task_status": task.status.name(), "task_id": task.id},
        "request_id": call.request.to_string()});
    let mut board = lock(board);
    board.0.push_back(task);
    if board.0.len() > MOST_TASKS {
        board.0.pop_front();
    }
    Ok(Reply::ok(&reply))
}

/// `GET /tasks/{id}`: each look moves the task on. A task that nobody knows has the status UNKNOWN.
pub(super) fn look(call: &Call<'_>, id: &str, board: &Mutex<TaskBoard>) -> Reply {
    let request_id = call.request.to_string();
    let mut board = lock(board);
    let Some(task) = board.find(id) else {
        let output = json!({"task_id": id, "task_status": "UNKNOWN"});
        return Reply::ok(&json!({"request_id": request_id, "output": output}));
    };
    task.status = task.status.next();
    let mut reply = json!({"request_id": request_id, "output": output(task)});
    if task.status == Status::Succeeded {
        reply["usage"] = usage(task);
    }
    Reply::ok(&reply)
}

/// `POST /tasks/{id}/cancel`: only a task that has not started can be cancelled.
pub(super) fn cancel(call: &Call<'_>, id: &str, board: &Mutex<TaskBoard>) -> Result<Reply, Refusal> {
    match lock(board).find(id) {
        Some(task) if task.status == Status::Pending => task.status = Status::Canceled,
        _ => {
            let message = "Failed to cancel the task, please confirm if the task is in PENDING status.";
            return Err(Refusal::new(400, message).code("UnsupportedOperation"));
        }
    }
    Ok(Reply::ok(&json!({"request_id": call.request.to_string()})))
}

/// `GET /tasks`, newest first; looking at the list moves nothing.
pub(super) fn list(call: &Call<'_>, board: &Mutex<TaskBoard>) -> Reply {
    let number = |name: &str, default: usize| {
        call.parameter(name).and_then(|text| text.parse().ok()).filter(|number| *number > 0).unwrap_or(default)
    };
    let (page, size) = (number("page_no", 1), number("page_size", 10));
    let wanted = |task: &&Task| {
        call.parameter("status").is_none_or(|status| status == task.status.name())
            && call.parameter("model_name").is_none_or(|model| model == task.model)
    };
    let board = lock(board);
    let tasks: Vec<&Task> = board.0.iter().rev().filter(wanted).collect();
    let entry = |task: &&Task| json!({"task_id": task.id, "status": task.status.name(), "model_name": task.model, "gmt_create": task.submitted});
    let data: Vec<Value> = tasks.iter().skip(size.saturating_mul(page - 1)).take(size).map(entry).collect();
    Reply::ok(&json!({"request_id": call.request.to_string(), "data": data, "total": tasks.len(),
        "total_page": tasks.len().div_ceil(size), "page_no": page, "page_size": size}))
}

fn output(task: &Task) -> Value {
    let mut output = json!({"task_id": task.id, "task_status": task.status.name(), "submit_time": task.submitted});
    let address = |number: u64, ending: &str| format!("https://demo-upstream.invalid/{}/{number}.{ending}", task.id);
    match (task.status, task.kind) {
        (Status::Succeeded, Kind::Image) => {
            let result = |number| json!({"orig_prompt": task.prompt, "url": address(number, "png")});
            output["results"] = (0..task.count).map(result).collect();
            output["task_metrics"] = json!({"TOTAL": task.count, "SUCCEEDED": task.count, "FAILED": 0});
        }
        (Status::Succeeded, Kind::Video) => {
            output["orig_prompt"] = json!(task.prompt);
            output["video_url"] = json!(address(0, "mp4"));
        }
        _ => {}
    }
    output
}

fn usage(task: &Task) -> Value {
    match task.kind {
        Kind::Image => json!({"image_count": task.count}),
        Kind::Video => json!({"video_count": 1, "video_duration": task.seconds, "video_ratio": "1280*720"}),
    }
}

/// Now, as DashScope writes it: `2026-01-01 00:00:00.000`.
fn wall_clock() -> String {
    aiproxy_core::time::timestamp().to_string().replace('T', " ").replace('Z', "")
}

/// A thread that panicked cannot have left a half-written task behind.
fn lock(board: &Mutex<TaskBoard>) -> MutexGuard<'_, TaskBoard> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use crate::DemoUpstream;
    use crate::testing::{Answered, send, upstream};

    const BEARER: (&str, &str) = ("authorization", "Bearer sk-test");

    fn submit(upstream: &DemoUpstream, service: &str, parameters: Value) -> Value {
        let body = json!({"model": "demo-image", "input": {"prompt": "a cat"}, "parameters": parameters});
        let path = format!("/api/v1/services/aigc/{service}");
        let headers = [BEARER, ("x-dashscope-async", "enable")];
        send(upstream, Method::POST, &path, &headers, body.to_string().into()).json()
    }

    fn ask(upstream: &DemoUpstream, method: Method, path: &str) -> Answered {
        send(upstream, method, &format!("/api/v1/tasks{path}"), &[BEARER], Vec::new())
    }

    #[test]
    fn a_task_moves_on_with_every_look() {
        let upstream = upstream();
        let submitted = submit(&upstream, "text2image/image-synthesis", json!({"n": 2}));
        assert_eq!((&submitted["output"]["task_status"], submitted.get("usage")), (&json!("PENDING"), None));
        let path = format!("/{}", submitted["output"]["task_id"].as_str().unwrap());
        let look = || ask(&upstream, Method::GET, &path).json();
        assert_eq!(look()["output"]["task_status"], "RUNNING");
        let done = look();
        assert_eq!((&done["output"]["task_status"], &done["usage"]), (&json!("SUCCEEDED"), &json!({"image_count": 2})));
        assert_eq!(done["output"]["results"].as_array().map(Vec::len), Some(2));
        assert_eq!(look()["usage"], done["usage"]);
        assert_eq!(ask(&upstream, Method::POST, &format!("{path}/cancel")).json()["code"], "UnsupportedOperation");
    }

    #[test]
    fn a_pending_task_can_be_cancelled_and_all_are_listed() {
        let upstream = upstream();
        let submitted = submit(&upstream, "video-generation/video-synthesis", json!({}));
        let path = format!("/{}", submitted["output"]["task_id"].as_str().unwrap());
        assert_eq!(ask(&upstream, Method::POST, &format!("{path}/cancel")).status, 200);
        assert_eq!(ask(&upstream, Method::GET, &path).json()["output"]["task_status"], "CANCELED");
        submit(&upstream, "text2image/image-synthesis", json!({}));
        let list = ask(&upstream, Method::GET, "?page_size=1&page_no=2").json();
        assert_eq!((&list["total"], &list["data"][0]["status"]), (&json!(2), &json!("CANCELED")));
        assert_eq!(ask(&upstream, Method::GET, "?status=PENDING").json()["total"], 1);
    }

    #[test]
    fn submitting_needs_the_async_header_and_unknown_tasks_are_unknown() {
        let upstream = upstream();
        let body = json!({"model": "m", "input": {"prompt": "x"}}).to_string();
        let path = "/api/v1/services/aigc/text2image/image-synthesis";
        let refused = send(&upstream, Method::POST, path, &[BEARER], body.into());
        assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("AccessDenied")));
        assert_eq!(ask(&upstream, Method::GET, "/none").json()["output"]["task_status"], "UNKNOWN");
    }
}

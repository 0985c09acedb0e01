//! DashScope's inference sockets: tasks that speak (CosyVoice, Sambert) and tasks that listen (Paraformer).
//!
//! Several tasks may run on one socket at once, each with usage of its own (`protocols.md` §2.11, §4). A binary message
//! names no task: it is heard by the latest one that listens.

mod task;

use bytes::Bytes;
use serde_json::{Value, json};

use self::task::Task;
use super::outbox::lane;
use super::plain::close_on_purpose;
use super::{Dialogue, Outbox, Step};
use crate::magic::Magic;
use crate::refusal::Refusal;
use crate::reply::Delay;
use crate::route::Dialect;

/// Tasks at a time.
const MOST_TASKS: usize = 64;

/// A socket of the inference API.
#[derive(Debug, Default)]
pub(super) struct Inference {
    /// Running tasks, oldest first.
    tasks: Vec<Task>,
}

impl Dialogue for Inference {
    fn text(&mut self, text: &str, outbox: &mut Outbox) {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        let (header, payload) = (&message["header"], &message["payload"]);
        let id = header["task_id"].as_str().unwrap_or_default();
        let steps = match header["action"].as_str() {
            _ if id.is_empty() => Err(invalid("task_id is missing")),
            Some("run-task") => self.run(id, header, payload),
            Some("continue-task") => self.task(id).and_then(|task| task.go_on(&payload["input"])),
            Some("finish-task") => self.task(id).map(Task::finish).inspect(|_| self.end(id)),
            _ => Err(invalid("unknown action")),
        };
        let steps = steps.unwrap_or_else(|refusal| {
            self.end(id);
            vec![failed(id, &refusal)]
        });
        if steps.iter().any(|step| is_failure(step) || *step == Step::Break) {
            self.end(id);
        }
        outbox.weave(lane(id), steps);
    }

    fn binary(&mut self, bytes: &Bytes, outbox: &mut Outbox) {
        let listener = self.tasks.iter_mut().rfind(|task| task.listens());
        if let Some(task) = listener {
            let steps = task.hear(bytes);
            outbox.weave(lane(task.id()), steps);
        }
    }
}

impl Inference {
    fn run(&mut self, id: &str, header: &Value, payload: &Value) -> Result<Vec<Step>, Refusal> {
        let model = payload["model"].as_str().ok_or_else(|| invalid("model is missing"))?;
        if self.tasks.iter().any(|task| task.id() == id) {
            return Err(invalid("the task is running already"));
        }
        if self.tasks.len() >= MOST_TASKS {
            return Err(Refusal::genuine(429, Dialect::DashScope));
        }
        let magic = Magic::of(model);
        if let Some(refusal) = magic.refusal(model, Dialect::DashScope) {
            return Err(refusal);
        }
        if let Magic::Close(code) = magic {
            return Ok(vec![close_on_purpose(code)]);
        }
        let mut task = Task::new(id, payload)?;
        let mut steps = match magic.delay() {
            Delay::None => Vec::new(),
            Delay::For(time) => vec![Step::Pause(time)],
            Delay::Forever => return Ok(Vec::new()),
        };
        steps.push(event(id, "task-started", json!({})));
        if header["streaming"] == "out" {
            steps.extend(task.go_on(&payload["input"])?);
            steps.extend(task.finish());
        } else {
            self.tasks.push(task);
        }
        Ok(steps)
    }

    fn task(&mut self, id: &str) -> Result<&mut Task, Refusal> {
        self.tasks.iter_mut().find(|task| task.id() == id).ok_or_else(|| invalid("the task is not running"))
    }

    fn end(&mut self, id: &str) {
        self.tasks.retain(|task| task.id() != id);
    }
}

/// An event about the task `id`.
fn event(id: &str, name: &str, payload: Value) -> Step {
    Step::Event(json!({"header": {"task_id": id, "event": name, "attributes": {}}, "payload": payload}))
}

/// The event that ends a task before its time.
fn failed(id: &str, refusal: &Refusal) -> Step {
    let error = refusal.envelope(Dialect::DashScope, "");
    Step::Event(json!({"header": {"task_id": id, "event": "task-failed", "error_code": error["code"],
        "error_message": error["message"], "attributes": {}}, "payload": {}}))
}

fn is_failure(step: &Step) -> bool {
    matches!(step, Step::Event(event) if event["header"]["event"] == "task-failed")
}

fn invalid(what: &str) -> Refusal {
    Refusal::new(400, format!("Required parameter missing or invalid: {what}.")).code("InvalidParameter")
}

//! Every kind of work that outlives its call: how it is made, and which later calls name it.

use aiproxy_testkit::Step;
use aiproxy_testkit::gateway::{get, post};

/// A kind of work; ID stands for its id.
pub(super) struct Work {
    pub(super) create: String,
    answer: Vec<Step>,
    pub(super) later: Vec<String>,
}

impl Work {
    fn new(create: String, answer: Vec<Step>, later: &[String]) -> Self {
        Self { create, answer, later: later.to_vec() }
    }

    /// What the upstream answers when it makes `id`. Ids are as long as ID, so that lengths hold.
    pub(super) fn answer(&self, id: &str) -> Vec<Step> {
        let step = |step: &Step| match step {
            Step::Send(bytes) => Step::send(String::from_utf8_lossy(bytes).replace("ID", id)),
            other => other.clone(),
        };
        self.answer.iter().map(step).collect()
    }
}

fn del(path: &str) -> String {
    get(path, "pk-1").replacen("GET", "DELETE", 1)
}

pub(super) fn all_kinds() -> Vec<Work> {
    let post = |path: &str, body: &str| post(path, "pk-1", body);
    let get = |path: &str| get(path, "pk-1");
    let json = |body: &str| vec![Step::json(200, body)];
    let upload = "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--x--\r\n";
    let upload = |path: &str| post(path, upload).replace("application/json", "multipart/form-data; boundary=x");
    let response = r#"{"model":"m","input":"go on","previous_response_id":"resp_ID"}"#;
    let event = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_ID\"}}\n\n";
    vec![
        Work::new(
            post("/api/v1/services/aigc/text2image/image-synthesis", r#"{"model":"wanx","input":{"prompt":"p"}}"#),
            json(r#"{"output":{"task_id":"ID","task_status":"PENDING"},"request_id":"r-1"}"#),
            &[get("/api/v1/tasks/ID"), post("/api/v1/tasks/ID/cancel", "")],
        ),
        Work::new(
            upload("/v1/files"),
            json(r#"{"id":"file-ID","object":"file","bytes":9}"#),
            &[get("/v1/files/file-ID"), get("/v1/files/file-ID/content"), del("/v1/files/file-ID")],
        ),
        Work::new(
            post("/v1/batches", r#"{"input_file_id":"file-0","endpoint":"/v1/responses"}"#),
            json(r#"{"id":"batch_ID","object":"batch","input_file_id":"file-0"}"#),
            &[get("/v1/batches/batch_ID"), post("/v1/batches/batch_ID/cancel", "")],
        ),
        Work::new(
            post("/v1/responses", r#"{"model":"m","input":"hi","background":true}"#),
            json(r#"{"id":"resp_ID","object":"response","status":"queued"}"#),
            &[get("/v1/responses/resp_ID"), get("/v1/responses/resp_ID/input_items"), post("/v1/responses", response)],
        ),
        Work::new(
            post("/v1/responses", r#"{"model":"m","input":"hi","stream":true}"#),
            vec![Step::sse_head(), Step::chunk(event), Step::chunk("data: {}\n\n"), Step::last_chunk()],
            &[get("/v1/responses/resp_ID"), post("/v1/responses", response)],
        ),
        Work::new(
            post("/v1/messages/batches", r#"{"requests":[]}"#),
            json(r#"{"id":"msgbatch_ID","type":"message_batch","processing_status":"in_progress"}"#),
            &[
                get("/v1/messages/batches/msgbatch_ID"),
                get("/v1/messages/batches/msgbatch_ID/results"),
                post("/v1/messages/batches/msgbatch_ID/cancel", ""),
            ],
        ),
        Work::new(
            post("/v1/videos", r#"{"model":"m","prompt":"p"}"#),
            json(r#"{"id":"video_ID","object":"video","status":"queued"}"#),
            &[get("/v1/videos/video_ID"), get("/v1/videos/video_ID/content")],
        ),
        Work::new(
            upload("/upload/v1beta/files"),
            json(r#"{"file":{"name":"files/ID","mimeType":"text/plain"}}"#),
            &[get("/v1beta/files/ID"), del("/v1beta/files/ID")],
        ),
    ]
}

//! The native DashScope dialect: endpoints below `/api/v1`.

mod embeddings;
mod generation;
mod rerank;
mod tasks;

use std::sync::Mutex;

use http::Method;
use serde_json::Value;

use crate::call::Call;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::route::{Dialect, Route};

pub(crate) use tasks::TaskBoard;

const GENERATION: &str = "services/aigc/text-generation/generation";
const MULTIMODAL: &str = "services/aigc/multimodal-generation/generation";
const EMBEDDING: &str = "services/embeddings/text-embedding/text-embedding";
const RERANK: &str = "services/rerank/text-rerank/text-rerank";
const IMAGE: &str = "services/aigc/text2image/image-synthesis";
const VIDEO: &str = "services/aigc/video-generation/video-synthesis";

pub(crate) fn answer(call: &Call<'_>, route: &Route<'_>, board: &Mutex<TaskBoard>) -> Result<Reply, Refusal> {
    let model = || {
        let model = call.json()?["model"].as_str();
        model.ok_or_else(|| {
            Refusal::new(400, "Required parameter \"model\" missing or invalid, please check the request parameters.")
        })
    };
    match (call.method, route.tail) {
        (&Method::POST, GENERATION) => generation::answer(call, model()?, false),
        (&Method::POST, MULTIMODAL) => generation::answer(call, model()?, true),
        (&Method::POST, EMBEDDING) => model().and_then(|_| embeddings::answer(call)),
        (&Method::POST, RERANK) => model().and_then(|_| rerank::answer(call)),
        (&Method::POST, IMAGE) => tasks::submit(call, model()?, tasks::Kind::Image, board),
        (&Method::POST, VIDEO) => tasks::submit(call, model()?, tasks::Kind::Video, board),
        (&Method::GET, "tasks") => Ok(tasks::list(call, board)),
        (method, tail) => {
            match (method, tail.strip_prefix("tasks/").map(|rest| rest.split_once('/').unwrap_or((rest, "")))) {
                (&Method::GET, Some((id, ""))) => Ok(tasks::look(call, id, board)),
                (&Method::POST, Some((id, "cancel"))) => tasks::cancel(call, id, board),
                _ => Err(Refusal::no_route(method.as_str(), call.path, Dialect::DashScope)),
            }
        }
    }
}

/// A text of the input that must be there.
fn required<'a>(value: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    value[name].as_str().ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Refusal {
    Refusal::new(
        400,
        format!("Required parameter \"input.{name}\" missing or invalid, please check the request parameters."),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::post;

    #[test]
    fn unknown_paths_and_models_answer_in_the_envelope() {
        let answer = post("/api/v1/services/nothing", &json!({"model": "m"}));
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("InvalidParameter")));
        let answer = post(&format!("/api/v1/{}", super::GENERATION), &json!({"model": "demo-missing", "input": {}}));
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("ModelNotFound")));
        assert!(answer.json()["request_id"].is_string());
        let answer = post(&format!("/api/v1/{}", super::GENERATION), &json!({"input": {}}));
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("InvalidParameter")));
    }
}

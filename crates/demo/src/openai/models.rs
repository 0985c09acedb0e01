//! `GET /models` and `/models/{id}`.

use serde_json::{Value, json};

use crate::catalog::{CREATED, MODELS};
use crate::reply::Reply;

pub(super) fn list() -> Reply {
    Reply::ok(&json!({"object": "list", "data": MODELS.map(model)}))
}

/// Any name is a model.
pub(super) fn one(name: &str) -> Reply {
    Reply::ok(&model(name))
}

fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": "aiproxy-demo"})
}

#[cfg(test)]
mod tests {
    use crate::testing::get;

    #[test]
    fn models_are_listed_and_described() {
        let bearer = [("authorization", "Bearer sk-test")];
        assert_eq!(get("/v1/models", &bearer).json()["data"][0]["id"], "demo-chat");
        assert_eq!(get("/v1/models/gpt-x", &bearer).json()["id"], "gpt-x");
        let missing = get("/v1/models/demo-missing", &bearer);
        assert_eq!((missing.status, missing.json()["error"]["code"].as_str()), (404, Some("model_not_found")));
    }
}

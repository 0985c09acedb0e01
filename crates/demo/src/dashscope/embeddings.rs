//! Text embedding.

use serde_json::{Value, json};

use super::missing;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::{tokens, vector};

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let texts: Vec<&str> = match &body["input"]["texts"] {
        Value::String(text) => vec![text],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
        _ => return Err(missing("texts")),
    };
    let wanted = body["parameters"]["dimension"].as_u64();
    let dimensions = vector::dimensions(wanted).ok_or_else(|| Refusal::new(400, "dimension is out of range"))?;
    let embedding =
        |(index, text): (usize, &&str)| json!({"text_index": index, "embedding": vector::embed(text, dimensions)});
    let embeddings: Vec<Value> = texts.iter().enumerate().map(embedding).collect();
    let spent: u64 = texts.iter().map(|text| tokens::count(text)).sum();
    Ok(Reply::ok(&json!({"output": {"embeddings": embeddings}, "usage": {"total_tokens": spent},
        "request_id": call.request.to_string()})))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::post;

    #[test]
    fn texts_become_vectors() {
        let path = "/api/v1/services/embeddings/text-embedding/text-embedding";
        let body =
            json!({"model": "demo-embedding", "input": {"texts": ["hello", "world"]}, "parameters": {"dimension": 4}});
        let json = post(path, &body).json();
        assert_eq!(json["output"]["embeddings"][1]["text_index"], 1);
        assert_eq!(json["output"]["embeddings"][1]["embedding"].as_array().map(Vec::len), Some(4));
        assert_eq!(json["usage"], json!({"total_tokens": 4}));
        assert_eq!(post(path, &json!({"model": "m", "input": {}})).json()["code"], "InvalidParameter");
    }
}

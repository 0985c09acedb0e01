//! `POST /embeddings` (`protocols.md` §2.3).

use serde_json::{Value, json};

use crate::call::Call;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::{base64, tokens, vector};

pub(super) fn answer(call: &Call<'_>, model: &str) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let inputs = inputs(&body["input"])?;
    let is_base64 = body["encoding_format"] == "base64";
    let dimensions = vector::dimensions(body["dimensions"].as_u64())
        .ok_or_else(|| Refusal::new(400, "Invalid value for 'dimensions'.").param("dimensions"))?;
    let embedding = |(index, (text, _)): (usize, &(String, u64))| {
        let vector = vector::embed(text, dimensions);
        let embedding = if is_base64 { json!(base64::encode(&vector::bytes(&vector))) } else { json!(vector) };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<Value> = inputs.iter().enumerate().map(embedding).collect();
    let spent: u64 = inputs.iter().map(|(_, tokens)| tokens).sum();
    let usage = json!({"prompt_tokens": spent, "total_tokens": spent});
    Ok(Reply::ok(&json!({"object": "list", "data": data, "model": model, "usage": usage})))
}

/// The texts to embed, each with its tokens. Callers may also send token numbers, which count one by one.
fn inputs(input: &Value) -> Result<Vec<(String, u64)>, Refusal> {
    let one = |item: &Value| match item {
        Value::String(text) => Some((text.clone(), tokens::count(text))),
        Value::Array(numbers) => Some((item.to_string(), numbers.len() as u64)),
        _ => None,
    };
    let inputs = match input {
        Value::Array(items) if !items.first().is_some_and(Value::is_number) => items.iter().map(one).collect(),
        single => one(single).map(|single| vec![single]),
    };
    inputs.filter(|inputs: &Vec<_>| !inputs.is_empty()).ok_or(Refusal::missing("input"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::post;
    use crate::{base64, vector};

    #[test]
    fn floats_and_base64_are_the_same_vector() {
        let mut body = json!({"model": "demo-embedding", "input": ["hello", "world!"], "dimensions": 8});
        let floats = post("/v1/embeddings", &body).json();
        assert_eq!(floats["data"][0]["embedding"].as_array().map(Vec::len), Some(8));
        assert_eq!(floats["usage"], json!({"prompt_tokens": 4, "total_tokens": 4}));
        body["encoding_format"] = json!("base64");
        let encoded = post("/v1/embeddings", &body).json();
        assert_eq!(encoded["data"][1]["embedding"], base64::encode(&vector::bytes(&vector::embed("world!", 8))));
    }

    #[test]
    fn token_numbers_count_one_by_one() {
        for (input, tokens) in [(json!([1, 2, 3]), 3), (json!([[1, 2], [3]]), 3), (json!("four"), 1)] {
            let body = json!({"model": "demo-embedding", "input": input, "encoding_format": null});
            assert_eq!(post("/v1/embeddings", &body).json()["usage"]["total_tokens"], tokens);
        }
    }

    #[test]
    fn bad_requests_are_refused() {
        assert_eq!(post("/v1/embeddings", &json!({"model": "m", "input": []})).status, 400);
        let body = json!({"model": "m", "input": "x", "dimensions": 99999});
        assert_eq!(post("/v1/embeddings", &body).json()["error"]["param"], "dimensions");
    }
}

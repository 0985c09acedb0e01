//! `:predict`: Vertex embeddings (instances with `content`) and Imagen (instances with `prompt`).

use serde_json::{Value, json};

use super::member;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::{base64, picture, tokens, vector};

const MOST_PICTURES: u64 = 8;

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let parameters = &body["parameters"];
    let wanted = member(parameters, "outputDimensionality", "output_dimensionality").as_u64();
    let dimensions =
        vector::dimensions(wanted).ok_or_else(|| Refusal::new(400, "outputDimensionality is out of range"))?;
    let pictures = member(parameters, "sampleCount", "sample_count").as_u64().unwrap_or(1).min(MOST_PICTURES);
    let predict = |instance: &Value| match (instance["content"].as_str(), instance["prompt"].as_str()) {
        (Some(text), _) => Some(vec![embedding(text, dimensions)]),
        (None, Some(prompt)) => Some((0..pictures).map(|number| painting(prompt, number)).collect()),
        (None, None) => None,
    };
    let instances = body["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    let predictions: Option<Vec<Vec<Value>>> = instances.iter().map(predict).collect();
    match predictions {
        Some(predictions) if !predictions.is_empty() => Ok(Reply::ok(&json!({"predictions": predictions.concat()}))),
        _ => Err(Refusal::new(400, "Invalid instances: expected `content` or `prompt`.")),
    }
}

fn embedding(text: &str, dimensions: usize) -> Value {
    let statistics = json!({"truncated": false, "token_count": tokens::count(text)});
    json!({"embeddings": {"values": vector::embed(text, dimensions), "statistics": statistics}})
}

fn painting(prompt: &str, number: u64) -> Value {
    json!({"mimeType": "image/png", "bytesBase64Encoded": base64::encode(&picture::paint(prompt, number as usize))})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::post;

    #[test]
    fn texts_become_vectors_and_prompts_pictures() {
        let path = "/v1beta1/projects/p/locations/l/publishers/google/models/m:predict";
        let body = json!({"instances": [{"content": "hello"}], "parameters": {"outputDimensionality": 4}});
        let json = post(path, &body).json();
        assert_eq!(json["predictions"][0]["embeddings"]["statistics"]["token_count"], 2);
        let json = post(path, &json!({"instances": [{"prompt": "a cat"}], "parameters": {"sampleCount": 2}})).json();
        assert_eq!(json["predictions"].as_array().map(Vec::len), Some(2));
        assert_eq!(post(path, &json!({"instances": [{}]})).status, 400);
    }
}

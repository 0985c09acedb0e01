//! `:embedContent` and `:batchEmbedContents`.

use serde_json::{Value, json};

use super::member;
use crate::call::Call;
use crate::prompt::text_of;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::{tokens, vector};

pub(super) fn one(call: &Call<'_>) -> Result<Reply, Refusal> {
    let (embedding, spent) = embed(call.json()?)?;
    Ok(Reply::ok(
        &json!({"embedding": embedding, "usageMetadata": {"promptTokenCount": spent, "totalTokenCount": spent}}),
    ))
}

pub(super) fn batch(call: &Call<'_>) -> Result<Reply, Refusal> {
    let requests = call.json()?["requests"].as_array();
    let requests = requests
        .ok_or_else(|| Refusal::new(400, "* BatchEmbedContentsRequest.requests: contents is not specified\n"))?;
    let embedded: Vec<(Value, u64)> = requests.iter().map(embed).collect::<Result<_, _>>()?;
    let spent: u64 = embedded.iter().map(|(_, tokens)| tokens).sum();
    let embeddings: Vec<Value> = embedded.into_iter().map(|(embedding, _)| embedding).collect();
    let usage = json!({"promptTokenCount": spent, "totalTokenCount": spent});
    Ok(Reply::ok(&json!({"embeddings": embeddings, "usageMetadata": usage})))
}

fn embed(request: &Value) -> Result<(Value, u64), Refusal> {
    let text = text_of(&request["content"]["parts"]);
    let wanted = member(request, "outputDimensionality", "output_dimensionality");
    let wanted = wanted.as_u64().or(member(&request["embedContentConfig"], "outputDimensionality", "").as_u64());
    let dimensions = vector::dimensions(wanted);
    let dimensions = dimensions.ok_or_else(|| Refusal::new(400, "outputDimensionality is out of range"))?;
    Ok((json!({"values": vector::embed(&text, dimensions)}), tokens::count(&text)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::post;

    #[test]
    fn one_and_many_agree() {
        let request = json!({"content": {"parts": [{"text": "hello"}]}, "outputDimensionality": 4});
        let one = post("/v1beta/models/demo-embedding:embedContent", &request).json();
        let many =
            post("/v1beta/models/demo-embedding:batchEmbedContents", &json!({"requests": [request, request]})).json();
        assert_eq!(one["embedding"]["values"].as_array().map(Vec::len), Some(4));
        assert_eq!(many["embeddings"], json!([one["embedding"], one["embedding"]]));
        assert_eq!(
            (&one["usageMetadata"]["promptTokenCount"], &many["usageMetadata"]["promptTokenCount"]),
            (&json!(2), &json!(4))
        );
    }

    #[test]
    fn bad_requests_are_refused() {
        assert_eq!(post("/v1beta/models/m:batchEmbedContents", &json!({})).status, 400);
        assert_eq!(post("/v1beta/models/m:embedContent", &json!({"outputDimensionality": 0})).status, 400);
    }
}

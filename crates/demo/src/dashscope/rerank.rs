//! Reranking: documents sorted by how many words they share with the query.

use serde_json::{Value, json};

use super::{missing, required};
use crate::call::Call;
use crate::prompt::text_of;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::{tokens, vector};

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let query = required(&body["input"], "query")?;
    let documents = body["input"]["documents"].as_array().ok_or_else(|| missing("documents"))?;
    let documents: Vec<String> = documents.iter().map(text_of).collect();
    let mut scored: Vec<(usize, f32)> =
        documents.iter().map(|document| vector::likeness(query, document)).enumerate().collect();
    scored.sort_by(|left, right| right.1.total_cmp(&left.1));
    let parameters = &body["parameters"];
    if let Some(top) = parameters["top_n"].as_u64() {
        scored.truncate(top as usize);
    }
    let shows_documents = parameters["return_documents"] == true;
    let result = |(index, score): (usize, f32)| {
        let mut result = json!({"index": index, "relevance_score": score});
        if shows_documents {
            result["document"] = json!({"text": documents[index]});
        }
        result
    };
    let results: Vec<Value> = scored.into_iter().map(result).collect();
    let spent: u64 = documents.iter().map(|document| tokens::count(query) + tokens::count(document)).sum();
    Ok(Reply::ok(&json!({"output": {"results": results}, "usage": {"total_tokens": spent},
        "request_id": call.request.to_string()})))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::post;

    #[test]
    fn the_likest_document_comes_first() {
        let path = "/api/v1/services/rerank/text-rerank/text-rerank";
        let input = json!({"query": "red apple", "documents": ["blue whale", "a red apple"]});
        let mut body =
            json!({"model": "demo-rerank", "input": input, "parameters": {"top_n": 1, "return_documents": true}});
        let json = post(path, &body).json();
        let result = &json["output"]["results"][0];
        assert_eq!((&result["index"], &result["document"]["text"]), (&json!(1), &json!("a red apple")));
        assert_eq!(
            (json["output"]["results"].as_array().map(Vec::len), &json["usage"]["total_tokens"]),
            (Some(1), &json!(12))
        );
        body["input"]["query"] = json!(null);
        assert_eq!(post(path, &body).status, 400);
    }
}

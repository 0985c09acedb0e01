//! `POST /moderations`: whatever mentions violence is flagged.

use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::prompt::text_of;
use crate::refusal::Refusal;
use crate::reply::Reply;

const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let results: Vec<Value> = match &body["input"] {
        Value::String(text) => vec![result(text)],
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).map(result).collect()
        }
        parts @ Value::Array(_) => vec![result(&text_of(parts))],
        _ => return Err(Refusal::missing("input")),
    };
    let model = call.body_model().unwrap_or("omni-moderation-latest");
    Ok(Reply::ok(&json!({"id": call.id("modr-"), "model": model, "results": results})))
}

fn result(text: &str) -> Value {
    let is_flagged = ["violence", "暴力"].iter().any(|word| text.to_lowercase().contains(word));
    let hit = |category: &str| is_flagged && category == "violence";
    let each = |value: &dyn Fn(&str) -> Value| {
        CATEGORIES.iter().map(|category| ((*category).to_owned(), value(category))).collect::<Map<_, _>>()
    };
    json!({
        "flagged": is_flagged,
        "categories": each(&|category| json!(hit(category))),
        "category_scores": each(&|category| json!(if hit(category) { 0.9 } else { 0.001 })),
        "category_applied_input_types": each(&|_| json!(["text"])),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::post;

    #[test]
    fn violence_is_flagged() {
        let json = post("/v1/moderations", &json!({"input": ["peace", "violence"]})).json();
        assert_eq!((&json["results"][0]["flagged"], &json["results"][1]["flagged"]), (&json!(false), &json!(true)));
        assert_eq!(json["results"][1]["categories"]["violence"], true);
        let json = post("/v1/moderations", &json!({"input": [{"type": "text", "text": "hi"}], "model": "m"})).json();
        assert_eq!((json["results"].as_array().map(Vec::len), &json["model"]), (Some(1), &json!("m")));
        assert_eq!(post("/v1/moderations", &json!({})).status, 400);
    }
}

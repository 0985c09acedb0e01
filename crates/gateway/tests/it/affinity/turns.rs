//! Conversations without a name are known by the beginning of their prompt, which later turns only append to.

use serde_json::{Value, json};

use super::*;

/// The messages of a conversation at `turn`, each written by `message` from its role and text.
fn messages(conversation: usize, turn: usize, message: impl Fn(&str, String) -> Value) -> Vec<Value> {
    let mut messages = vec![message("user", format!("Question {conversation}, please"))];
    for number in 1..turn {
        messages.push(message("assistant", format!("Answer {number}")));
        messages.push(message("user", format!("And then {number}?")));
    }
    messages
}

fn plain(role: &str, text: String) -> Value {
    json!({"role": role, "content": text})
}

/// As SDKs with parts write it.
fn parts(role: &str, text: String) -> Value {
    json!({"role": role, "content": [{"type": "text", "text": text}]})
}

#[tokio::test(start_paused = true)]
async fn openai_chat() {
    for message in [plain, parts] {
        stays(|conversation, turn| {
            let mut list = messages(conversation, turn, message);
            list.insert(0, plain("system", "You are a helpful assistant.".into()));
            post(CHAT, "pk-1", &json!({"model": "m", "stream": turn % 2 == 0, "messages": list}).to_string())
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn openai_responses() {
    stays(|conversation, turn| {
        let first = messages(conversation, turn, plain);
        let body = json!({"model": "m", "instructions": "Be brief.", "input": first});
        post("/v1/responses", "pk-1", &body.to_string())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn anthropic_messages_whose_cache_mark_moves_along() {
    stays(|conversation, turn| {
        let mut list = messages(conversation, turn, parts);
        let last = list.last_mut().unwrap();
        last["content"][0]["cache_control"] = json!({"type": "ephemeral"});
        let system =
            json!([{"type": "text", "text": "You are a careful reviewer.", "cache_control": {"type": "ephemeral"}}]);
        let body = json!({"model": "claude", "max_tokens": 100, "system": system, "messages": list});
        post("/v1/messages", "pk-1", &body.to_string())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn gemini_contents() {
    stays(|conversation, turn| {
        let content = |role: &str, text: String| {
            json!({"role": if role == "user" { "user" } else { "model" }, "parts": [{"text": text}]})
        };
        let instruction = json!({"parts": [{"text": "Answer in one sentence."}]});
        let body = json!({"systemInstruction": instruction, "contents": messages(conversation, turn, content)});
        post("/v1beta/models/gemini:generateContent", "pk-1", &body.to_string())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn dashscope_messages() {
    stays(|conversation, turn| {
        let body =
            json!({"model": "qwen", "input": {"messages": messages(conversation, turn, plain)}, "parameters": {}});
        post("/api/v1/services/aigc/text-generation/generation", "pk-1", &body.to_string())
    })
    .await;
}

/// A conversation is the same one whether its call is compact or pretty, streamed or not, with tools or without.
#[tokio::test(start_paused = true)]
async fn the_form_of_a_call_does_not_matter() {
    stays(|conversation, turn| {
        let mut body = json!({"model": "m", "messages": messages(conversation, turn, plain)});
        match turn {
            1 => {}
            2 => body["stream"] = true.into(),
            3 => body["temperature"] = 0.5.into(),
            4 => body["tools"] = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]),
            _ => return post(CHAT, "pk-1", &serde_json::to_string_pretty(&body).unwrap()),
        }
        post(CHAT, "pk-1", &body.to_string())
    })
    .await;
}

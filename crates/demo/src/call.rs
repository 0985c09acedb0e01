//! One request, read once: path, query, headers, body as JSON or form.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde_json::Value;
use uuid::Uuid;

use crate::form::Form;
use crate::refusal::Refusal;

/// What a request carries.
#[derive(Debug)]
enum Payload {
    Nothing,
    Json(Value),
    Form(Form),
    Unreadable,
}

/// A request as the endpoints see it.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: &'a HeaderMap,
    /// The body as it came.
    pub(crate) body: Bytes,
    /// Unix seconds.
    pub(crate) now: u64,
    /// Fresh for every request; ids in the answer are made from it.
    pub(crate) request: Uuid,
    payload: Payload,
}

impl<'a> Call<'a> {
    pub(crate) fn new(parts: &'a Parts, body: &Bytes) -> Self {
        Self {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().map(pairs).unwrap_or_default(),
            headers: &parts.headers,
            body: body.clone(),
            now: aiproxy_core::time::unix_ms() / 1000,
            request: Uuid::new_v4(),
            payload: payload(&parts.headers, body),
        }
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as a JSON object.
    pub(crate) fn json(&self) -> Result<&Value, Refusal> {
        match &self.payload {
            Payload::Json(value) if value.is_object() => Ok(value),
            _ => Err(Refusal::new(400, "We could not parse the JSON body of your request.")),
        }
    }

    /// The body as a form.
    pub(crate) fn form(&self) -> Result<&Form, Refusal> {
        match &self.payload {
            Payload::Form(form) => Ok(form),
            _ => Err(Refusal::new(400, "Could not parse multipart form")),
        }
    }

    /// The model that the body names.
    pub(crate) fn body_model(&self) -> Option<&str> {
        match &self.payload {
            Payload::Json(value) => value["model"].as_str(),
            Payload::Form(form) => form.text("model"),
            Payload::Nothing | Payload::Unreadable => None,
        }
    }

    /// An id for something in the answer, such as `chatcmpl-…`.
    pub(crate) fn id(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.request.simple())
    }
}

fn payload(headers: &HeaderMap, body: &Bytes) -> Payload {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.starts_with("multipart/form-data") {
        return Form::parse(headers, body).map_or(Payload::Unreadable, Payload::Form);
    }
    match body.is_empty() {
        true => Payload::Nothing,
        false => serde_json::from_slice(body).map_or(Payload::Unreadable, Payload::Json),
    }
}

/// The `name=value` pairs of a query.
fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |item: &str| {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        (decoded(name), decoded(value))
    };
    query.split('&').filter(|item| !item.is_empty()).map(pair).collect()
}

/// `text` with `%XX` read; what is not valid stays as it is.
pub(crate) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let hex = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let expected = [("alt", "sse"), ("key", "a/b"), ("flag", ""), ("bad", "%zz%")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(pairs("alt=sse&key=a%2Fb&flag&bad=%zz%"), expected);
    }
}

//! Test help: bytes in, bytes out.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use serde_json::Value;

use crate::reply::Delay;
use crate::{DemoUpstream, Options};

/// The key that the upstream under test accepts.
pub(crate) const KEY: &str = "sk-test";

/// What came back.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    pub(crate) text: String,
    pub(crate) chunks: usize,
    pub(crate) delay: Delay,
    pub(crate) is_cut: bool,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The JSON of every `data:` line except `[DONE]`.
    pub(crate) fn events(&self) -> Vec<Value> {
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.filter(|data| data.trim() != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// The text of every `event:` line.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.text.lines().filter_map(|line| line.strip_prefix("event:")).map(str::trim).collect()
    }
}

/// A fresh upstream.
pub(crate) fn upstream() -> DemoUpstream {
    DemoUpstream::new(Options { api_key: KEY.to_owned(), pace: Duration::ZERO })
}

/// Sends a request with exactly these headers.
pub(crate) fn send(
    upstream: &DemoUpstream,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answered {
    let request = headers
        .iter()
        .fold(Request::builder().method(method).uri(path), |request, (name, value)| request.header(*name, *value));
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let reply = upstream.handle(&parts, &Bytes::from(body));
    let bytes: Vec<u8> = reply.chunks().flatten().copied().collect();
    Answered {
        status: reply.status().as_u16(),
        headers: reply.headers().clone(),
        text: String::from_utf8_lossy(&bytes).into_owned(),
        bytes,
        chunks: reply.chunks().count(),
        delay: reply.delay(),
        is_cut: reply.is_cut(),
    }
}

/// GET with exactly these headers.
pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Answered {
    send(&upstream(), Method::GET, path, headers, Vec::new())
}

/// POST of JSON with the key where the path's provider expects it.
pub(crate) fn post(path: &str, body: &Value) -> Answered {
    post_with(path, &[], body)
}

/// The same with more headers.
pub(crate) fn post_with(path: &str, headers: &[(&str, &str)], body: &Value) -> Answered {
    let bearer = format!("Bearer {KEY}");
    let credential = credential(path, &bearer);
    let headers = [&[credential, ("content-type", "application/json")], headers].concat();
    send(&upstream(), Method::POST, path, &headers, body.to_string().into_bytes())
}

/// POST of a form; a value that starts with `@` is the name of a file, whose content is `file`.
pub(crate) fn post_form(path: &str, fields: &[(&str, &str)], file: &[u8]) -> Answered {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"").bytes());
        match value.strip_prefix('@') {
            Some(file_name) => {
                body.extend(format!("; filename=\"{file_name}\"\r\n\r\n").bytes());
                body.extend(file);
            }
            None => body.extend(format!("\r\n\r\n{value}").bytes()),
        }
        body.extend(b"\r\n");
    }
    body.extend(b"--X--\r\n");
    let bearer = format!("Bearer {KEY}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "multipart/form-data; boundary=X")];
    send(&upstream(), Method::POST, path, &headers, body)
}

/// Where the provider at `path` expects its key.
pub(crate) fn credential<'a>(path: &str, bearer: &'a str) -> (&'static str, &'a str) {
    let key = bearer.strip_prefix("Bearer ").unwrap();
    match path {
        path if path.starts_with("/openai/") => ("api-key", key),
        path if path.starts_with("/v1beta/openai/") || path.contains("/publishers/") => ("authorization", bearer),
        path if path.starts_with("/v1beta") || path.starts_with("/v1/models/") => ("x-goog-api-key", key),
        path if path.contains("/v1/messages") => ("x-api-key", key),
        _ => ("authorization", bearer),
    }
}

//! A small ledger with made-up calls, and an admin API over it.

use std::path::PathBuf;
use std::sync::Arc;

use aiproxy_admin::{About, Admin, Channel, Live, Paths, User};
use aiproxy_core::id::RecordId;
use aiproxy_core::tasks::Tasks;
use aiproxy_ledger::live::Totals;
use aiproxy_ledger::{Batch, Bodies, Body, Entry, Sink as _};
use aiproxy_llm::usage::Usage;
use aiproxy_store::query::Query;
use aiproxy_store::{Limits, Options, SqlSink, Store};
use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

pub(crate) const START: &str = "2026-01-20T05:00:00Z";
pub(crate) const END: &str = "2026-02-03T19:30:00Z";

/// An admin API whose files go away with it.
pub(crate) struct Served {
    pub(crate) admin: Admin,
    pub(crate) entries: Vec<Entry<'static>>,
    pub(crate) directory: PathBuf,
    tasks: Tasks,
}

struct Made;

impl Live for Made {
    fn totals(&self) -> Totals {
        Totals::default()
    }

    fn about(&self) -> About {
        let channel = Channel { name: "OpenAI".into(), status: "active".into() };
        About {
            version: "0.1.0".into(),
            channels: [("openai".into(), channel)].into(),
            users: [("zhangsan".into(), User { name: "张三".into() })].into(),
            currency: "CNY".into(),
            ..About::default()
        }
    }
}

impl Served {
    /// Over a ledger of `count` calls.
    pub(crate) async fn with_calls(count: usize) -> Self {
        let directory = directory();
        let options = Options::sqlite(&directory.join("aiproxy.db"));
        let entries = calls(count);
        let mut sink = SqlSink::new(&options, "test", TimeZone::UTC, Limits::default()).unwrap();
        let mut batch = Batch::at(sink.resume().await.unwrap().unwrap_or_default());
        for entry in &entries {
            batch.push_record(entry);
        }
        if let Some(first) = entries.first() {
            let body = Body { content_type: "text/plain", form: "text", content: "hi", bytes: 2, ..Body::default() };
            batch.push_bodies(&Bodies { id: first.id, request: Some(body), ..Bodies::default() });
        }
        sink.write(&batch).await.unwrap();
        let query = Query::new(Store::connect(&options).await.unwrap(), TimeZone::UTC);
        Self::over(Some(query), entries, directory)
    }

    /// Over a database that cannot be opened.
    pub(crate) fn without_database() -> Self {
        let directory = directory();
        let options = Options::sqlite(&directory.join("no such directory/aiproxy.db"));
        let query = Query::new(Store::new(&options).unwrap(), TimeZone::UTC);
        Self::over(Some(query), Vec::new(), directory)
    }

    /// Without any database.
    pub(crate) fn without_ledger() -> Self {
        Self::over(None, Vec::new(), directory())
    }

    fn over(query: Option<Query>, entries: Vec<Entry<'static>>, directory: PathBuf) -> Self {
        let tasks = Tasks::new();
        let paths = Paths { temporary: directory.clone() };
        let admin = Admin::new(query, Arc::new(Made), tasks.clone(), paths);
        Self { admin, entries, directory, tasks }
    }

    pub(crate) async fn get(&self, path: &str) -> Response<Bytes> {
        self.send("GET", path).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
        let (head, body) = self.admin.answer(request).await.into_parts();
        assert!(head.headers.get("access-control-allow-origin").is_none());
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    /// The JSON of an answer that is 200.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        let text = String::from_utf8_lossy(response.body()).into_owned();
        assert_eq!(response.status(), StatusCode::OK, "{path}: {text}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// Status, code and parameter of a refusal.
    pub(crate) async fn refusal(&self, path: &str) -> (u16, String, String) {
        let response = self.get(path).await;
        let error: Value = serde_json::from_slice(response.body()).unwrap();
        let text = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
        assert!(!text("message").is_empty(), "{error}");
        (response.status().as_u16(), text("code"), text("parameter"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.stop();
        std::fs::remove_dir_all(&self.directory).unwrap_or_default();
    }
}

fn directory() -> PathBuf {
    let directory = std::env::temp_dir().join(format!("aiproxy-admin-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

pub(crate) fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn calls(count: usize) -> Vec<Entry<'static>> {
    let mut random = Rng::with_seed(5);
    let mut call = || {
        let started = random.i64(ms(START)..ms(END));
        let id = RecordId::new(started as u64, std::array::from_fn(|_| random.u8(..))).to_string();
        let (status, error_code) = [(200, None), (200, None), (504, Some("upstream_timeout"))][random.usize(..3)];
        let usage = Usage { input: Some(random.u64(..9000)), seconds_ms: Some(1500), ..Usage::default() };
        Entry {
            id: id.parse::<uuid::Uuid>().unwrap().into_bytes(),
            started_unix_ms: started as u64,
            duration_us: random.u64(1..9_000_000),
            first_byte_us: (status == 200).then_some(1234),
            user_id: Some(["zhangsan", "=cmd|' /C calc'!A0", "o\"brien, jr"][random.usize(..3)]),
            key_id: Some("k1"),
            client_ip: "127.0.0.1",
            method: "POST",
            path: "/v1/chat/completions",
            endpoint: "/v1/chat/completions",
            dialect: "openai",
            protocol: "http",
            channel_id: Some(["openai", "aliyun"][random.usize(..2)]),
            credential_id: Some("1"),
            model_asked: Some("gpt-4o"),
            model_served: Some("gpt-4o").filter(|_| status == 200),
            status,
            error_code,
            end: "complete",
            request_bytes: random.u64(..5000),
            response_bytes: random.u64(..5000),
            usage: Some(usage).filter(|_| status == 200),
            usage_source: if status == 200 { "provider" } else { "none" },
            cost: Some(random.i64(..).rem_euclid(9000)).filter(|_| status == 200),
            price_version: Some("2026-01").filter(|_| status == 200),
            cache: "off",
            counted: true,
            ..Entry::default()
        }
    };
    (0..count).map(|_| call()).collect()
}

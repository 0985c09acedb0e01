//! `aiproxy demo`: the gateway with a built-in upstream behind it, so that everything can be tried at once.
//!
//! It writes an ordinary config into the data directory and serves that: what a new user sees there is what a real
//! setup looks like, and editing it shows a reload.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use aiproxy_demo::Options;
use anyhow::Context;
use serde_json::json;
use tokio::net::TcpListener;

use crate::cli::{Demo, DemoUpstream, Output, Serve};
use crate::output;
use crate::serve::{self, Listening};

/// Dialects with a channel and a key of their own.
const KINDS: [&str; 4] = ["openai", "anthropic", "gemini", "dashscope"];

/// `aiproxy demo`.
pub(crate) fn run(options: Demo) -> anyhow::Result<ExitCode> {
    let directory = DemoDirectory::make(options.data)?;
    let upstream = Options { pace: options.pace, ..Options::demo() };
    let upstream_key = upstream.api_key.clone();
    let upstream_address = start_upstream(upstream)?;
    let keys = Keys::new();
    let config = directory.path.join("aiproxy.yaml");
    fs::write(&config, config_text(&keys, upstream_address, &upstream_key))
        .with_context(|| format!("{} cannot be written", config.display()))?;
    let serve = Serve { config, listen: vec![options.listen], workers: None, output: options.output };
    let data = directory.path.clone();
    serve::run_with(serve, |listening| match options.output {
        Output::Json => output::line(&machine_readable(listening, &keys, upstream_address, &data).to_string()),
        Output::Text => output::line(&welcome(listening, &keys, &data)),
    })
}

/// `aiproxy demo-upstream`: until the process is ended.
pub(crate) fn run_upstream(options: DemoUpstream) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(options.listen).await.context("cannot listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        match options.output {
            Output::Json => output::line(&json!({ "upstream_url": url }).to_string())?,
            Output::Text => output::note(&format!("The demo upstream listens on {url}")),
        }
        let upstream = Options { api_key: options.api_key, pace: options.pace };
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        aiproxy_demo::serve(listener, upstream, stop).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs the upstream on a thread of its own for as long as the process lives.
fn start_upstream(options: Options) -> anyhow::Result<SocketAddr> {
    let (tell, told) = mpsc::sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("demo-upstream".into()).spawn(move || {
        runtime.block_on(async {
            match TcpListener::bind(("127.0.0.1", 0)).await {
                Ok(listener) => {
                    // The receiver waits below; it is gone only when the start was given up.
                    tell.send(listener.local_addr()).ok();
                    aiproxy_demo::serve(listener, options, std::future::pending::<()>()).await;
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
    })?;
    let address = told.recv_timeout(Duration::from_secs(10)).context("the demo upstream did not start")?;
    address.context("the demo upstream cannot listen")
}

/// The proxy keys of one demo.
struct Keys {
    all: String,
    by_kind: Vec<(&'static str, String)>,
}

impl Keys {
    fn new() -> Self {
        let random = || uuid::Uuid::new_v4().simple().to_string();
        Self {
            all: format!("pk-demo-{}", random()),
            by_kind: KINDS.iter().map(|kind| (*kind, format!("pk-demo-{kind}-{}", random()))).collect(),
        }
    }
}

fn config_text(keys: &Keys, upstream: SocketAddr, upstream_key: &str) -> String {
    let mut text = String::from(
        "# Written by 'aiproxy demo'. Change it while the demo runs: set a status to disabled and call again.\n\
         users:\n",
    );
    text.push_str(&format!(
        "  demo:\n    name: Demo\n    department: Demo\n    status: active\n    proxy_key: {}\n    channels: [{}]\n",
        keys.all,
        KINDS.join(", ")
    ));
    for (kind, key) in &keys.by_kind {
        text.push_str(&format!("  demo-{kind}:\n    status: active\n    proxy_key: {key}\n    channels: [{kind}]\n"));
    }
    text.push_str("channels:\n");
    for (priority, kind) in KINDS.iter().enumerate() {
        text.push_str(&format!(
            "  {kind}:\n    name: Demo upstream as {kind}\n    kind: {kind}\n    status: active\n    \
             base_url: http://{upstream}\n    api_key: {upstream_key}\n    priority: {priority}\n    \
             health: off  # this upstream fails on request; leave it on for a real one\n"
        ));
    }
    text.push_str("system:\n  data_dir: .\n  log:\n    console: true\n    file: records.jsonl\n");
    text
}

fn machine_readable(listening: &Listening, keys: &Keys, upstream: SocketAddr, data: &Path) -> serde_json::Value {
    let by_kind: serde_json::Map<String, serde_json::Value> =
        keys.by_kind.iter().map(|(kind, key)| ((*kind).to_string(), json!(key))).collect();
    json!({
        "base_url": listening.base_url,
        "proxy_key": keys.all,
        "admin_url": listening.admin_url,
        "admin_token": listening.new_admin_token,
        "proxy_keys": by_kind,
        "upstream_url": format!("http://{upstream}"),
        "config": data.join("aiproxy.yaml"),
        "records": data.join("records.jsonl"),
    })
}

fn welcome(listening: &Listening, keys: &Keys, data: &Path) -> String {
    let base = &listening.base_url;
    let key = &keys.all;
    let admin =
        listening.new_admin_token.as_deref().unwrap_or("(made at the first start, or from AIPROXY_ADMIN_TOKEN)");
    format!(
        r#"
AIProxy demo: a gateway and a built-in upstream. No provider key is needed.

  base URL     {base}
  proxy key    {key}
  admin API    {admin_url}/status
  admin token  {admin}
  config       {config}

Paste one of these:

curl {base}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" -d '{{"model":"demo-chat","messages":[{{"role":"user","content":"Hello"}}]}}'

curl -N {base}/v1/messages -H "x-api-key: {key}" -H "anthropic-version: 2023-06-01" -H "Content-Type: application/json" -d '{{"model":"demo-chat","max_tokens":100,"stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'

Python:

from openai import OpenAI
client = OpenAI(base_url="{base}/v1", api_key="{key}")
print(client.chat.completions.create(model="demo-chat", messages=[{{"role": "user", "content": "Hello"}}]).choices[0].message.content)

Each call is one line below. Stop with Ctrl-C.
"#,
        admin_url = listening.admin_url,
        config = data.join("aiproxy.yaml").display(),
    )
}

/// Where a demo keeps its files; a directory made here is removed at the end.
struct DemoDirectory {
    path: PathBuf,
    temporary: bool,
}

impl DemoDirectory {
    fn make(wanted: Option<PathBuf>) -> anyhow::Result<Self> {
        let temporary = wanted.is_none();
        let path = wanted.unwrap_or_else(temporary_path);
        fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self { path: fs::canonicalize(path)?, temporary })
    }
}

impl Drop for DemoDirectory {
    fn drop(&mut self) {
        if self.temporary {
            fs::remove_dir_all(&self.path).ok();
        }
    }
}

fn temporary_path() -> PathBuf {
    std::env::temp_dir().join(format!("aiproxy-demo-{}", std::process::id()))
}

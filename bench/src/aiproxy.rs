//! AIProxy under test: the same 10,000 keys and one channel as nginx has, records to a file.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::payload;
use crate::process::{Proxy, TempDir, free_address};
use crate::subject::Backend;

pub(crate) async fn start(binary: &Path, backend: &Backend<'_>, core: usize) -> Result<Proxy> {
    ensure!(binary.exists(), "{} is missing: cargo build --release -p aiproxy", binary.display());
    let binary = fs::canonicalize(binary)?.display().to_string();
    let directory = TempDir::create()?;
    let address = free_address()?;
    fs::write(directory.path().join("bench.yaml"), config(backend, address, directory.path()))?;
    let command = [&binary, "serve", "-c", "bench.yaml", "--workers", "1"].map(str::to_owned);
    Proxy::start(&command, core, address, directory).await.context("aiproxy")
}

fn config(backend: &Backend<'_>, listen: SocketAddr, directory: &Path) -> String {
    let directory = directory.display();
    let mut text = String::from("users:\n");
    for user in 0..payload::USERS {
        let (id, key) = (payload::user_id(user), payload::proxy_key(user));
        writeln!(text, "  {id}: {{name: \"{id}\", proxy_key: \"{key}\", status: active, channels: [upstream]}}").ok();
    }
    let (scheme, tls) = match backend.ca_file {
        Some(ca_file) => ("https", format!("    tls: {{ca_file: \"{}\"}}\n", ca_file.display())),
        None => ("http", String::new()),
    };
    write!(
        text,
        "channels:\n  upstream:\n    name: upstream\n    kind: openai\n    status: active\n    api_key: \"{}\"\n    \
         base_url: \"{scheme}://{}\"\n{tls}system:\n  listen: \"{listen}\"\n  data_dir: \"{directory}/data\"\n  \
         log_level: warn\n  max_connections: 12000\n  \
         log: {{console: false, file: {{path: \"{directory}/records.jsonl\"}}}}\n",
        payload::REAL_KEY,
        backend.upstream,
    )
    .ok();
    text
}

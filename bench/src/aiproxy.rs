//! AIProxy under test: its config, with as many keys and channels as a workload wants, records to a file.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::channels::Channels;
use crate::payload;
use crate::process::{Proxy, TempDir, free_address};
use crate::subject::Backend;

/// For the admin paths.
pub(crate) const ADMIN_TOKEN: &str = "bench-admin-token-0123456789";
/// Where the config is, in the directory of the proxy. What it is started with is a link to this: changes here give no
/// notice, and a reload happens when it is asked for, once.
pub(crate) const CONFIG: &str = "store/bench.yaml";

/// What is in the config.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) users: usize,
    pub(crate) channels: Channels,
}

pub(crate) async fn start(binary: &Path, backend: &Backend<'_>, layout: Layout, core: usize) -> Result<Proxy> {
    ensure!(binary.exists(), "{} is missing: cargo build --release -p aiproxy", binary.display());
    let binary = fs::canonicalize(binary)?.display().to_string();
    let directory = TempDir::create()?;
    let address = free_address()?;
    fs::create_dir(directory.path().join("store"))?;
    fs::write(directory.path().join(CONFIG), config(backend, layout, address, directory.path()))?;
    symlink(CONFIG, directory.path().join("bench.yaml"))?;
    let command = [&binary, "serve", "-c", "bench.yaml", "--workers", "1"].map(str::to_owned);
    Proxy::start(&command, core, address, directory).await.context("aiproxy")
}

fn config(backend: &Backend<'_>, layout: Layout, listen: SocketAddr, directory: &Path) -> String {
    let directory = directory.display();
    let mut text = String::from("users:\n");
    for user in 0..layout.users {
        let (id, key) = (payload::user_id(user), payload::proxy_key(user));
        let rules = layout.channels.user(&id, &key);
        writeln!(text, "  {id}: {{name: \"{id}\", status: active, {rules}}}").ok();
    }
    let (scheme, tls) = match backend.ca_file {
        Some(ca_file) => ("https", format!("    tls: {{ca_file: \"{}\"}}\n", ca_file.display())),
        None => ("http", String::new()),
    };
    let channels = layout.channels.channels(&format!("{scheme}://{}", backend.upstream), &tls);
    let rates = layout.channels.rates();
    write!(
        text,
        "channels:\n{channels}system:\n  listen: \"{listen}\"\n  admin: {{token: \"{ADMIN_TOKEN}\"}}\n  \
         data_dir: \"{directory}/data\"\n  log_level: warn\n  max_connections: 12000\n{rates}  \
         log: {{console: false, file: {{path: \"{directory}/records.jsonl\"}}}}\n"
    )
    .ok();
    text
}

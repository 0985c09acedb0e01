//! Who is measured, and the self-check each must pass before its numbers count.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::caller::{self, Target};
use crate::payload::{self, Request};
use crate::workload::Spec;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    /// No proxy: the load generator calls the upstream. What the proxies' latency is compared with.
    Direct,
    Nginx,
    Aiproxy,
    /// AIProxy with three channels, limits on everything and failover.
    ThreeChannels,
    /// AIProxy that reads its config again and again.
    Reloading,
    /// AIProxy's decisions alone, in this process, with this many credentials to choose from.
    OneCredential,
    FiftyCredentials,
    /// The same for calls of a conversation that stays with one credential.
    Affinity,
}

impl Subject {
    /// All, in the order of the table.
    pub(crate) const ALL: [Self; 8] = [
        Self::Direct,
        Self::Nginx,
        Self::OneCredential,
        Self::Aiproxy,
        Self::ThreeChannels,
        Self::Reloading,
        Self::FiftyCredentials,
        Self::Affinity,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Aiproxy => "aiproxy",
            Self::ThreeChannels => "three-channels",
            Self::Reloading => "reloading",
            Self::OneCredential => "one-credential",
            Self::FiftyCredentials => "fifty-credentials",
            Self::Affinity => "affinity",
        }
    }
}

/// What a proxy is put in front of.
pub(crate) struct Backend<'a> {
    pub(crate) upstream: SocketAddr,
    /// Set if the upstream speaks TLS.
    pub(crate) ca_file: Option<&'a Path>,
    pub(crate) streaming: bool,
    /// How many sockets will be open at a time; 0 if calls are no sockets.
    pub(crate) sockets: usize,
}

/// Keys of each kind, made once for all runs.
pub(crate) struct Keys {
    proxy: Arc<Vec<String>>,
    many: Arc<Vec<String>>,
    real: Arc<Vec<String>>,
}

impl Keys {
    pub(crate) fn new() -> Self {
        // The first of many users is the one whose key is changed by reloads.
        let many = (1..payload::MANY_USERS).map(payload::proxy_key).collect();
        Self { proxy: caller::proxy_keys(), many: Arc::new(many), real: Arc::new(vec![payload::REAL_KEY.to_owned()]) }
    }

    /// The keys that calls of this subject have.
    pub(crate) fn of(&self, spec: &Spec, subject: Subject) -> Arc<Vec<String>> {
        Arc::clone(match subject {
            Subject::Direct => &self.real,
            _ if spec.users > payload::USERS => &self.many,
            _ => &self.proxy,
        })
    }
}

/// An unknown key is refused in JSON; a known one gets the upstream's answer, whole and unchanged.
pub(crate) async fn self_check(spec: &Spec, target: &Target) -> Result<()> {
    let unknown = Request::new(&payload::unknown_key(), &target.body);
    let refused = caller::once(target.address, &unknown.bytes).await?;
    ensure!(refused.status == 401, "unknown key: status {} instead of 401", refused.status);
    let body: Value =
        serde_json::from_slice(refused.body.as_deref().unwrap_or_default()).context("unknown key: body is not JSON")?;
    ensure!(body.get("error").is_some(), "unknown key: no error object in {body}");

    let known = target.keys.last().context("keys")?;
    let answer = caller::once(target.address, &Request::new(known, &target.body).bytes).await?;
    let body = answer.body.as_deref().unwrap_or_default();
    ensure!(answer.status == 200, "known key: status {}: {}", answer.status, String::from_utf8_lossy(body));
    target.expected.verify(&answer)?;
    match spec.chunks() {
        None => ensure!(body == payload::answer(), "the answer was changed: {}", String::from_utf8_lossy(body)),
        Some(chunks) => {
            let expected: String = (0..chunks).map(payload::word).collect();
            let found = stream_content(body)?;
            ensure!(found == expected, "the stream's content was changed: {found:?}");
        }
    }
    Ok(())
}

/// The text of all chunks of a streamed chat.
fn stream_content(body: &[u8]) -> Result<String> {
    let mut content = String::new();
    for event in std::str::from_utf8(body)?.split_terminator("\n\n") {
        let data = event.strip_prefix("data: ").with_context(|| format!("not an event: {event:?}"))?;
        if data == "[DONE]" {
            continue;
        }
        let chunk: Value = serde_json::from_str(data)?;
        content += chunk.pointer("/choices/0/delta/content").and_then(Value::as_str).unwrap_or_default();
    }
    Ok(content)
}

//! Active health checks: asking unasked whether a channel is there. They cost nothing: a connection is opened, or the
//! list of models is asked for; never a completion.
//!
//! Runs beside the data plane and meets it only in the breakers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_config::snapshot::{Channel, Kind, Probe, ProbeKind, Status, Timeouts};
use aiproxy_core::tasks::Tasks;
use aiproxy_core::time::{self, Instant};
use aiproxy_llm::dialect::Dialect;
use http::{HeaderMap, HeaderValue, Method};
use tokio::sync::mpsc;

use crate::health::Breaker;
use crate::request_head::{BodyFraming, RequestHead};
use crate::serving::Serving;
use crate::state::Gateway;
use crate::timer::CallTimer;
use crate::upstream::exchange::exchange;
use crate::upstream::pool::Connection;
use crate::upstream_path::upstream_path;

/// How often it is looked whether a check is due.
const TICK: Duration = Duration::from_millis(500);
/// Results waiting to be counted; checks beyond that wait.
const RESULTS: usize = 64;
/// The version of its API that Anthropic's list of models is asked for.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// Checks all channels that ask for it, until `tasks` is stopped. The checks run as members of `tasks`, too.
pub async fn run(gateway: Arc<Gateway>, tasks: Tasks) {
    let (results, mut finished) = mpsc::channel(RESULTS);
    let mut due: HashMap<Box<str>, Instant> = HashMap::new();
    let mut streaks: HashMap<Subject, Streak> = HashMap::new();
    loop {
        tokio::select! {
            () = tasks.stopped() => return,
            Some(result) = finished.recv() => count(&gateway, &mut streaks, result),
            () = tokio::time::sleep(TICK) => {
                let serving = gateway.snapshot();
                start_due(&gateway, &serving, &tasks, &mut due, &results);
                let is_known = |subject: &Subject| serving.channel_by_id.contains_key(&subject.channel);
                streaks.retain(|subject, _| is_known(subject));
                due.retain(|channel, _| serving.channel_by_id.contains_key(channel));
            }
        }
    }
}

/// What is checked: an endpoint or a credential, by its index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    channel: Box<str>,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Endpoint(usize),
    Credential(usize),
}

/// One check's result: `Err` says why it failed.
struct Checked {
    serving: Arc<Serving>,
    channel: usize,
    part: Part,
    result: Result<(), String>,
}

/// Results in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    failures: u32,
    successes: u32,
    is_down: bool,
}

fn probe_of(channel: &Channel) -> Option<&Probe> {
    channel.health.as_ref()?.probe.as_ref().filter(|_| channel.status == Status::Active)
}

fn start_due(
    gateway: &Arc<Gateway>,
    serving: &Arc<Serving>,
    tasks: &Tasks,
    due: &mut HashMap<Box<str>, Instant>,
    results: &mpsc::Sender<Checked>,
) {
    let now = time::now();
    for (index, channel) in serving.channels.iter().enumerate() {
        let Some(probe) = probe_of(channel) else { continue };
        let next = due.entry(channel.id.clone()).or_insert(now);
        if *next > now {
            continue;
        }
        *next = now + probe.interval;
        let parts: Vec<Part> = match probe.kind {
            ProbeKind::Connect => (0..channel.endpoints.len()).map(Part::Endpoint).collect(),
            ProbeKind::Models => (channel.credentials.iter().enumerate())
                .filter(|(_, credential)| credential.status == Status::Active)
                .map(|(index, _)| Part::Credential(index))
                .collect(),
        };
        let (gateway, serving, results, timeout) = (gateway.clone(), serving.clone(), results.clone(), probe.timeout);
        tasks.spawn(async move {
            for part in parts {
                let check = check(&gateway, &serving.channels[index], part, timeout);
                let result = tokio::time::timeout(timeout, check).await;
                let result = result.unwrap_or_else(|_| Err("no answer in time".into()));
                // A gateway that stops has no more use for it.
                results.send(Checked { serving: serving.clone(), channel: index, part, result }).await.ok();
            }
        });
    }
}

async fn check(gateway: &Gateway, channel: &Channel, part: Part, timeout: Duration) -> Result<(), String> {
    let (endpoint, credential) = match part {
        Part::Endpoint(index) => (&channel.endpoints[index], None),
        Part::Credential(index) => (&channel.endpoints[0], Some(&channel.credentials[index])),
    };
    let io = gateway.dialer().dial(endpoint).await.map_err(|failure| failure.to_string())?;
    let Some(credential) = credential else { return Ok(()) };
    let (dialect, path) = match channel.kind {
        Kind::Anthropic => (Dialect::Anthropic, "/v1/models"),
        Kind::Gemini => (Dialect::Gemini, "/v1beta/models"),
        _ => (Dialect::Openai, "/v1/models"),
    };
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("application/json"));
    if dialect == Dialect::Anthropic {
        headers.insert("anthropic-version", ANTHROPIC_VERSION);
    }
    let path = upstream_path(channel, endpoint, dialect, path);
    let method = &Method::GET;
    let framing = BodyFraming::None;
    let head = RequestHead {
        method,
        path: &path,
        query: None,
        headers: &headers,
        dialect,
        framing,
        identity: true,
        upgrade: None,
    };
    let request = [head.write(channel, credential, endpoint)];
    let mut timer = CallTimer::new(Timeouts { first_byte: timeout, ..channel.timeouts }, time::now());
    let mut connection = Connection::new(io, endpoint.pool_key);
    let answer = exchange(&mut connection, method, &request, None, &mut timer).await;
    let status = answer.map_err(|error| error.failure.to_string())?.head.status.as_u16();
    // Not every provider has such a list; whoever says 404 is there. 429 is there as well, and busy.
    match status {
        401 | 403 | 500.. => Err(format!("status {status}")),
        _ => Ok(()),
    }
}

/// Opens or closes a breaker once there were enough results of one kind in a row.
fn count(gateway: &Gateway, streaks: &mut HashMap<Subject, Streak>, checked: Checked) {
    let Checked { serving, channel: index, part, result } = checked;
    let channel = &serving.channels[index];
    let Some(probe) = probe_of(channel) else { return };
    let health = &serving.health.channels[index];
    let breaker: &Breaker = match part {
        Part::Endpoint(endpoint) => &health.endpoints[endpoint],
        Part::Credential(credential) => &health.credentials[credential].breaker,
    };
    let name = match part {
        Part::Endpoint(endpoint) => &channel.endpoints[endpoint].authority,
        Part::Credential(credential) => &channel.credentials[credential].id,
    };
    let streak = streaks.entry(Subject { channel: channel.id.clone(), part }).or_default();
    match result {
        Ok(()) => {
            streak.failures = 0;
            streak.successes = streak.successes.saturating_add(1);
            if streak.is_down && streak.successes >= probe.successes {
                streak.is_down = false;
                breaker.reset();
                tracing::info!(channel.id = %channel.id, part = %name, "the health check passes again");
            }
        }
        Err(why) => {
            streak.successes = 0;
            streak.failures = streak.failures.saturating_add(1);
            if streak.failures >= probe.failures {
                if !std::mem::replace(&mut streak.is_down, true) {
                    tracing::warn!(channel.id = %channel.id, part = %name, why, "the health check fails");
                }
                // Until the next but one result: if there are no more checks, live calls find out.
                breaker.open_for(gateway.now_ms(), (probe.interval + probe.timeout) * 2);
            }
        }
    }
}

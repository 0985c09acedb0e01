//! One round of one workload with one subject: start it afresh, check it, warm it up, measure it, end it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::aiproxy::Layout;
use crate::caller::Target;
use crate::channels::Channels;
use crate::load::{self, Outcome};
use crate::measure::Cpu;
use crate::process::{Proxy, TempDir};
use crate::subject::{Backend, Keys, Subject, self_check};
use crate::tls::Authority;
use crate::upstream::{Answers, Upstream};
use crate::workload::{Shape, Spec};
use crate::{aiproxy, many_keys, measure, nginx, planning, socket};

/// After the last answer: time for what a proxy still does for it, such as the log.
pub(crate) const SETTLE: Duration = Duration::from_millis(150);

/// What does not change between runs.
pub(crate) struct Setup {
    pub(crate) aiproxy: PathBuf,
    pub(crate) proxy_core: usize,
    pub(crate) keys: Keys,
}

/// What one run measured. Microseconds, KiB and megabytes; absent is what makes no sense for this subject or workload.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) subject: Option<Subject>,
    /// The value that is compared, in the workload's unit.
    pub(crate) value: Option<f64>,
    pub(crate) per_second: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// Share of its core that the proxy used while it was measured.
    pub(crate) busy: Option<f64>,
    /// Share of the time in which it was ready to run but something else had its core.
    pub(crate) disturbed: Option<f64>,
    pub(crate) rss_mb: Option<f64>,
    pub(crate) pss_mb: Option<f64>,
    pub(crate) open_streams: Option<u64>,
    pub(crate) stream_kib: Option<f64>,
    /// From the signal until the new config is in force: median of those without load, and of those under it.
    pub(crate) reload_ms: Option<f64>,
    pub(crate) loaded_reload_ms: Option<f64>,
    /// Reloads while calls were measured.
    pub(crate) loaded_reloads: Option<usize>,
}

pub(crate) async fn measure(setup: &Setup, spec: &Spec, subject: Subject) -> Result<Sample> {
    if let Shape::Planning { warm_up, calls } = spec.shape {
        return tokio::task::spawn_blocking(move || planning::measure(subject, warm_up, calls)).await?;
    }
    let body = Arc::new(spec.prompt.body());
    let scratch = TempDir::create()?;
    // The load generator speaks no TLS: calls without a proxy go to a plain upstream.
    let tls = spec.tls && subject != Subject::Direct;
    let authority = if tls { Some(Authority::create(scratch.path())?) } else { None };
    let request_bytes = (spec.answers == Answers::Json).then_some(body.len() as u64);
    let acceptor = authority.as_ref().map(|authority| authority.acceptor.clone());
    let layout = Layout { users: spec.users, channels: Channels::of(subject) };
    let upstream = Upstream::start(spec.answers, &layout.channels.real_keys(), request_bytes, acceptor).await?;
    let backend = Backend {
        upstream: upstream.address,
        ca_file: authority.as_ref().map(|authority| authority.ca_file.as_path()),
        streaming: spec.chunks().is_some(),
        sockets: spec.sockets(),
    };
    let proxy = match subject {
        Subject::Direct => None,
        Subject::Nginx => Some(nginx::start(&backend, setup.proxy_core).await?),
        _ => Some(aiproxy::start(&setup.aiproxy, &backend, layout, setup.proxy_core).await?),
    };
    let target = Target {
        address: proxy.as_ref().map_or(upstream.address, |proxy| proxy.address),
        body,
        keys: setup.keys.of(spec, subject),
        expected: spec.expected(),
    };
    let run = async {
        if let Shape::Idle { seconds } = spec.shape {
            return idle(proxy.as_ref().context("a proxy")?, seconds).await;
        }
        if let Some(talk) = spec.talk() {
            return socket::run::measure(spec, talk, subject, &target, proxy.as_ref()).await;
        }
        if proxy.is_some() {
            self_check(spec, &target).await.context("self-check")?;
        }
        if let (Shape::Reloads { .. }, Some(proxy)) = (spec.shape, &proxy) {
            return many_keys::measure(spec, subject, &target, proxy).await;
        }
        let sample = loaded(spec, &target, proxy.as_ref()).await?;
        layout.channels.verify_shares(&upstream.calls_of_keys())?;
        Ok(sample)
    };
    run.await.with_context(|| proxy.as_ref().map(Proxy::output).unwrap_or_default())
}

async fn idle(proxy: &Proxy, seconds: u64) -> Result<Sample> {
    // What was needed only to load the configuration has been given back by then.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let pids = proxy.pids();
    let before = Cpu::of(&pids)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let busy = Cpu::of(&pids)?.since(before).ran as f64 / 1e9;
    let mut sample = memory(&pids)?;
    sample.value = sample.rss_mb;
    sample.busy = Some(busy);
    Ok(sample)
}

pub(crate) fn memory(pids: &[u32]) -> Result<Sample> {
    let megabytes = |kib: u64| kib as f64 * 1024.0 / 1e6;
    Ok(Sample {
        rss_mb: Some(megabytes(measure::rss_kib(pids)?)),
        // Not every kernel tells.
        pss_mb: measure::pss_kib(pids).ok().map(megabytes),
        ..Sample::default()
    })
}

async fn loaded(spec: &Spec, target: &Target, proxy: Option<&Proxy>) -> Result<Sample> {
    let pids = proxy.map(Proxy::pids).unwrap_or_default();
    let mut peak = Peak::default();
    let (before, mut outcome) = match spec.shape {
        Shape::Closed { connections, warm_up, calls } => {
            let mut connections = load::connections(target, connections);
            load::closed_loop(&mut connections, warm_up).await.context("warm-up")?;
            (Cpu::of(&pids)?, load::closed_loop(&mut connections, calls).await?)
        }
        Shape::Rate { connections, warm_up, calls, per_second }
        | Shape::Reloads { connections, warm_up, calls, per_second, .. } => {
            load::warm_up(target, connections, warm_up).await?;
            (Cpu::of(&pids)?, load::in_background(target, connections, calls, per_second).await?)
        }
        Shape::Streams { count, warm_up } => {
            load::streams(target, warm_up, |_| {}).await.context("warm-up")?;
            tokio::time::sleep(SETTLE).await;
            let (idle, before) = (measure::rss_kib(&pids)?, Cpu::of(&pids)?);
            let outcome = load::streams(target, count, |open| peak.note(open, idle, &pids)).await?;
            (before, outcome)
        }
        // These are measured elsewhere.
        Shape::Idle { .. }
        | Shape::Planning { .. }
        | Shape::Sockets { .. }
        | Shape::SocketRate { .. }
        | Shape::IdleSockets { .. } => return Ok(Sample::default()),
    };
    tokio::time::sleep(SETTLE).await;
    let spent = Cpu::of(&pids)?.since(before);
    let mut sample = if proxy.is_some() { memory(&pids)? } else { Sample::default() };
    summarise(&mut sample, spec, &mut outcome, proxy.map(|_| spent));
    if let Shape::Streams { .. } = spec.shape {
        sample.open_streams = Some(peak.open);
        sample.stream_kib = proxy.map(|_| peak.growth_kib as f64 / peak.open.max(1) as f64);
    }
    Ok(sample)
}

pub(crate) fn summarise(sample: &mut Sample, spec: &Spec, outcome: &mut Outcome, spent: Option<Cpu>) {
    let units = if spec.counts_events() { outcome.events } else { outcome.calls } as f64;
    let micros = |nanos: u64| nanos as f64 / 1e3;
    sample.value = spent.map(|spent| micros(spent.ran) / units);
    sample.busy = spent.map(|spent| spent.ran as f64 / 1e9 / outcome.seconds);
    sample.disturbed = spent.map(|spent| spent.waited as f64 / 1e9 / outcome.seconds);
    sample.per_second = Some(units / outcome.seconds);
    sample.p50_us = Some(micros(measure::quantile(&mut outcome.latencies, 0.5)));
    sample.p99_us = Some(micros(measure::quantile(&mut outcome.latencies, 0.99)));
}

/// Memory at the moment when most streams were open.
#[derive(Default)]
struct Peak {
    open: u64,
    growth_kib: u64,
}

impl Peak {
    fn note(&mut self, open: u64, idle_kib: u64, pids: &[u32]) {
        if open < self.open || open == 0 {
            return;
        }
        // The largest of those with equally many open: memory that is needed at all counts.
        let growth = measure::rss_kib(pids).unwrap_or_default().saturating_sub(idle_kib);
        self.growth_kib = if open > self.open { growth } else { self.growth_kib.max(growth) };
        self.open = open;
    }
}

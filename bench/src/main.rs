//! `make bench`: AIProxy against Debian's nginx with Lua, doing the same key swap, in turns, in one run.
//!
//! The proxy under test has one core and one worker; the upstream and the load generator share the other core. What
//! counts is the processor time that a proxy spends for one call or event, as a ratio within each round. The speed is
//! reported, never a reason to fail; a wrong answer is. How to read the result: `bench/README.md`.
#![expect(clippy::disallowed_methods, reason = "a load generator needs the real clock, and nobody pauses it")]

mod aiproxy;
mod awake;
mod caller;
mod channels;
mod load;
mod many_keys;
mod measure;
mod nginx;
mod payload;
mod planning;
mod process;
mod report;
mod run;
mod socket;
mod subject;
mod table;
mod tls;
mod upstream;
mod wire;
mod workload;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::awake::KeepAwake;
use crate::report::Series;
use crate::run::{Sample, Setup};
use crate::subject::{Keys, Subject};
use crate::workload::{Spec, Workload};

/// As in the gateway, so that its decisions cost here what they cost there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Compares AIProxy with nginx and Lua. Needs two cores, nginx (bench/install.sh), taskset and setpriv.
#[derive(Parser)]
struct Arguments {
    /// Rounds of each workload; the proxies take turns in being first
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these workloads, separated by commas
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Only this proxy, without ratios
    #[arg(long)]
    only: Option<Only>,
    /// The gateway's binary
    #[arg(long, default_value = "target/release/aiproxy")]
    aiproxy: PathBuf,
    /// What to print on stdout
    #[arg(long, default_value = "table")]
    output: Output,
    /// Multiplies the number of calls, for a quick look or a calmer result
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Streamed calls ask for their usage themselves, so that AIProxy has nothing to add and to hide
    #[arg(long)]
    include_usage: bool,
    /// Let idle cores sleep; in a virtual machine, latencies are then mostly the hypervisor's
    #[arg(long)]
    let_sleep: bool,
    /// Spin at idle priority: what this program runs beside itself to keep cores awake
    #[arg(long, hide = true)]
    spin: bool,
    /// Core of the proxy under test
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// Core of the upstream and the load generator
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    Nginx,
    Aiproxy,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Above this share of waiting, other work on the machine has touched the result.
const DISTURBED: f64 = 0.03;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.spin {
        awake::spin();
        return Ok(ExitCode::SUCCESS);
    }
    ensure!((0.001..=100.0).contains(&arguments.scale), "--scale: between 0.001 and 100");
    let descriptors = raise_descriptor_limit()?;
    process::pin_self(arguments.load_core)?;
    let cores = [arguments.proxy_core, arguments.load_core];
    let _awake = if arguments.let_sleep { None } else { Some(KeepAwake::start(&cores)?) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Leaving through here drops the run, and with it every child process and directory.
        tokio::select! {
            all = all_workloads(&arguments, descriptors) => Ok(all),
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })?;
    print(&arguments, &all).context("stdout")?;
    let failed = all.iter().any(|series| series.failure.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What this process and its children may have open from now on.
fn raise_descriptor_limit() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).context("RLIMIT_NOFILE")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

async fn all_workloads(arguments: &Arguments, descriptors: u64) -> Vec<Series> {
    let setup = Setup { aiproxy: arguments.aiproxy.clone(), proxy_core: arguments.proxy_core, keys: Keys::new() };
    let chosen =
        if arguments.workloads.is_empty() { Workload::value_variants() } else { arguments.workloads.as_slice() };
    let mut all = Vec::new();
    for workload in chosen {
        let spec = workload.spec(arguments.include_usage).scaled(arguments.scale).within(descriptors);
        if order(1, &spec, arguments.only).is_empty() {
            continue;
        }
        let mut samples = Vec::new();
        let failure = all_rounds(arguments, &setup, &spec, &mut samples).await.err().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure {
            progress(&format!("FAILED {}: {failure}", spec.name));
        }
        all.push(Series::new(&spec, samples, failure));
    }
    all
}

async fn all_rounds(arguments: &Arguments, setup: &Setup, spec: &Spec, samples: &mut Vec<Sample>) -> Result<()> {
    for round in 1..=arguments.rounds {
        for subject in order(round, spec, arguments.only) {
            let name = subject.name();
            let sample = run::measure(setup, spec, subject).await.with_context(|| format!("{name}, round {round}"))?;
            let step = format!("round {round}/{} {} {name}", arguments.rounds, spec.name);
            progress(&format!("{step}{}", described(&sample, spec)));
            samples.push(Sample { round, subject: Some(subject), ..sample });
        }
    }
    Ok(())
}

fn described(sample: &Sample, spec: &Spec) -> String {
    let value = sample.value.map(|value| format!("  {value:.2} {}", spec.unit)).unwrap_or_default();
    let speed = sample.per_second.map(|speed| format!("  {speed:.0}/s")).unwrap_or_default();
    let reloads = sample.reload_ms.map(|millis| format!("  reload {millis:.0} ms")).unwrap_or_default();
    let loaded = sample.loaded_reload_ms.map(|millis| format!(", {millis:.0} ms in load")).unwrap_or_default();
    let disturbed = sample.disturbed.filter(|&share| share > DISTURBED);
    let warning =
        disturbed.map(|share| format!("  (disturbed: {:.0}% of the time it waited for its core)", share * 100.0));
    let open = sample.open_streams.map(|open| format!("  {open} open")).unwrap_or_default();
    value + &speed + &open + &reloads + &loaded + &warning.unwrap_or_default()
}

/// The yardstick (nginx, mostly) first in odd rounds, the judged one in even ones, so that drift of the machine hits
/// both alike. Empty if `only` leaves nothing.
fn order(round: u32, spec: &Spec, only: Option<Only>) -> Vec<Subject> {
    let mut subjects = vec![spec.baseline, spec.judged];
    subjects.retain(|subject| only.is_none_or(|only| (only == Only::Nginx) == (*subject == Subject::Nginx)));
    if round.is_multiple_of(2) {
        subjects.reverse();
    }
    if spec.has_direct() && !subjects.is_empty() {
        subjects.insert(0, Subject::Direct);
    }
    subjects
}

fn progress(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

fn print(arguments: &Arguments, all: &[Series]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Table => table::write(&mut out, all)?,
        Output::Json => {
            let document = json!({"rounds": arguments.rounds, "scale": arguments.scale,
                "include_usage": arguments.include_usage, "let_sleep": arguments.let_sleep, "users": payload::USERS, "workloads": all});
            serde_json::to_writer_pretty(&mut out, &document)?;
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}

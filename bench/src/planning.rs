//! What the decisions of a call cost, alone: candidates, limits, order, first target. No IO, in this process.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use aiproxy_config::{key_digest, load_text};
use aiproxy_gateway::measure::Planning;
use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};

use crate::channels::{LIMITS, credentials};
use crate::payload;
use crate::run::Sample;
use crate::subject::Subject;

/// Fifty credentials are ten channels with five each.
const CHANNELS: usize = 10;
const CREDENTIALS: usize = 5;

/// Processor time of `calls` calls that all find a target within their limits.
pub(crate) fn measure(subject: Subject, warm_up: u64, calls: u64) -> Result<Sample> {
    let text = match subject {
        Subject::OneCredential => config(1, 1, false),
        _ => config(CHANNELS, CREDENTIALS, subject == Subject::Affinity),
    };
    let loaded = load_text(Path::new("planning.yaml"), text, &|_| None, 0);
    let problems = loaded.problems;
    let planning = Planning::new(loaded.snapshot.with_context(|| format!("{problems:?}"))?);
    let key = key_digest(&payload::proxy_key(0));
    let conversation = |call: u64| (subject == Subject::Affinity).then_some(call.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let run = |calls: u64| {
        let refused = (0..calls).filter(|call| !planning.one_call(&key, payload::MODEL, conversation(*call))).count();
        ensure!(refused == 0, "{refused} of {calls} calls found no target or were refused by a limit");
        Ok(())
    };
    run(warm_up)?;
    let (begun, before) = (Instant::now(), processor_seconds());
    run(calls)?;
    let (ran, seconds) = (processor_seconds() - before, begun.elapsed().as_secs_f64());
    Ok(Sample {
        value: Some(ran * 1e9 / calls as f64),
        per_second: Some(calls as f64 / seconds),
        busy: Some(ran / seconds),
        ..Sample::default()
    })
}

/// Time that this thread was on a processor: others on the same one do not count.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// One user with everything that costs a decision, and channels of different weights.
fn config(channels: usize, each: usize, affinity: bool) -> String {
    let names: Vec<String> = (0..channels).map(|number| format!("channel-{number}")).collect();
    let key = payload::proxy_key(0);
    let mut text = format!(
        "users:\n  caller:\n    channels: [{}]\n    failover: true\n    {LIMITS}\n    proxy_keys:\n      \
         - {{id: key, key: \"{key}\", {LIMITS}}}\nchannels:\n",
        names.join(", ")
    );
    for (number, name) in names.iter().enumerate() {
        let weight = number % 3 + 1;
        write!(
            text,
            "  {name}:\n    kind: openai\n    base_url: http://127.0.0.1:9\n    weight: {weight}\n    \
             affinity: {affinity}\n    {LIMITS}\n{}",
            credentials(number, each)
        )
        .ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_finds_its_target() {
        for subject in [Subject::OneCredential, Subject::FiftyCredentials, Subject::Affinity] {
            let sample = measure(subject, 1, 20).unwrap();
            assert!(sample.value.is_some_and(|nanos| nanos > 0.0), "{subject:?}");
        }
    }
}

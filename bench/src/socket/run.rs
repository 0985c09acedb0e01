//! One round of a WebSocket workload: checked, warmed up, measured, and what was used held against the records.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::client::Socket;
use super::conversation::{Conversation, INPUT_TOKENS, OUTPUT_TOKENS, Talk};
use super::handshake::Handshake;
use super::load;
use crate::caller::{self, Target};
use crate::load::closed_loop;
use crate::measure::{self, Cpu};
use crate::payload::{self, Random};
use crate::process::Proxy;
use crate::run::{self, SETTLE, Sample};
use crate::subject::Subject;
use crate::workload::{Shape, Spec};

/// After the last turn of sockets that fall silent: time to give back what only talking needs.
const SILENCE: Duration = Duration::from_secs(3);
/// How long the records of closed sockets may take to reach their file.
const RECORDS_LIMIT: Duration = Duration::from_secs(10);
/// Fewer idle sockets than this say nothing about one of them.
const FEWEST_IDLE: usize = 1_000;

/// Measures one subject, after it was started and before it is ended.
pub(crate) async fn measure(
    spec: &Spec,
    talk: Talk,
    subject: Subject,
    target: &Target,
    proxy: Option<&Proxy>,
) -> Result<Sample> {
    let conversation = Arc::new(talk.conversation());
    if proxy.is_some() {
        self_check(target, &conversation).await.context("self-check")?;
    }
    if let (Shape::IdleSockets { count, warm_up }, Some(proxy)) = (spec.shape, proxy) {
        return idle(target, &conversation, proxy, count, warm_up).await;
    }
    let pids = proxy.map(Proxy::pids).unwrap_or_default();
    let mut sockets = load::open(target, &conversation, spec.sockets()).await?;
    // Of the self-check, and of each socket since it was opened.
    let mut turns = 1 + sockets.len() as u64;
    let (before, mut outcome) = match spec.shape {
        Shape::SocketRate { turns: each, per_second, .. } => {
            let exchanges = u32::try_from(sockets.len() as u64 * u64::from(each) * conversation.turn())?;
            (Cpu::of(&pids)?, load::at_rate(&mut sockets, exchanges, per_second).await?)
        }
        Shape::Sockets { warm_up, turns: measured, .. } => {
            turns += closed_loop(&mut sockets, warm_up).await.context("warm-up")?.calls;
            (Cpu::of(&pids)?, closed_loop(&mut sockets, measured).await?)
        }
        _ => return Ok(Sample::default()),
    };
    turns += outcome.events / 2 / conversation.turn();
    tokio::time::sleep(SETTLE).await;
    let spent = Cpu::of(&pids)?.since(before);
    let mut sample = if proxy.is_some() { run::memory(&pids)? } else { Sample::default() };
    run::summarise(&mut sample, spec, &mut outcome, proxy.map(|_| spent));
    if let Shape::SocketRate { .. } = spec.shape {
        sample.value = sample.p99_us;
    }
    load::close(sockets).await?;
    if let (Some(proxy), Subject::Aiproxy, true) = (proxy, subject, talk.is_metered()) {
        metered(proxy.directory(), turns).await.context("metering")?;
    }
    Ok(sample)
}

/// Memory of sockets that have nothing to say, and the processor time that they cost all the same.
async fn idle(
    target: &Target,
    conversation: &Arc<Conversation>,
    proxy: &Proxy,
    count: usize,
    warm_up: usize,
) -> Result<Sample> {
    ensure!(count >= FEWEST_IDLE, "RLIMIT_NOFILE allows {count} sockets, and {FEWEST_IDLE} are needed");
    let pids = proxy.pids();
    load::close(load::open(target, conversation, warm_up).await.context("warm-up")?).await?;
    tokio::time::sleep(SILENCE).await;
    let before = measure::rss_kib(&pids)?;
    let mut sockets = load::open(target, conversation, count).await?;
    tokio::time::sleep(SILENCE).await;
    let cpu = Cpu::of(&pids)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = Cpu::of(&pids)?.since(cpu);
    let after = measure::rss_kib(&pids)?;
    let mut sample = run::memory(&pids)?;
    // They are open still.
    closed_loop(&mut sockets, count as u64).await.context("after the silence")?;
    sample.value = Some(after.saturating_sub(before) as f64 / count as f64);
    sample.busy = Some(spent.ran as f64 / 1e9);
    sample.open_streams = Some(count as u64);
    Ok(sample)
}

/// An unknown key is refused in JSON; with a known one a turn goes through, every byte of it, and the goodbye comes back.
async fn self_check(target: &Target, conversation: &Arc<Conversation>) -> Result<()> {
    let unknown = Handshake::new(conversation.path, &payload::unknown_key(), &mut Random::new(1));
    let refused = caller::once(target.address, &unknown.request).await?;
    ensure!(refused.status == 401, "unknown key: status {} instead of 401", refused.status);
    let body: Value =
        serde_json::from_slice(refused.body.as_deref().unwrap_or_default()).context("unknown key: body is not JSON")?;
    ensure!(body.get("error").is_some(), "unknown key: no error object in {body}");
    let sockets: Vec<Socket> = load::open(target, conversation, 1).await?;
    load::close(sockets).await
}

/// What all turns have used is in the records, to the token.
async fn metered(directory: &Path, turns: u64) -> Result<()> {
    let expected = (turns * INPUT_TOKENS, turns * OUTPUT_TOKENS);
    let begun = Instant::now();
    loop {
        let found = tokens(&directory.join("records.jsonl"))?;
        if found == expected {
            return Ok(());
        }
        ensure!(begun.elapsed() < RECORDS_LIMIT, "{found:?} tokens in and out in the records instead of {expected:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sums of all records.
fn tokens(records: &Path) -> Result<(u64, u64)> {
    let text = fs::read_to_string(records).unwrap_or_default();
    // A line that is being written counts when it is whole.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut sums = (0, 0);
    for line in whole.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| format!("a record: {line}"))?;
        let of = |name| record.pointer(name).and_then(Value::as_u64).unwrap_or_default();
        sums = (sums.0 + of("/usage/input"), sums.1 + of("/usage/output"));
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::TempDir;
    use crate::upstream::{Answers, Upstream};

    async fn talked(talk: Talk, key: &str) -> Result<(u64, u64)> {
        let upstream = Upstream::start(Answers::Socket(talk), &[payload::REAL_KEY.to_owned()], None, None).await?;
        let target = Target {
            address: upstream.address,
            body: Arc::default(),
            keys: Arc::new(vec![key.to_owned()]),
            expected: caller::Expected::Bytes(0),
        };
        let conversation = Arc::new(talk.conversation());
        let mut sockets = load::open(&target, &conversation, 3).await?;
        let closed = closed_loop(&mut sockets, 4).await?;
        let paced = load::at_rate(&mut sockets, 3 * u32::try_from(conversation.turn())?, 100_000).await?;
        load::close(sockets).await?;
        Ok((closed.events, paced.events))
    }

    #[tokio::test]
    async fn every_talk_goes_through_where_nobody_stands_between() {
        let real = payload::REAL_KEY;
        assert_eq!(talked(Talk::Realtime, real).await.unwrap(), (400, 300));
        assert_eq!(talked(Talk::RealtimeShort, real).await.unwrap(), (16, 12));
        assert_eq!(talked(Talk::Echo, real).await.unwrap(), (400, 300));
        let refused = talked(Talk::Echo, "another").await.unwrap_err();
        assert!(format!("{refused:#}").contains("status 401 instead of 101"), "{refused:#}");
    }

    #[test]
    fn tokens_are_those_of_whole_records() {
        let directory = TempDir::create().unwrap();
        let records = directory.path().join("records.jsonl");
        assert_eq!(tokens(&records).unwrap(), (0, 0), "nothing was written");
        fs::write(
            &records,
            "{\"usage\":{\"input\":3,\"output\":4}}\n{\"usage\":null}\n{\"usage\":{\"input\":5}}\n{\"usage\":{\"inp",
        )
        .unwrap();
        assert_eq!(tokens(&records).unwrap(), (8, 4));
    }
}

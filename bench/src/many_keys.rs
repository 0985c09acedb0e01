//! A hundred thousand keys: what they cost in memory, how long a reload takes, and whether calls notice one.
//!
//! A reload changes the key of one user in the file, in place, and asks for it with SIGHUP. It is over when the status
//! counts it; the new key must work then.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::aiproxy::{ADMIN_TOKEN, CONFIG};
use crate::caller::{self, Target};
use crate::load;
use crate::measure::{Cpu, median};
use crate::payload::{self, Request};
use crate::process::Proxy;
use crate::run::{self, Sample};
use crate::subject::Subject;
use crate::workload::{Shape, Spec};

/// After the start and after the last reload: time to give back what was needed only to load the config.
const IDLE: Duration = Duration::from_secs(3);
/// How often the status is asked for without load, and under it, where asking must not count.
const POLL: Duration = Duration::from_millis(2);
const POLL_IN_LOAD: Duration = Duration::from_millis(20);
/// Between two reloads under load.
const PAUSE: Duration = Duration::from_millis(200);
const RELOAD_LIMIT: Duration = Duration::from_secs(20);

/// Memory after the start and calls without a reload; or memory after some reloads, and calls while there are more.
pub(crate) async fn measure(spec: &Spec, subject: Subject, target: &Target, proxy: &Proxy) -> Result<Sample> {
    let Shape::Reloads { connections, warm_up, calls, per_second, quiet_reloads } = spec.shape else {
        return Ok(Sample::default());
    };
    let pids = proxy.pids();
    let mut reloads = Reloads::new(target, proxy)?;
    let mut quiet = Vec::new();
    tokio::time::sleep(IDLE).await;
    if subject == Subject::Reloading {
        for _ in 0..quiet_reloads {
            quiet.push(reloads.one(POLL).await?);
        }
        tokio::time::sleep(IDLE).await;
    }
    let mut sample = run::memory(&pids)?;
    load::warm_up(target, connections, warm_up).await?;
    let before = Cpu::of(&pids)?;
    let mut in_load = Vec::new();
    let rate = load::in_background(target, connections, calls, per_second);
    let mut outcome = if subject == Subject::Reloading {
        tokio::select! {
            outcome = rate => outcome?,
            failed = reloads.again_and_again(&mut in_load) => failed?,
        }
    } else {
        rate.await?
    };
    tokio::time::sleep(run::SETTLE).await;
    let spent = Cpu::of(&pids)?.since(before);
    run::summarise(&mut sample, spec, &mut outcome, Some(spent));
    sample.value = sample.p99_us;
    sample.reload_ms = median(quiet);
    sample.loaded_reloads = (subject == Subject::Reloading).then_some(in_load.len());
    sample.loaded_reload_ms = median(in_load);
    Ok(sample)
}

struct Reloads<'run> {
    target: &'run Target,
    proxy: &'run Proxy,
    config: PathBuf,
    /// Where in the file the key of user 0 stands.
    key_at: u64,
    done: u64,
}

impl<'run> Reloads<'run> {
    fn new(target: &'run Target, proxy: &'run Proxy) -> Result<Self> {
        let config = proxy.directory().join(CONFIG);
        let text = fs::read(&config)?;
        let key = payload::proxy_key(0);
        let key_at = memchr::memmem::find(&text, key.as_bytes()).context("the key of user 0 in the config")? as u64;
        Ok(Self { target, proxy, config, key_at, done: 0 })
    }

    /// One reload; how many milliseconds it took.
    async fn one(&mut self, poll: Duration) -> Result<f64> {
        let key = payload::changed_key(self.done);
        File::options().write(true).open(&self.config)?.write_all_at(key.as_bytes(), self.key_at)?;
        let begun = Instant::now();
        self.proxy.hang_up();
        while self.counted().await? <= self.done {
            ensure!(begun.elapsed() < RELOAD_LIMIT, "a reload did not end");
            tokio::time::sleep(poll).await;
        }
        let took = begun.elapsed().as_secs_f64() * 1e3;
        self.done += 1;
        let answer = caller::once(self.target.address, &Request::new(&key, &self.target.body).bytes).await?;
        ensure!(answer.status == 200, "the new key after a reload: status {}", answer.status);
        Ok(took)
    }

    /// Ends only if a reload fails.
    async fn again_and_again(&mut self, took: &mut Vec<f64>) -> Result<load::Outcome> {
        loop {
            took.push(self.one(POLL_IN_LOAD).await?);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reloads that the status tells of.
    async fn counted(&self) -> Result<u64> {
        let request = format!(
            "GET /admin/api/v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
             Connection: close\r\n\r\n"
        );
        let answer = caller::once(self.target.address, request.as_bytes()).await?;
        ensure!(answer.status == 200, "the status: {}", answer.status);
        let status: Value = serde_json::from_slice(answer.body.as_deref().unwrap_or_default())?;
        let problem = status.pointer("/config/problem").context("config.problem in the status")?;
        ensure!(problem.is_null(), "the changed config has a problem: {problem}");
        status.pointer("/config/reloads").and_then(Value::as_u64).context("config.reloads in the status")
    }
}

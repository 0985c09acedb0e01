//! A proxy under test: its temporary directory, its process pinned to a core, and the certainty that both go away.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{caller, measure};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A directory that is removed with this value.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn create() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("aiproxy-bench-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A running proxy that answers `/health`.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
    directory: TempDir,
}

impl Proxy {
    /// Starts `command` on one core and waits until it is healthy. Its output goes to a file in its directory.
    pub(crate) async fn start(
        command: &[String],
        core: usize,
        address: SocketAddr,
        directory: TempDir,
    ) -> Result<Self> {
        let output = File::create(directory.path().join("output.log"))?;
        // `setpriv` ends the proxy with us even if we are killed; both replace themselves by the next program.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "-c", &core.to_string()])
            .args(command)
            .current_dir(directory.path())
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("setpriv and taskset (package util-linux)")?;
        let mut proxy = Self { child, address, directory };
        proxy.wait_until_healthy().await?;
        Ok(proxy)
    }

    async fn wait_until_healthy(&mut self) -> Result<()> {
        let begun = Instant::now();
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once ({status}): {}", self.output());
            }
            if let Ok(tally) = caller::once(self.address, request).await {
                ensure!(tally.status == 200, "GET /health: {}", tally.status);
                return Ok(());
            }
            ensure!(begun.elapsed() < START_LIMIT, "not healthy in time: {}", self.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        measure::family(self.child.id())
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Asks for a reload.
    pub(crate) fn hang_up(&self) {
        signal(self.child.id(), Signal::HUP);
    }

    /// The last lines of what it wrote, for an error message.
    pub(crate) fn output(&self) -> String {
        let read = |name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        let text = read("output.log") + &read("error.log");
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    fn ended_in_time(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let family = self.pids();
        signal(self.child.id(), Signal::TERM);
        if !self.ended_in_time() {
            family.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            self.child.wait().ok();
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, signal).ok();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Pins all threads of this process, and so all that it starts, to one core.
pub(crate) fn pin_self(core: usize) -> Result<()> {
    let output = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), &std::process::id().to_string()])
        .output()
        .context("taskset (package util-linux)")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

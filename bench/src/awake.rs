//! Keeps both cores from going to sleep, because in a virtual machine waking one up costs more than a call does.
//!
//! On the machine this was written on, a halted virtual processor takes up to 50 ms to come back: without this, the
//! latency of the fixed rate is the hypervisor's. A process of the idle scheduling class spins on each core; it yields at
//! once to whatever else wants to run, and no time of it is charged to a proxy.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Spinning ends by itself after this long, whatever happened to the process that wanted it.
const LIMIT: Duration = Duration::from_secs(3600);

pub(crate) struct KeepAwake(Vec<Child>);

impl KeepAwake {
    /// Starts this program again, once for each core, as `--spin`.
    pub(crate) fn start(cores: &[usize]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut spinning = Self(Vec::new());
        for core in cores {
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "chrt", "--idle", "0", "taskset", "-c", &core.to_string()])
                .arg(&program)
                .arg("--spin")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .context("setpriv, chrt and taskset (package util-linux)")?;
            spinning.0.push(child);
        }
        Ok(spinning)
    }
}

impl Drop for KeepAwake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// What the process that keeps a core awake does.
pub(crate) fn spin() {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        for _ in 0..10_000 {
            std::hint::spin_loop();
        }
    }
}

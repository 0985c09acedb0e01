//! What the kernel says about a proxy: processor time and memory of its processes, summed.

use std::fs;

use anyhow::{Context, Result};

/// A process and its children (nginx: master and workers).
pub(crate) fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let children = fs::read_to_string(format!("/proc/{root}/task/{root}/children")).unwrap_or_default();
    all.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    all
}

/// Nanoseconds that the threads of some processes were on a processor, and were ready but had to wait for one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) ran: u64,
    pub(crate) waited: u64,
}

impl Cpu {
    /// From `schedstat`, which is exact for a thread that sleeps, unlike the 10 ms ticks of `stat`; those only stand in
    /// where it is missing. A thread that ended takes its time with it: neither proxy ends threads while it serves.
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut total = Self::default();
        for &pid in pids {
            let part = of_threads(pid).or_else(|_| of_ticks(pid))?;
            total = Self { ran: total.ran + part.ran, waited: total.waited + part.waited };
        }
        Ok(total)
    }

    pub(crate) fn since(self, before: Self) -> Self {
        let waited = self.waited.saturating_sub(before.waited);
        Self { ran: self.ran.saturating_sub(before.ran), waited }
    }
}

fn of_threads(pid: u32) -> Result<Cpu> {
    let mut total = Cpu::default();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let mut numbers = text.split_ascii_whitespace();
        total.ran += numbers.next().context("schedstat")?.parse::<u64>()?;
        total.waited += numbers.next().context("schedstat")?.parse::<u64>()?;
    }
    Ok(total)
}

fn of_ticks(pid: u32) -> Result<Cpu> {
    const TICK_NS: u64 = 10_000_000;
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = text.rsplit_once(')').context("stat")?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next().context("utime")?.parse()?;
    let system: u64 = fields.next().context("stime")?.parse()?;
    Ok(Cpu { ran: (user + system) * TICK_NS, waited: 0 })
}

/// Resident memory in KiB as `ps` shows it; pages shared by master and worker count twice.
pub(crate) fn rss_kib(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| field(&format!("/proc/{pid}/status"), "VmRSS:")).sum()
}

/// Memory in KiB with shared pages counted once. Costly for the process looked at: only while it is idle.
pub(crate) fn pss_kib(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum()
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{name} in {path}"))?;
    line.split_ascii_whitespace().next().context("a number")?.parse().context("a number")
}

/// The value below which `share` of the samples lie. Sorts them.
pub(crate) fn quantile(samples: &mut [u64], share: f64) -> u64 {
    samples.sort_unstable();
    let at = (samples.len() as f64 * share).ceil() as usize;
    samples.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// The middle value; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_quantile_of_few_values() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(quantile(&mut [5, 1, 4, 2, 3], 0.5), 3);
        assert_eq!(quantile(&mut [5, 1, 4, 2, 3], 0.99), 5);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = family(std::process::id());
        // A running thread is only accounted for at the next tick, or when it goes to sleep.
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(Cpu::of(&own[..1]).unwrap().ran > 0);
        assert!(rss_kib(&own[..1]).unwrap() > 0);
    }
}

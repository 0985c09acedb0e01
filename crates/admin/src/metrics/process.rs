//! The process and the machine it runs on, from `/proc`. What a system does not tell is left out.

use std::fmt;
use std::fs;

use super::proc;
use super::write::{Page, optional};

/// What the process uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProcessMeasures {
    cpu_seconds: Option<f64>,
    threads: Option<u64>,
    start_seconds: Option<f64>,
    virtual_bytes: Option<u64>,
    resident_bytes: Option<u64>,
    open_files: Option<u64>,
    most_open_files: Option<u64>,
}

impl ProcessMeasures {
    pub(super) fn now() -> Self {
        let stat = read("/proc/self/stat").as_deref().and_then(proc::stat);
        let boot_seconds = read("/proc/stat").as_deref().and_then(proc::boot_seconds);
        let status = read("/proc/self/status");
        let limits = read("/proc/self/limits");
        // One of them is the listing itself.
        let open_files = fs::read_dir("/proc/self/fd").ok().map(|files| (files.count() as u64).saturating_sub(1));
        Self {
            cpu_seconds: stat.map(|stat| stat.cpu_seconds),
            threads: stat.map(|stat| stat.threads),
            start_seconds: stat.zip(boot_seconds).map(|(stat, boot)| boot as f64 + stat.start_seconds),
            virtual_bytes: stat.map(|stat| stat.virtual_bytes),
            resident_bytes: status.as_deref().and_then(|text| proc::kilobytes(text, "VmRSS")),
            open_files,
            most_open_files: limits.as_deref().and_then(proc::most_open_files),
        }
    }
}

/// How the machine is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SystemMeasures {
    load: Option<[f64; 3]>,
    memory_bytes: Option<u64>,
    available_bytes: Option<u64>,
    network: Option<proc::Network>,
}

impl SystemMeasures {
    pub(super) fn now() -> Self {
        let memory = read("/proc/meminfo");
        Self {
            load: read("/proc/loadavg").as_deref().and_then(proc::load),
            memory_bytes: memory.as_deref().and_then(|text| proc::kilobytes(text, "MemTotal")),
            available_bytes: memory.as_deref().and_then(|text| proc::kilobytes(text, "MemAvailable")),
            network: read("/proc/net/dev").as_deref().and_then(proc::network),
        }
    }
}

/// The names are those that every client library of Prometheus uses.
pub(super) fn write_process(page: &mut Page<'_>, process: &ProcessMeasures) -> fmt::Result {
    page.counter("process_cpu_seconds", "CPU time used, user and system", optional(process.cpu_seconds))?;
    page.gauge("process_resident_memory_bytes", "Memory in RAM", optional(process.resident_bytes))?;
    page.gauge("process_virtual_memory_bytes", "Address space", optional(process.virtual_bytes))?;
    page.gauge("process_open_fds", "Open file descriptors", optional(process.open_files))?;
    page.gauge("process_max_fds", "Most open file descriptors", optional(process.most_open_files))?;
    page.gauge("process_threads", "Threads", optional(process.threads))?;
    page.gauge("process_start_time_seconds", "When the process started", optional(process.start_seconds))
}

pub(super) fn write_system(page: &mut Page<'_>, system: &SystemMeasures) -> fmt::Result {
    let windows = ["1m", "5m", "15m"].map(|window| [("window", window)]);
    let load = system.load.map(|load| windows.into_iter().zip(load)).into_iter().flatten();
    page.gauge("aiproxy_system_load", "Load average of the machine", load)?;
    page.gauge("aiproxy_system_memory_bytes", "Memory of the machine", optional(system.memory_bytes))?;
    let available = optional(system.available_bytes);
    page.gauge("aiproxy_system_memory_available_bytes", "Memory that programs could still get", available)?;
    let received = optional(system.network.map(|network| network.received_bytes));
    page.counter("aiproxy_system_network_received_bytes", "Bytes received, loopback aside", received)?;
    let sent = optional(system.network.map(|network| network.sent_bytes));
    page.counter("aiproxy_system_network_sent_bytes", "Bytes sent, loopback aside", sent)
}

fn read(path: &str) -> Option<String> {
    // A process may give itself a name that is no UTF-8.
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

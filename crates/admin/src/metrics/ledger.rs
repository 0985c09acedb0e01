//! The journal and the sinks behind it.

use std::fmt;
use std::sync::Arc;

use aiproxy_ledger::journal::Extent;
use aiproxy_ledger::runner::SinkStatus;

use super::Gathered;
use super::write::{Page, single};

/// How a sink is doing.
pub(super) struct SinkMeasures {
    name: Box<str>,
    backlog: u64,
    frames: u64,
    failures: u64,
    rejected: u64,
    /// For how long it takes nothing; 0 while it does.
    failing_seconds: f64,
}

impl SinkMeasures {
    pub(super) fn of(status: &Arc<SinkStatus>, extent: &Extent) -> Self {
        Self {
            name: status.name().into(),
            backlog: extent.beyond(&status.committed().unwrap_or_default()),
            frames: status.frames(),
            failures: status.failures(),
            rejected: status.rejected(),
            failing_seconds: status.problem().map_or(0.0, |(_, lasting)| lasting.as_secs_f64()),
        }
    }
}

pub(super) fn write(page: &mut Page<'_>, gathered: &Gathered) -> fmt::Result {
    let Gathered { extent, journal, records, sinks, .. } = gathered;
    let places = |disk: u64, memory: u64| [([("place", "disk")], disk), ([("place", "memory")], memory)];
    let bytes = places(extent.disk.values().sum(), journal.memory_bytes as u64);
    page.gauge("aiproxy_journal_bytes", "Bytes of records that the journal holds", bytes)?;
    let segments = places(extent.disk.len() as u64, extent.memory.len() as u64);
    page.gauge("aiproxy_journal_segments", "Segments that the journal holds", segments)?;
    page.counter("aiproxy_journal_records", "Records appended to the journal", single(*records))?;
    page.counter("aiproxy_journal_lost_records", "Records that found room nowhere", single(journal.lost))?;
    let failing = u64::from(journal.trouble.is_some());
    page.gauge("aiproxy_journal_failing", "1 while the disk takes no records", single(failing))?;
    page.gauge("aiproxy_journal_full", "1 while there is no room for records", single(u64::from(journal.is_full)))?;
    let unsaved = u64::from(gathered.has_tally_problem);
    page.gauge("aiproxy_tally_failing", "1 while the disk does not take what is counted", single(unsaved))?;

    let each = |number: fn(&SinkMeasures) -> u64| sinks.iter().map(move |sink| ([("sink", &*sink.name)], number(sink)));
    page.gauge(
        "aiproxy_sink_backlog_bytes",
        "Bytes of the journal that a sink has not taken",
        each(|sink| sink.backlog),
    )?;
    page.counter("aiproxy_sink_frames", "Records and bodies written by a sink", each(|sink| sink.frames))?;
    page.counter("aiproxy_sink_failures", "Writes of a sink that failed", each(|sink| sink.failures))?;
    page.counter("aiproxy_sink_rejected", "Records refused by a sink and set aside", each(|sink| sink.rejected))?;
    let failing = sinks.iter().map(|sink| ([("sink", &*sink.name)], sink.failing_seconds));
    page.gauge("aiproxy_sink_failing_seconds", "For how long a sink takes nothing, 0 while it does", failing)
}

//! What a sink is: something that takes batches, and knows how far it has come.

use std::fmt;
use std::future::{Future, ready};

use crate::batch::Batch;
use crate::position::Position;

/// Something that finished calls are written to. Each runs on a thread of its own, so one that hangs holds up nobody.
pub trait Sink: Send + 'static {
    /// Its name: of its cursor, in logs, in metrics. The same after every restart.
    fn name(&self) -> &str;

    /// How far it has come, as it remembers itself; `None` if it never took anything. Asked once, before the first
    /// write, and again after a failed one.
    fn resume(&mut self) -> impl Future<Output = Result<Option<Position>, SinkError>>;

    /// Takes all of `batch` and remembers `batch.position` with it, or takes nothing. A sink that gathers batches
    /// remembers later, and says with [`Self::committed`] how far it did; when it fails, what [`Self::resume`] then
    /// answers may lie before this batch.
    fn write(&mut self, batch: &Batch) -> impl Future<Output = Result<(), SinkError>>;

    /// Called about once a second while there is nothing to read, for what is due by time. After an error
    /// [`Self::resume`] is asked again, as after a failed write.
    fn idle(&mut self) -> impl Future<Output = Result<(), SinkError>> {
        ready(Ok(()))
    }

    /// Called once when the process ends, after the last write: what was gathered is finished. What an error leaves
    /// unfinished comes again after the next start.
    fn finish(&mut self) -> impl Future<Output = Result<(), SinkError>> {
        ready(Ok(()))
    }

    /// What lies before this position it never needs again, so the journal may delete it. `None`, the default, is the
    /// position of the last successful write.
    fn committed(&self) -> Option<&Position> {
        None
    }

    /// How much it likes at once.
    fn appetite(&self) -> Appetite {
        Appetite::default()
    }
}

/// How much a sink takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appetite {
    /// Most frames of a batch. Default 5,000.
    pub frames: usize,
    /// Most bytes of a batch, if more than one frame. Default 4 MiB.
    pub bytes: usize,
    /// How long the first frame of a batch may wait for others, in milliseconds. Default 100.
    pub linger_ms: u64,
    /// Whether it wants bodies too. Default true.
    pub bodies: bool,
}

impl Default for Appetite {
    fn default() -> Self {
        Self { frames: 5_000, bytes: 4 << 20, linger_ms: 100, bodies: true }
    }
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkError {
    /// The sink cannot take anything now: try again, for as long as it takes.
    Unavailable(String),
    /// The sink does not want something in this batch, and never will. The record at fault is looked for and set aside.
    Rejected(String),
}

impl fmt::Display for SinkError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(formatter, "unavailable: {why}"),
            Self::Rejected(why) => write!(formatter, "rejected: {why}"),
        }
    }
}

impl std::error::Error for SinkError {}

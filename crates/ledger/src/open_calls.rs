//! Calls that are open for long: how each stands is kept on disk, so that its use is not lost with the process.
//!
//! ```text
//! workers ── checkpoint, forget ──▶ the newest state of each call ── Keeper ──▶ open-calls/<instance>/<id>.call
//! the next process                          Recovery ── what is left there ──▶ journal ──▶ every sink
//! ```
//!
//! A socket or a WebRTC call has one record, written when it ends. Until then it hands over its record as it stands; a
//! thread writes that to a file of the call, beside and renamed, and removes it when the record was emitted. Each
//! process has a directory of its own and holds a lock in it as long as it lives. So a process that takes over finds
//! out whose calls are still open, leaves those alone, and records the others with the end `shutdown`: at its start, before
//! anything is counted, and from then on every few seconds while another process lives that it saw at its start.
//!
//! What is lost with the process is the use of the moment before: as long as a round of the thread takes and the pause
//! after it, a fraction of a second where few calls are open, and a few seconds where tens of thousands are.
//!
//! A call is recorded once, with an exception that is accepted: a process is killed in the moment after the record was
//! appended and before the file is removed, and whoever recovers cannot find the record, because all sinks have had it
//! and its segment is deleted, or because more than 16 MiB were appended to the segment since, or because the clock was
//! set back by more than ten minutes. A record that comes twice has the same id.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use aiproxy_core::time::{self, Instant};

use crate::entry::Entry;

mod folder;
mod keeping;
mod known;
mod recovery;
mod waiting;

use keeping::Keeping;
pub use recovery::Recovery;
use waiting::Waiting;

/// Keeps how open calls stand. Clones are the same.
#[derive(Clone)]
pub struct OpenCalls(Arc<Shared>);

/// Called for each call that was left by another process and recorded after the start: its use must reach the live
/// counters of quotas, for the record stands in a segment of this process.
pub type OnRecovered = Box<dyn Fn(&Entry<'_>) + Send>;

struct Shared {
    state: Mutex<State>,
    /// Something came, or it is time to end; or the thread has ended.
    changed: Condvar,
}

struct State {
    waiting: Waiting,
    /// States that were left out for want of memory.
    left_out: u64,
    /// Why the disk takes nothing, while it does not.
    trouble: Option<String>,
    is_stopping: bool,
    has_ended: bool,
}

impl Default for OpenCalls {
    fn default() -> Self {
        let state = State { waiting: Waiting::new(), left_out: 0, trouble: None, is_stopping: false, has_ended: false };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }
}

impl OpenCalls {
    /// Takes how a call stands; what was taken of it before is let go. Never waits for the disk.
    pub fn checkpoint(&self, entry: &Entry<'_>) {
        let mut payload = Vec::new();
        entry.encode(&mut payload);
        let mut state = self.0.state();
        let was_idle = state.waiting.is_idle();
        if !state.waiting.put(entry.id, payload) {
            state.left_out += 1;
            let is_first = state.left_out == 1;
            drop(state);
            if is_first {
                tracing::error!("too many calls are open, or the disk is too slow, to keep how all of them stand");
            }
            return;
        }
        drop(state);
        if was_idle {
            self.0.changed.notify_all();
        }
    }

    /// Lets go of a call: its record was emitted. Never waits for the disk.
    pub fn forget(&self, id: &[u8; 16]) {
        let mut state = self.0.state();
        let was_idle = state.waiting.is_idle();
        state.waiting.forget(id);
        let wakes = was_idle && !state.waiting.is_idle();
        drop(state);
        if wakes {
            self.0.changed.notify_all();
        }
    }

    /// Why the disk takes nothing, while it does not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.state().trouble.clone()
    }

    /// How often a call's state was not kept, for want of memory, since the start.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.0.state().left_out
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to do, until `until` where that is given, or until it is time to end; true if it
    /// is that.
    fn rest(&self, until: Option<Instant>) -> bool {
        self.wait(until, |state| state.waiting.is_idle())
    }

    /// Waits until `until`, or until it is time to end; true if it is that.
    fn pause(&self, until: Instant) -> bool {
        self.wait(Some(until), |_| true)
    }

    fn wait(&self, until: Option<Instant>, goes_on: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state();
        while !state.is_stopping && goes_on(&state) {
            state = match until.map(|until| until.saturating_duration_since(time::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        state.is_stopping
    }
}

/// The running thread.
pub struct Keeper {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts the thread that writes what `open_calls` takes, and that goes on with `recovery` where something is left
    /// for it. `durably`: what was written outlives a loss of power too, which costs a wait for the disk for each file.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(
        open_calls: &OpenCalls,
        recovery: Recovery,
        durably: bool,
        on_recovered: OnRecovered,
    ) -> io::Result<Self> {
        let shared = open_calls.0.clone();
        // Here and not at the first call: a process that takes over must see that this one lives.
        let keeping = Keeping::new(shared.clone(), recovery, durably, on_recovered);
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("open calls".into()).spawn(move || {
            keeping.run();
            own.state().has_ended = true;
            own.changed.notify_all();
        })?;
        Ok(Self { shared, thread })
    }

    /// Writes and removes what is left to, but no longer than until `deadline`, and ends. Calls that are then still
    /// open are recorded by whoever starts next.
    pub fn stop(self, deadline: Instant) {
        let mut state = self.shared.state();
        state.is_stopping = true;
        self.shared.changed.notify_all();
        while !state.has_ended && !self.thread.is_finished() {
            let left = deadline.saturating_duration_since(time::now());
            if left.is_zero() {
                break;
            }
            // A thread that panicked tells nobody; it is looked after now and then.
            let left = left.min(Duration::from_millis(100));
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let has_ended = state.has_ended || self.thread.is_finished();
        drop(state);
        if !has_ended {
            tracing::warn!("there was no time to clear away all calls that have ended; the next start looks at them");
        } else if self.thread.join().is_err() {
            tracing::error!("the keeper of open calls ended with a panic");
        }
    }
}

#[cfg(test)]
mod tests;

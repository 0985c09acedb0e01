//! The queue that calls put their bodies into, and the thread that makes them readable and appends them to the journal.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use aiproxy_core::time::{self, Instant};

use super::Captured;
use super::readable::{Readable, readable};
use super::redact::{Patterns, Redactor};
use crate::entry::{Bodies, Body};
use crate::journal::Journal;

/// Most calls whose bodies wait, and most bytes of these.
const MOST_CALLS: usize = 64;
const MOST_BYTES: usize = 64 << 20;

/// Takes the bodies of finished calls. Clones are the same queue.
#[derive(Clone)]
pub struct BodyQueue(Arc<Shared>);

/// The running thread.
pub struct BodyKeeper {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    journal: Arc<Journal>,
    queue: Mutex<Queue>,
    /// Something came, or it is time to end; or the thread has ended.
    changed: Condvar,
    patterns: Mutex<Arc<Patterns>>,
    kept: AtomicU64,
    lost: AtomicU64,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Captured>,
    bytes: usize,
    /// Nothing more is taken, and what waits is worked off until then.
    stop_by: Option<Instant>,
    has_ended: bool,
}

impl BodyKeeper {
    /// Starts the thread. `redact` are patterns besides the built-in ones: `system.redact`.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(journal: Arc<Journal>, redact: &[Box<str>]) -> std::io::Result<(BodyQueue, Self)> {
        let shared = Arc::new(Shared {
            journal,
            queue: Mutex::default(),
            changed: Condvar::new(),
            patterns: Mutex::new(Arc::new(Patterns::new(redact))),
            kept: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("bodies".into()).spawn(move || {
            while let Some(captured) = own.next() {
                own.keep(captured);
            }
            own.queue().has_ended = true;
            own.changed.notify_all();
        })?;
        Ok((BodyQueue(shared.clone()), Self { shared, thread }))
    }

    /// Takes nothing more, writes what waits, but no longer than until `deadline`, and ends.
    pub fn stop(self, deadline: Instant) {
        let mut queue = self.shared.queue();
        queue.stop_by = Some(deadline);
        self.shared.changed.notify_all();
        while !queue.has_ended {
            let left = deadline.saturating_duration_since(time::now());
            if left.is_zero() {
                break;
            }
            queue = self.shared.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let left = queue.calls.len();
        let has_ended = queue.has_ended;
        // What could not be worked off is not: the process ends.
        queue.calls.clear();
        drop(queue);
        if left > 0 {
            self.shared.lost.fetch_add(left as u64, Ordering::Relaxed);
            tracing::warn!(calls = left, "there was no time to store the bodies of the last calls");
        }
        if has_ended && self.thread.join().is_err() {
            tracing::error!("the keeper of bodies ended with a panic");
        }
    }
}

impl BodyQueue {
    /// Takes the bodies of a call, or drops them where there is no room. Never waits.
    pub fn offer(&self, captured: Captured) {
        let size = captured.size();
        let mut queue = self.0.queue();
        let has_room = queue.calls.len() < MOST_CALLS && queue.bytes + size <= MOST_BYTES;
        if has_room && queue.stop_by.is_none() {
            queue.bytes += size;
            queue.calls.push_back(captured);
            drop(queue);
            self.0.changed.notify_one();
            return;
        }
        drop(queue);
        if self.0.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("bodies of calls come faster than they can be stored; some are not stored");
        }
    }

    /// Other patterns than those at the start: the config was replaced.
    pub fn set_redact(&self, redact: &[Box<str>]) {
        let patterns = Arc::new(Patterns::new(redact));
        *self.0.patterns.lock().unwrap_or_else(PoisonError::into_inner) = patterns;
    }

    /// Calls whose bodies were appended to the journal since the start.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.0.kept.load(Ordering::Relaxed)
    }

    /// Calls whose bodies were dropped since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next call; `None` when it is time to end.
    fn next(&self) -> Option<Captured> {
        let mut queue = self.queue();
        loop {
            if queue.stop_by.is_some_and(|deadline| time::now() >= deadline) {
                return None;
            }
            if let Some(captured) = queue.calls.pop_front() {
                queue.bytes = queue.bytes.saturating_sub(captured.size());
                return Some(captured);
            }
            if queue.stop_by.is_some() {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn keep(&self, captured: Captured) {
        if self.journal.state().trouble.is_some() {
            // While the disk takes nothing, the journal's memory is for records.
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let patterns = self.patterns.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Captured { id, started_unix_ms, request, response, secrets } = captured;
        // The bytes are the callers', and read by decoders of others: one that fails on them costs this call's bodies.
        let made = catch_unwind(AssertUnwindSafe(|| {
            let redactor = Redactor::new(&secrets, &patterns);
            [request, response].map(|body| body.map(|body| readable(body, &redactor)))
        }));
        let Ok([request, response]) = made else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!("the bodies of a call cannot be read; they are not stored");
            return;
        };
        let [request, response] = [&request, &response].map(|body| body.as_ref().map(Readable::as_body));
        if self.journal.append_bodies(&Bodies { id, started_unix_ms, request, response }) {
            self.kept.fetch_add(1, Ordering::Relaxed);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Readable {
    fn as_body(&self) -> Body<'_> {
        Body {
            content_type: &self.content_type,
            form: self.form,
            content: &self.content,
            usage: self.usage.as_deref(),
            bytes: self.bytes,
            cut: self.cut,
        }
    }
}

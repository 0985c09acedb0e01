//! Which process feeds the sinks: only one at a time, told by a lock in the journal's directory. While one process
//! hands over to another, both append.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use aiproxy_ledger::runner::Order;
use tokio::sync::watch;

/// How often the lock is tried.
const INTERVAL: Duration = Duration::from_millis(100);

/// The lock, or the wait for it. Dropping it gives the sinks to another process.
pub(super) struct Shipping {
    stop: SyncSender<()>,
    waiting: Option<JoinHandle<()>>,
}

impl Shipping {
    /// Gives the order to run, now or once no other process feeds the sinks.
    pub(super) fn start(directory: &Path, orders: watch::Sender<Order>) -> std::io::Result<Self> {
        let path = directory.join("shipping.lock");
        let (stop, stopped) = sync_channel::<()>(1);
        let waiting = std::thread::Builder::new().name("shipping".into()).spawn(move || {
            let mut told = false;
            let _lock = loop {
                match take(&path) {
                    Taken::Lock(lock) => break Some(lock),
                    // Without a directory there is no other process to ask, and records in memory must go somewhere.
                    Taken::NoLock => break None,
                    Taken::Elsewhere => {}
                }
                if !told {
                    told = true;
                    tracing::info!("another process feeds the sinks of this data directory; waiting for its end");
                }
                if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            };
            orders.send_if_modified(|order| {
                let waits = *order == Order::Wait;
                if waits {
                    *order = Order::Run;
                }
                waits
            });
            // Held until it is dropped.
            stopped.recv().ok();
        })?;
        Ok(Self { stop, waiting: Some(waiting) })
    }
}

impl Drop for Shipping {
    fn drop(&mut self) {
        self.stop.try_send(()).ok();
        if let Some(waiting) = self.waiting.take() {
            waiting.join().ok();
        }
    }
}

enum Taken {
    Lock(File),
    NoLock,
    Elsewhere,
}

fn take(path: &Path) -> Taken {
    let Ok(file) = OpenOptions::new().create(true).truncate(false).write(true).open(path) else {
        return Taken::NoLock;
    };
    match file.try_lock() {
        Ok(()) => Taken::Lock(file),
        Err(TryLockError::WouldBlock) => Taken::Elsewhere,
        Err(TryLockError::Error(_)) => Taken::NoLock,
    }
}

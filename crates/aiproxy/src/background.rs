//! Work that must not take a core away from calls: reading a config of 100,000 users is a second of it.

use std::sync::mpsc;

use tokio::sync::oneshot;

/// The lowest priority.
const NICE: i32 = 19;
/// Jobs that wait; who asks for more waits, too.
const WAITING: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

/// One thread at the lowest priority, for as long as this value lives. Always the same one: what a job frees is then
/// where the next one looks for memory.
pub(crate) struct Background(mpsc::SyncSender<Job>);

impl Background {
    /// Starts the thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (jobs, todo) = mpsc::sync_channel::<Job>(WAITING);
        std::thread::Builder::new().name("background".into()).spawn(move || {
            // On Linux this is a property of the thread. Without it the work is done all the same, only less politely.
            rustix::process::nice(NICE).ok();
            for job in todo {
                // A job that panics has told so on stderr; whoever waits for it sees that nothing came.
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).ok();
            }
        })?;
        Ok(Self(jobs))
    }

    /// Does `work` there. `None` if it ended with a panic.
    pub(crate) async fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move || {
            tell.send(work()).ok();
        });
        self.0.try_send(job).ok()?;
        told.await.ok()
    }
}

//! Work that must not take a core away from calls: reading a config of 100,000 users is a second of it.

use tokio::sync::oneshot;

/// The lowest priority.
const NICE: i32 = 19;

/// Runs `work` on a thread of its own, at the lowest priority. `None` if it ended with a panic, or if there can be no
/// more threads.
pub(crate) async fn run<R: Send + 'static>(name: &str, work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        // On Linux this is a property of the thread. Without it the work is done all the same, only less politely.
        rustix::process::nice(NICE).ok();
        tell.send(work()).ok();
    });
    thread.ok()?;
    told.await.ok()
}

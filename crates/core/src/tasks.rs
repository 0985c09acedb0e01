//! Tasks with an owner and a way to stop.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A group of tasks that are told to stop together and waited for together. Clones belong to the same group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` on the current runtime as a member of this group.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(future);
    }

    /// Resolves once [`Tasks::stop`] was called.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// True once [`Tasks::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells every member to finish. They decide how: an idle connection closes, a running call completes.
    pub fn stop(&self) {
        self.tracker.close();
        self.stop.cancel();
    }

    /// How many members are running.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// True when no member is running.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Waits until every member has ended or `deadline` has passed; true if all ended.
    pub async fn finished_within(&self, deadline: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_group_ends_when_its_members_do_or_the_deadline_passes() {
        let tasks = Tasks::new();
        let member = tasks.clone();
        tasks.spawn(async move { member.stopped().await });
        assert!(!tasks.finished_within(Duration::from_secs(1)).await);
        tasks.stop();
        assert!(tasks.finished_within(Duration::from_secs(1)).await);
    }
}

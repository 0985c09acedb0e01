//! One timer per call, moved rather than made anew.
//!
//! Moving the due time later costs nothing: the timer is armed again only when it fires too early. A stream of a
//! thousand events therefore registers one timer, not a thousand.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aiproxy_config::snapshot::Timeouts;
use aiproxy_core::time::{self, Instant};
use tokio::time::Sleep;

use crate::upstream::error::Phase;

/// A deadline that can be moved.
#[derive(Default)]
pub struct Deadline {
    due: Due,
    sleep: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Default)]
enum Due {
    /// Never.
    #[default]
    Off,
    /// So long after the next poll. The clock is read only where somebody really waits.
    After(Duration),
    /// Then.
    At(Instant),
}

impl Deadline {
    /// Moves the deadline; `None` switches it off.
    pub fn set(&mut self, due: Option<Instant>) {
        self.due = due.map_or(Due::Off, Due::At);
    }

    /// Moves the deadline to `after` from the next poll, which is when waiting begins; zero switches it off.
    pub fn set_after(&mut self, after: Duration) {
        self.due = if after.is_zero() { Due::Off } else { Due::After(after) };
    }

    /// Sets the deadline to `after` from now unless one is set already.
    pub fn arm(&mut self, after: Duration) {
        if matches!(self.due, Due::Off) {
            self.set_after(after);
        }
    }

    /// Ready once the deadline has passed.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let due = match self.due {
            Due::Off => return Poll::Pending,
            Due::At(due) => due,
            Due::After(after) => {
                let due = time::now() + after;
                self.due = Due::At(due);
                due
            }
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() > due || (sleep.is_elapsed() && sleep.deadline() < due) {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// The deadlines of one upstream call: whichever of the current phase's and the whole call's comes first.
pub struct CallTimer {
    timeouts: Timeouts,
    total_due: Option<Instant>,
    phase: Phase,
    /// Whether the deadline of `phase` was computed; that waits until somebody really waits.
    armed: bool,
    deadline: Deadline,
}

impl CallTimer {
    /// A timer for a call that began at `started`.
    pub fn new(timeouts: Timeouts, started: Instant) -> Self {
        let total_due = (!timeouts.total.is_zero()).then(|| started + timeouts.total);
        Self { timeouts, total_due, phase: Phase::Connect, armed: false, deadline: Deadline::default() }
    }

    /// Begins `phase` (again): its deadline counts from the next poll. Costs nothing where nobody comes to wait.
    pub fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.armed = false;
    }

    /// Ready with the phase whose deadline has passed.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Phase> {
        if !self.armed {
            self.arm();
        }
        self.deadline.poll(context).map(|()| self.phase)
    }

    fn arm(&mut self) {
        self.armed = true;
        let allowed = match self.phase {
            Phase::Connect => self.timeouts.connect,
            Phase::FirstByte => self.timeouts.first_byte,
            Phase::Idle => self.timeouts.idle,
            Phase::Total => Duration::ZERO,
        };
        let due = (!allowed.is_zero()).then(|| time::now() + allowed);
        let (phase, due) = match (due, self.total_due) {
            (Some(due), Some(total)) if total < due => (Phase::Total, Some(total)),
            (None, Some(total)) => (Phase::Total, Some(total)),
            (due, _) => (self.phase, due),
        };
        self.phase = phase;
        self.deadline.set(due);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moved_later_fires_at_the_later_time() {
        let start = time::now();
        let mut deadline = Deadline::default();
        deadline.set_after(Duration::from_secs(1));
        assert!(poll_fn(|context| Poll::Ready(deadline.poll(context))).await.is_pending());
        deadline.set_after(Duration::from_secs(5));
        poll_fn(|context| deadline.poll(context)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        deadline.set_after(Duration::from_secs(2));
        poll_fn(|context| deadline.poll(context)).await;
        assert_eq!(start.elapsed().as_secs(), 7, "a timer that fired can be used again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moved_earlier_fires_at_the_earlier_time() {
        let start = time::now();
        let mut deadline = Deadline::default();
        deadline.set_after(Duration::from_secs(9));
        assert!(poll_fn(|context| Poll::Ready(deadline.poll(context))).await.is_pending());
        deadline.set_after(Duration::from_secs(2));
        poll_fn(|context| deadline.poll(context)).await;
        assert_eq!(start.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_total_deadline_wins_where_it_comes_first() {
        let timeouts = Timeouts {
            idle: Duration::from_secs(10),
            first_byte: Duration::ZERO,
            total: Duration::from_secs(15),
            ..Timeouts::default()
        };
        let mut timer = CallTimer::new(timeouts, time::now());
        timer.enter(Phase::Idle);
        assert_eq!(poll_fn(|context| timer.poll(context)).await, Phase::Idle);
        timer.enter(Phase::Idle);
        assert_eq!(poll_fn(|context| timer.poll(context)).await, Phase::Total);
        let mut timer = CallTimer::new(timeouts, time::now());
        timer.enter(Phase::FirstByte);
        assert_eq!(poll_fn(|context| timer.poll(context)).await, Phase::Total);
    }
}

//! A circuit breaker: closed, open for a while, half-open for one live call.
//!
//! All of its state that planning looks at is one number: until when it is open. 0 is closed. A time that has passed
//! is half-open: whoever moves it forward by [`TRIAL_MS`] has the trial, and everybody else goes on seeing it open. So
//! a trial that is never reported (its caller left) blocks nothing for longer than that.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aiproxy_config::snapshot::Health;

/// How long one live call may take to show that an upstream has recovered before another one may try.
const TRIAL_MS: u64 = 10_000;
/// The longest pause an upstream may ask for.
pub(crate) const LONGEST_HINT: Duration = Duration::from_secs(3600);
/// Parts of `health.window`; a part leaves the window as a whole.
const PARTS: u64 = 6;

/// Why a breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    /// Too many failures.
    Failures = 0,
    /// The upstream said that calls come too fast.
    RateLimited = 1,
    /// The upstream said that money or an allowance is used up.
    Exhausted = 2,
    /// The upstream does not accept the credential.
    Rejected = 3,
    /// The active check failed.
    Probe = 4,
}

impl Reason {
    fn of(code: u8) -> Self {
        match code {
            1 => Self::RateLimited,
            2 => Self::Exhausted,
            3 => Self::Rejected,
            4 => Self::Probe,
            _ => Self::Failures,
        }
    }

    /// The name used in logs and status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::RateLimited => "rate limited",
            Self::Exhausted => "quota used up",
            Self::Rejected => "credential refused",
            Self::Probe => "probe failed",
        }
    }
}

/// Whether a call may pass. Times are milliseconds since the gateway's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It may.
    Closed,
    /// One may, to see whether the upstream has recovered.
    HalfOpen,
    /// None may before this time.
    Open(u64, Reason),
}

/// The right to one trial call: what the breaker's number was set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trial(u64);

/// A circuit breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    open_until: AtomicU64,
    reason: AtomicU8,
    /// Whether there was a failure since all was well: to be asked without taking the lock.
    troubled: AtomicBool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    failures_in_row: u32,
    pauses_in_row: u32,
    parts: [Part; PARTS as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    number: u64,
    good: u32,
    bad: u32,
}

impl Breaker {
    /// Whether a call may pass.
    pub(crate) fn gate(&self, now_ms: u64) -> Gate {
        match self.open_until.load(Ordering::Acquire) {
            0 => Gate::Closed,
            until if until <= now_ms => Gate::HalfOpen,
            until => Gate::Open(until, Reason::of(self.reason.load(Ordering::Relaxed))),
        }
    }

    /// Takes the trial of a half-open breaker. `None` if another call was faster.
    pub(crate) fn take_trial(&self, now_ms: u64) -> Option<Trial> {
        let until = self.open_until.load(Ordering::Acquire);
        if until == 0 || until > now_ms {
            return None;
        }
        let trial = now_ms + TRIAL_MS;
        let taken = self.open_until.compare_exchange(until, trial, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok().then_some(Trial(trial))
    }

    /// The trial's call ended without saying anything: the next one may try at once.
    pub(crate) fn give_back(&self, trial: Trial, now_ms: u64) {
        self.open_until.compare_exchange(trial.0, now_ms.max(1), Ordering::AcqRel, Ordering::Acquire).ok();
    }

    /// The trial's call was served: all is well again. True if that changed anything.
    pub(crate) fn close(&self, trial: Trial) -> bool {
        let closed = self.open_until.compare_exchange(trial.0, 0, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if closed {
            *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = Counts::default();
        }
        closed
    }

    /// Closes it whatever its state: an active check passed.
    pub(crate) fn reset(&self) {
        self.open_until.store(0, Ordering::Release);
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = Counts::default();
    }

    /// A call went well.
    pub(crate) fn succeeded(&self, now_ms: u64, health: &Health) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.failures_in_row = 0;
        self.troubled.store(false, Ordering::Relaxed);
        counts.part(now_ms, health).good += 1;
    }

    /// Whether the last call that was counted failed. Takes no lock.
    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed)
    }

    /// A call failed; opens the breaker if that was one too many, or at once where the upstream asked for a pause.
    /// Returns how long it is open now, if it was opened.
    pub(crate) fn failed(
        &self,
        now_ms: u64,
        health: &Health,
        trial: Option<Trial>,
        hint: Option<Duration>,
    ) -> Option<Duration> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.failures_in_row = counts.failures_in_row.saturating_add(1);
        self.troubled.store(true, Ordering::Relaxed);
        counts.part(now_ms, health).bad += 1;
        let too_many = counts.failures_in_row >= health.failures || counts.error_rate_is_reached(now_ms, health);
        if trial.is_none() && hint.is_none() && !too_many {
            return None;
        }
        if let Some(trial) = trial {
            self.give_back(trial, now_ms);
        }
        let own = self.own_pause(&mut counts, now_ms, health.cooldown, health.max_cooldown);
        let pause = self.open(now_ms, own, hint, Reason::Failures);
        (!pause.is_zero()).then_some(pause)
    }

    /// The upstream asked for a pause, or will not serve for a reason that does not pass by itself. Returns how long the
    /// pause is, unless one runs already and this adds nothing to it.
    pub(crate) fn pause(
        &self,
        now_ms: u64,
        first: Duration,
        longest: Duration,
        hint: Option<Duration>,
        reason: Reason,
    ) -> Option<Duration> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.own_pause(&mut counts, now_ms, first, longest);
        let pause = self.open(now_ms, own, hint, reason);
        (!pause.is_zero()).then_some(pause)
    }

    /// Opens it until something closes it: an active check failed.
    pub(crate) fn open_for(&self, now_ms: u64, pause: Duration) {
        self.open(now_ms, pause, None, Reason::Probe);
    }

    /// The next pause of our own making. Where one runs already there is none: calls that were on their way when it
    /// began tell nothing new, and many of them at once must not make it as long as can be.
    fn own_pause(&self, counts: &mut Counts, now_ms: u64, first: Duration, longest: Duration) -> Duration {
        match self.gate(now_ms) {
            Gate::Open(..) => Duration::ZERO,
            Gate::Closed | Gate::HalfOpen => counts.next_pause(first, longest),
        }
    }

    /// The longest of all pauses wins.
    fn open(&self, now_ms: u64, own: Duration, hint: Option<Duration>, reason: Reason) -> Duration {
        let pause = own.max(hint.unwrap_or_default().min(LONGEST_HINT));
        if pause.is_zero() {
            return pause;
        }
        let until = now_ms + (pause.as_millis() as u64).max(1);
        if self.open_until.fetch_max(until, Ordering::AcqRel) < until {
            self.reason.store(reason as u8, Ordering::Relaxed);
        }
        pause
    }
}

impl Counts {
    fn part(&mut self, now_ms: u64, health: &Health) -> &mut Part {
        let number = now_ms / part_ms(health);
        let part = &mut self.parts[(number % PARTS) as usize];
        if part.number != number {
            *part = Part { number, good: 0, bad: 0 };
        }
        part
    }

    fn error_rate_is_reached(&self, now_ms: u64, health: &Health) -> bool {
        let newest = now_ms / part_ms(health);
        let recent = self.parts.iter().filter(|part| part.number + PARTS > newest);
        let (good, bad) =
            recent.fold((0u64, 0u64), |(good, bad), part| (good + u64::from(part.good), bad + u64::from(part.bad)));
        let all = good + bad;
        all >= u64::from(health.minimum_calls) && bad as f64 >= all as f64 * health.error_rate
    }

    /// Each further pause in a row is twice as long.
    fn next_pause(&mut self, first: Duration, longest: Duration) -> Duration {
        let pause = first.saturating_mul(1 << self.pauses_in_row.min(20)).min(longest.max(first));
        self.pauses_in_row = self.pauses_in_row.saturating_add(1);
        pause
    }
}

fn part_ms(health: &Health) -> u64 {
    (health.window.as_millis() as u64 / PARTS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health::default()
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_between_does_not() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            for now in 0..4 {
                assert_eq!(breaker.failed(now, &health(), None, None), None);
            }
            breaker.succeeded(4, &health());
        }
        for _ in 0..4 {
            breaker.failed(10, &health(), None, None);
        }
        assert_eq!(breaker.failed(10, &health(), None, None), Some(Duration::from_secs(5)));
        assert_eq!(breaker.gate(5_009), Gate::Open(5_010, Reason::Failures));
        assert_eq!(breaker.gate(5_010), Gate::HalfOpen);
    }

    #[test]
    fn the_error_rate_opens_it_even_where_successes_are_between() {
        let breaker = Breaker::default();
        let mut opened = None;
        for call in 0..20u64 {
            if call % 2 == 0 {
                breaker.succeeded(call, &health());
            } else {
                opened = breaker.failed(call, &health(), None, None);
                assert_eq!(opened.is_some(), call == 19, "call {call}");
            }
        }
        assert!(opened.is_some());
        // The same spread over a longer time than the window says nothing.
        let breaker = Breaker::default();
        for call in 0..200u64 {
            let now = call * 2_000;
            if call % 2 == 0 {
                breaker.succeeded(now, &health());
            } else {
                assert_eq!(breaker.failed(now, &health(), None, None), None);
            }
        }
    }

    #[test]
    fn half_open_lets_one_through_and_what_it_reports_decides() {
        let breaker = Breaker::default();
        breaker.pause(0, Duration::from_secs(1), Duration::from_secs(4), None, Reason::RateLimited);
        assert_eq!(breaker.take_trial(999), None);
        let trial = breaker.take_trial(1_000).unwrap();
        assert_eq!(breaker.take_trial(1_000), None, "one at a time");
        assert!(matches!(breaker.gate(1_001), Gate::Open(..)));
        assert_eq!(breaker.failed(1_500, &health(), Some(trial), None), Some(Duration::from_secs(10)));
        let breaker = Breaker::default();
        breaker.pause(0, Duration::from_secs(1), Duration::from_secs(4), None, Reason::RateLimited);
        let trial = breaker.take_trial(1_000).unwrap();
        breaker.give_back(trial, 1_200);
        let trial = breaker.take_trial(1_200).unwrap();
        assert!(breaker.close(trial));
        assert_eq!(breaker.gate(1_201), Gate::Closed);
    }

    #[test]
    fn a_trial_nobody_reports_blocks_the_next_one_only_for_a_while() {
        let breaker = Breaker::default();
        breaker.pause(0, Duration::from_secs(1), Duration::from_secs(4), None, Reason::Failures);
        breaker.take_trial(1_000).unwrap();
        assert_eq!(breaker.take_trial(1_000 + TRIAL_MS - 1), None);
        assert!(breaker.take_trial(1_000 + TRIAL_MS).is_some());
    }

    #[test]
    fn pauses_double_the_longest_wins_and_hints_are_bounded() {
        let breaker = Breaker::default();
        let pause = |now_ms, hint| {
            let (first, longest) = (Duration::from_secs(1), Duration::from_secs(4));
            breaker.pause(now_ms, first, longest, hint, Reason::RateLimited).unwrap_or_default().as_secs()
        };
        assert_eq!([0, 1_000, 3_000, 7_000].map(|now_ms| pause(now_ms, None)), [1, 2, 4, 4]);
        assert_eq!(pause(11_000, Some(Duration::from_secs(30))), 30);
        assert_eq!(breaker.gate(40_999), Gate::Open(41_000, Reason::RateLimited));
        pause(12_000, Some(Duration::from_secs(2)));
        assert_eq!(breaker.gate(40_999), Gate::Open(41_000, Reason::RateLimited), "the longest wins");
        assert_eq!(pause(12_000, Some(Duration::from_secs(365 * 86_400))), 3600, "a year is an hour");
    }

    #[test]
    fn many_calls_that_fail_at_once_make_one_pause_and_not_the_longest() {
        let breaker = Breaker::default();
        for _ in 0..50 {
            breaker.failed(0, &health(), None, None);
        }
        assert_eq!(breaker.gate(1), Gate::Open(5_000, Reason::Failures));
        let trial = breaker.take_trial(5_000).unwrap();
        assert_eq!(breaker.failed(5_000, &health(), Some(trial), None), Some(Duration::from_secs(10)), "the second");

        let limited = Breaker::default();
        for _ in 0..50 {
            limited.pause(0, Duration::from_secs(1), Duration::from_secs(60), None, Reason::RateLimited);
        }
        assert_eq!(limited.gate(1), Gate::Open(1_000, Reason::RateLimited));
    }
}

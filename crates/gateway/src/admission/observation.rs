//! What is remembered of an address that presented unknown keys.

use std::time::Duration;

use aiproxy_config::snapshot::BadCredentials;

use super::nanoseconds;
use super::table::Expires;

/// Parts of the window. A failure is forgotten between seven eighths of the window and the whole window after it: never
/// too late, and in a fixed amount of memory whatever the limit is.
const SLOTS: usize = 8;
/// Known keys remembered of one address.
const KEY_LIMIT: usize = 16;
/// What each further failure adds to the wait.
const DELAY_STEP: Duration = Duration::from_millis(50);
/// The longest wait. A waiting answer holds a connection, so it must not be long.
const DELAY_LIMIT: Duration = Duration::from_secs(1);

/// Failures of one address, and the keys that worked from it meanwhile.
#[derive(Default)]
pub(super) struct Observation {
    /// Failures by part of the window; part `n` of all time is at `n % SLOTS`.
    failures: [u32; SLOTS],
    /// The newest part of the window, counted from the start of the clock.
    newest: u64,
    /// How long a part is, in nanoseconds.
    slot: u64,
    /// When the address was blocked. How long that holds is the rule's to say, so that a reload may shorten it.
    blocked_at: Option<u64>,
    /// From here on nothing of this matters.
    over_at: u64,
    /// Beginnings of digests of known keys, the latest last.
    known_keys: Vec<u64>,
}

/// What a failure leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// How long the answer should wait.
    pub(super) delay: Duration,
    /// The number of failures, if this one got the address blocked.
    pub(super) blocked_after: Option<u32>,
}

impl Observation {
    /// Counts one unknown key. While the address is blocked nothing is counted: what still comes was on its way before.
    pub(super) fn fail(&mut self, rule: &BadCredentials, now: u64) -> Failure {
        if self.block_left(rule, now).is_some() {
            return Failure { delay: DELAY_LIMIT, blocked_after: None };
        }
        self.blocked_at = None;
        let window = nanoseconds(rule.window);
        let count = self.count(window, now);
        self.over_at = now.saturating_add(window);
        let is_blocked = count >= rule.limit;
        if is_blocked {
            self.failures = [0; SLOTS];
            self.blocked_at = Some(now);
            // One window longer than the block, so that known keys are still there if failures go on after it.
            self.over_at = self.over_at.saturating_add(nanoseconds(rule.block));
        }
        Failure { delay: delay(count, rule.limit), blocked_after: is_blocked.then_some(count) }
    }

    /// How much longer a call with `known_key`, or with none, is refused.
    pub(super) fn refused(&mut self, known_key: Option<u64>, rule: &BadCredentials, now: u64) -> Option<Duration> {
        let is_remembered = known_key.is_some_and(|key| self.known_keys.contains(&key));
        let left = self.block_left(rule, now);
        match known_key {
            Some(key) if left.is_none() && !is_remembered => self.remember(key),
            _ => {}
        }
        left.filter(|_| !is_remembered)
    }

    fn remember(&mut self, key: u64) {
        if self.known_keys.len() == KEY_LIMIT {
            self.known_keys.remove(0);
        }
        self.known_keys.push(key);
    }

    fn block_left(&self, rule: &BadCredentials, now: u64) -> Option<Duration> {
        let ends_at = self.blocked_at?.saturating_add(nanoseconds(rule.block));
        ends_at.checked_sub(now).filter(|left| *left > 0).map(Duration::from_nanos)
    }

    /// Adds one failure and returns how many lie within the window. A reload that changes the window starts anew.
    fn count(&mut self, window: u64, now: u64) -> u32 {
        let slot = (window / SLOTS as u64).max(1);
        if slot != self.slot {
            self.slot = slot;
            self.failures = [0; SLOTS];
            self.newest = now / slot;
        }
        // Another thread may have read the clock a little later and come first; then nothing has passed.
        let passed = (now / slot).saturating_sub(self.newest);
        for part in 1..=passed.min(SLOTS as u64) {
            self.failures[position(self.newest + part)] = 0;
        }
        self.newest += passed;
        let newest = &mut self.failures[position(self.newest)];
        *newest = newest.saturating_add(1);
        self.failures.iter().fold(0, |sum, part| sum.saturating_add(*part))
    }
}

impl Expires for Observation {
    fn is_over(&self, now: u64) -> bool {
        self.over_at <= now
    }
}

fn position(part: u64) -> usize {
    (part % SLOTS as u64) as usize
}

/// The wait after `count` failures of `limit`.
fn delay(count: u32, limit: u32) -> Duration {
    let steps = (count + 1).saturating_sub((limit / 3).max(1));
    DELAY_STEP.saturating_mul(steps).min(DELAY_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const RULE: BadCredentials =
        BadCredentials { limit: 30, window: Duration::from_secs(60), block: Duration::from_secs(60) };

    fn fail(observation: &mut Observation, times: usize) {
        for _ in 0..times {
            observation.fail(&RULE, 0);
        }
    }

    #[test]
    fn answers_come_slower_from_a_third_of_the_limit_on() {
        let mut observation = Observation::default();
        let delays: Vec<_> = (0..30).map(|_| observation.fail(&RULE, 0).delay.as_millis()).collect();
        assert_eq!(delays[..9], [0; 9]);
        assert_eq!(delays[9..12], [50, 100, 150]);
        assert_eq!(delays[27..], [950, 1_000, 1_000]);
    }

    #[test]
    fn a_failure_is_forgotten_within_the_last_eighth_of_the_window() {
        let mut random = fastrand::Rng::with_seed(35);
        let (mut observation, mut past, mut now) = (Observation::default(), Vec::new(), 0);
        for _ in 0..5_000 {
            now += random.u64(0..10 * SECOND);
            past.push(now);
            let count = observation.count(60 * SECOND, now) as usize;
            let within = |seconds: u64| past.iter().filter(|at| now - **at < seconds * SECOND / 10).count();
            assert!((within(525)..=within(600)).contains(&count));
        }
        assert_eq!(observation.count(60 * SECOND, now + 60 * SECOND), 1);
    }

    #[test]
    fn the_block_is_announced_once_and_the_count_starts_anew_after_it() {
        let mut observation = Observation::default();
        let blocks: Vec<_> = (0..60).filter_map(|_| observation.fail(&RULE, 7).blocked_after).collect();
        assert_eq!(blocks, [30]);
        assert_eq!(observation.refused(None, &RULE, 7 + 59 * SECOND), Some(Duration::from_secs(1)));
        assert_eq!(observation.refused(None, &RULE, 7 + 60 * SECOND), None);
        assert_eq!(observation.fail(&RULE, 7 + 60 * SECOND), Failure { delay: Duration::ZERO, blocked_after: None });
    }

    #[test]
    fn a_reload_that_shortens_the_block_sets_the_address_free() {
        let mut observation = Observation::default();
        fail(&mut observation, 30);
        let short = BadCredentials { block: Duration::from_secs(5), ..RULE };
        assert_eq!(observation.refused(None, &short, 4 * SECOND), Some(Duration::from_secs(1)));
        assert_eq!(observation.refused(None, &short, 5 * SECOND), None);
    }

    #[test]
    fn the_latest_sixteen_known_keys_are_remembered() {
        let mut observation = Observation::default();
        observation.fail(&RULE, 0);
        (0..20).for_each(|key| assert_eq!(observation.refused(Some(key), &RULE, 0), None));
        fail(&mut observation, 29);
        let working: Vec<_> = (0..25).filter(|key| observation.refused(Some(*key), &RULE, 0).is_none()).collect();
        assert_eq!(working, (4..20).collect::<Vec<_>>());
    }
}

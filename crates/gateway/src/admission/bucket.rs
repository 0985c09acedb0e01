//! Token buckets as one number each: the generic cell rate algorithm (ITU-T I.371), in nanoseconds.
//!
//! A bucket is the time at which it will be full again. Each call moves that time on by one interval, and a call may
//! come as long as that time stays within one bucket's worth from now. Zero is a full bucket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aiproxy_config::snapshot::Rate;

use super::table::Expires;

/// How far a clock reading may be behind that of another thread. A bucket that is emptier than empty by more than this
/// was emptied under an older, slower rate.
const CLOCK_LAG: u64 = 1_000_000_000;

/// A [`Rate`] in the bucket's terms.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// Nanoseconds in which one call is refilled.
    interval: u64,
    /// Nanoseconds in which the whole bucket is refilled.
    size: u64,
}

impl Pace {
    pub(super) fn of(rate: Rate) -> Self {
        // The cast saturates: a rate near zero becomes the longest interval there is.
        let interval = ((1e9 / rate.requests_per_second).round() as u64).max(1);
        Self { interval, size: interval.saturating_mul(u64::from(rate.burst.max(1))) }
    }

    /// When a bucket that would be full at `full_at` is full, by this pace. A debt that this pace cannot have made comes
    /// from before a reload and is cut down to an empty bucket.
    fn settle(self, full_at: u64, now: u64) -> u64 {
        let empty = now.saturating_add(self.size);
        if full_at > empty.saturating_add(CLOCK_LAG) { empty } else { full_at }
    }

    /// One call: when the bucket is full after it, or how long it has to wait.
    fn take(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let latest = now.saturating_add(self.size - self.interval);
        match full_at.checked_sub(latest) {
            None | Some(0) => Ok(full_at.max(now).saturating_add(self.interval)),
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }
}

/// The bucket of all calls together. Exact however many threads take from it at once.
#[derive(Default)]
pub(super) struct SharedBucket {
    full_at: AtomicU64,
}

impl SharedBucket {
    /// Takes one call, or returns how long it has to wait.
    pub(super) fn take(&self, pace: Pace, now: u64) -> Result<(), Duration> {
        // Relaxed is enough: the number guards nothing but itself.
        let mut seen = self.full_at.load(Ordering::Relaxed);
        loop {
            let settled = pace.settle(seen, now);
            let (next, outcome) = match pace.take(settled, now) {
                Ok(next) => (next, Ok(())),
                Err(wait) => (settled, Err(wait)),
            };
            if next == seen {
                return outcome;
            }
            match self.full_at.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return outcome,
                Err(actual) => seen = actual,
            }
        }
    }
}

/// The bucket of one address; a lock guards it.
#[derive(Clone, Copy, Default)]
pub(super) struct AddressBucket {
    full_at: u64,
}

impl AddressBucket {
    /// The bucket after one more call, or how long that call has to wait.
    pub(super) fn next(&mut self, pace: Pace, now: u64) -> Result<Self, Duration> {
        self.full_at = pace.settle(self.full_at, now);
        pace.take(self.full_at, now).map(|full_at| Self { full_at })
    }
}

impl Expires for AddressBucket {
    fn is_over(&self, now: u64) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn pace(requests_per_second: f64, burst: u32) -> Pace {
        Pace::of(Rate { requests_per_second, burst })
    }

    fn passes(bucket: &SharedBucket, pace: Pace, now: u64) -> usize {
        (0..1_000).take_while(|_| bucket.take(pace, now).is_ok()).count()
    }

    #[test]
    fn the_burst_is_exact_and_refills_one_call_per_interval() {
        let bucket = SharedBucket::default();
        let pace = pace(20.0, 40);
        assert_eq!(passes(&bucket, pace, 0), 40);
        assert_eq!(passes(&bucket, pace, SECOND / 20 - 1), 0);
        assert_eq!(passes(&bucket, pace, SECOND / 20), 1);
        assert_eq!(passes(&bucket, pace, SECOND), 19);
        assert_eq!(passes(&bucket, pace, 100 * SECOND), 40);
    }

    #[test]
    fn no_more_than_burst_and_rate_pass_in_any_order_of_calls() {
        let mut random = fastrand::Rng::with_seed(142);
        for _ in 0..200 {
            let (rate, burst) = (random.u32(1..200), random.u32(1..50));
            let (bucket, pace) = (SharedBucket::default(), pace(f64::from(rate), burst));
            let (mut now, mut passed) = (0, 0);
            for _ in 0..500 {
                now += random.u64(0..SECOND / 50);
                match bucket.take(pace, now) {
                    Ok(()) => passed += 1,
                    Err(wait) => {
                        let wait = wait.as_nanos() as u64;
                        assert!(bucket.take(pace, now + wait - 1).is_err(), "a nanosecond before it is too early");
                        now += wait;
                        assert!(bucket.take(pace, now).is_ok(), "after the wait a call passes");
                        passed += 1;
                    }
                }
                assert!(passed <= u64::from(burst) + now / pace.interval);
            }
        }
    }

    #[test]
    fn a_debt_of_a_slower_rate_does_not_outlive_it() {
        let bucket = SharedBucket::default();
        assert_eq!(passes(&bucket, pace(1.0, 60), 0), 60);
        let fast = pace(100.0, 10);
        assert_eq!(bucket.take(fast, 0), Err(Duration::from_millis(10)));
        assert_eq!(passes(&bucket, fast, SECOND), 10);
    }

    #[test]
    fn rates_out_of_range_deny_rather_than_overflow() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX] {
            let bucket = SharedBucket::default();
            assert!(bucket.take(pace(rate, 1), 5).is_ok());
            let _outcome = bucket.take(pace(rate, u32::MAX), u64::MAX);
        }
    }
}

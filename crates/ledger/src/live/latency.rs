//! How long things took: a fine histogram that percentiles are read from, and a coarse one with the bounds of the
//! exported metric.

use serde::{Deserialize, Serialize};

/// Bins per doubling of the duration: a bin is at most 6.3 % wide.
const STEPS: u64 = 16;
const STEP_BITS: u32 = STEPS.ilog2();
/// Below this many microseconds a bin is one microsecond.
const LINEAR: u64 = 2 * STEPS;
/// About 78 hours; what takes longer is counted as that.
const LONGEST_US: u64 = 1 << 38;

/// A histogram of durations with about 3 % precision, of fixed size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Counts by bin, up to the longest that occurred.
    bins: Vec<u64>,
}

impl Latency {
    /// Counts a duration in microseconds.
    pub fn add(&mut self, us: u64) {
        let bin = bin(us.min(LONGEST_US));
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] += 1;
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// The duration in microseconds that a share (0 to 1) of all do not exceed, within about 3 %. `None` if there are
    /// none.
    #[must_use]
    pub fn percentile_us(&self, share: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        let bin = self.bins.iter().position(|bin| {
            below += bin;
            below >= rank
        })?;
        Some(middle(bin))
    }
}

/// Values below [`LINEAR`] are their own bin; from there on each doubling has [`STEPS`].
const fn bin(us: u64) -> usize {
    if us < LINEAR {
        return us as usize;
    }
    let shift = us.ilog2() - STEP_BITS;
    (shift as u64 * STEPS + (us >> shift)) as usize
}

/// The middle of a bin.
fn middle(bin: usize) -> u64 {
    let bin = bin as u64;
    if bin < LINEAR {
        return bin;
    }
    let shift = bin / STEPS - 1;
    let first = (bin - shift * STEPS) << shift;
    first + (1 << shift) / 2
}

/// Upper bounds of [`Buckets`], in microseconds: 5 ms to 10 min.
pub const BOUNDS_US: [u64; 17] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    15_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
];

/// A histogram with fixed bounds, as it is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// How many were within each of [`BOUNDS_US`] but not within the one before; the last one, in none.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Buckets {
    /// Counts a duration in microseconds.
    pub fn add(&mut self, us: u64) {
        self.counts[BOUNDS_US.partition_point(|bound| *bound < us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_of_none_one_and_many() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile_us(0.5), None);
        latency.add(7);
        assert_eq!([0.0, 0.5, 1.0, f64::NAN].map(|share| latency.percentile_us(share)), [Some(7); 4]);
        let mut latency = Latency::default();
        (1..=1_000).for_each(|ms| latency.add(ms * 1_000));
        for (share, exact) in [(0.5, 500_000), (0.95, 950_000), (0.99, 990_000)] {
            let us = latency.percentile_us(share).unwrap();
            assert!(us.abs_diff(exact) * 30 < exact, "{share}: {us}");
        }
        assert_eq!(latency.count(), 1_000);
    }

    #[test]
    fn bins_follow_each_other_without_a_gap_and_are_bounded() {
        assert_eq!([0, 1, 31, 32, 33, 34, 63, 64].map(bin), [0, 1, 31, 32, 32, 33, 47, 48]);
        let mut latency = Latency::default();
        latency.add(u64::MAX);
        assert_eq!(latency.bins.len(), 561);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut buckets = Buckets::default();
        [0, 5_000, 5_001, 600_000_000, 600_000_001, u64::MAX].into_iter().for_each(|us| buckets.add(us));
        assert_eq!((buckets.counts[0], buckets.counts[1], buckets.counts[16], buckets.counts[17]), (2, 1, 1, 2));
        assert_eq!((buckets.count(), buckets.sum_us), (6, u64::MAX));
    }

    proptest! {
        #[test]
        fn the_middle_of_a_bin_is_within_four_percent(us in 0..LONGEST_US) {
            prop_assert!(middle(bin(us)).abs_diff(us) * 25 <= us, "{us}: {}", middle(bin(us)));
            prop_assert_eq!(bin(middle(bin(us))), bin(us));
        }

        #[test]
        fn longer_is_never_in_a_lower_bin(one in 0..LONGEST_US, other in 0..LONGEST_US) {
            prop_assert!(bin(one.min(other)) <= bin(one.max(other)));
        }
    }
}

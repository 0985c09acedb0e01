//! Sharing load by weight. Pure.
//!
//! Without affinity a call gets the next point of a sequence that fills the unit cube evenly (an additive recurrence
//! with three irrational steps; the first two are M. Roberts' R2 from "The unreasonable effectiveness of quasirandom
//! sequences", the third is the square root of 13, which of fourteen roots keeps the joint shares best): shares hold
//! within a few calls, where dice would be off by a percent after ten thousand. With affinity the conversation decides:
//! weighted rendezvous hashing (Thaler and Ravishankar 1998) needs no memory, is the same in every process, and moves a
//! conversation only if the credential it was with is gone.

use std::sync::atomic::{AtomicU64, Ordering};

/// A point that decides about channel, credential and endpoint, each as a fraction of 2⁶⁴.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) channel: u64,
    pub(crate) credential: u64,
    pub(crate) endpoint: u64,
}

impl Share {
    /// A random point: for calls that go on after a failure, which must not all meet at the same place.
    pub(crate) fn random() -> Self {
        Self { channel: fastrand::u64(..), credential: fastrand::u64(..), endpoint: fastrand::u64(..) }
    }
}

/// The sequence of one worker.
#[derive(Debug)]
pub(crate) struct Sequence(AtomicU64);

impl Sequence {
    /// A sequence that starts anywhere, so that workers do not walk in step.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(fastrand::u64(..1 << 32)))
    }

    /// The next point.
    pub(crate) fn next(&self) -> Share {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Share {
            channel: number.wrapping_mul(0xc13f_a9a9_02a6_328f),
            credential: number.wrapping_mul(0x91e1_0da5_c79e_7b1d),
            endpoint: number.wrapping_mul(0x9b05_688c_2b3e_6c1f),
        }
    }
}

/// The index of the item that `point` falls on, items being as wide as their weights. All zero means all alike.
pub(crate) fn by_weight(items: impl Iterator<Item = (usize, u32)> + Clone, point: u64) -> Option<usize> {
    let (count, total) =
        items.clone().fold((0u64, 0u64), |(count, total), (_, weight)| (count + 1, total + u64::from(weight)));
    if count <= 1 {
        return items.map(|(index, _)| index).next();
    }
    let (total, equal) = if total == 0 { (count, true) } else { (total, false) };
    let mut place = ((u128::from(point) * u128::from(total)) >> 64) as u64;
    for (index, weight) in items {
        let width = if equal { 1 } else { u64::from(weight) };
        if place < width {
            return Some(index);
        }
        place -= width;
    }
    None
}

/// The index of the item that `conversation` belongs to, in proportion to weights. Items come as index, weight and
/// identity.
pub(crate) fn rendezvous(conversation: u64, items: impl Iterator<Item = (usize, u32, u64)>) -> Option<usize> {
    let score = |weight: u32, identity: u64| {
        // From the open interval (0, 1), so that the logarithm is finite and below 0.
        let unit = ((mix(conversation ^ mix(identity)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -f64::from(weight.max(1)) / unit.ln()
    };
    items
        .map(|(index, weight, identity)| (index, score(weight, identity)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|best| best.0)
}

/// Spreads every bit over all (S. Vigna, "splitmix64").
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: usize = 10_000;

    fn shares(weights: &[u32], mut choose: impl FnMut(usize) -> Option<usize>) -> Vec<f64> {
        let mut counts = vec![0u32; weights.len()];
        for call in 0..CALLS {
            counts[choose(call).unwrap()] += 1;
        }
        counts.iter().map(|count| f64::from(*count) / CALLS as f64).collect()
    }

    fn assert_close(weights: &[u32], shares: &[f64], most: f64) {
        let total: u32 = weights.iter().sum();
        for (weight, share) in weights.iter().zip(shares) {
            let expected = f64::from(*weight) / f64::from(total);
            let three_calls = 3.0 / CALLS as f64;
            assert!((share - expected).abs() <= (expected * most).max(three_calls), "{weights:?} {shares:?}");
        }
    }

    #[test]
    fn weights_hold_within_two_percent_of_each_share() {
        for weights in [&[1u32, 1][..], &[1, 2, 5], &[1, 99], &[3, 3, 3, 1], &[1_000_000, 1_000_000]] {
            let sequence = Sequence::new();
            let items = || weights.iter().copied().enumerate();
            assert_close(weights, &shares(weights, |_| by_weight(items(), sequence.next().channel)), 0.02);
        }
    }

    /// The three shares of a point must not move in step: every combination gets its part.
    #[test]
    fn joint_shares_hold_within_two_percent_too() {
        let layouts: [[&[u32]; 3]; 6] = [
            [&[1, 2, 3], &[1, 1], &[1]],
            [&[1, 2, 3], &[1, 1], &[1, 1]],
            [&[1, 1, 1], &[1, 1, 1, 1, 1], &[1]],
            [&[1, 1], &[1, 2], &[1, 3]],
            [&[1], &[1, 2, 5], &[1, 1]],
            [&[1], &[1], &[1, 1, 1]],
        ];
        for [channels, credentials, endpoints] in layouts {
            let sequence = Sequence::new();
            let pick = |weights: &[u32], point| by_weight(weights.iter().copied().enumerate(), point).unwrap();
            let joint: Vec<u32> = (channels.iter())
                .flat_map(|channel| credentials.iter().map(move |credential| channel * credential))
                .flat_map(|pair| endpoints.iter().map(move |endpoint| pair * endpoint))
                .collect();
            let shares = shares(&joint, |_| {
                let share = sequence.next();
                let channel = pick(channels, share.channel);
                let credential = pick(credentials, share.credential);
                let endpoint = pick(endpoints, share.endpoint);
                Some((channel * credentials.len() + credential) * endpoints.len() + endpoint)
            });
            assert_close(&joint, &shares, 0.02);
        }
    }

    #[test]
    fn every_other_call_of_a_sequence_is_shared_as_well() {
        let sequence = Sequence::new();
        let choose = |_| {
            sequence.next();
            by_weight([(0, 1), (1, 1)].into_iter(), sequence.next().channel)
        };
        assert_close(&[1, 1], &shares(&[1, 1], choose), 0.02);
    }

    #[test]
    fn one_item_needs_no_weight_and_none_gives_none() {
        assert_eq!(by_weight([(4, 0)].into_iter(), 9), Some(4));
        assert_eq!(by_weight([(0, 0), (1, 0)].into_iter(), u64::MAX), Some(1), "all zero: all alike");
        assert_eq!(by_weight(std::iter::empty(), 9), None);
    }

    #[test]
    fn conversations_are_shared_by_weight_and_stay() {
        let weights = [1u32, 2, 5];
        let items = |without: usize| {
            let all = weights.iter().enumerate().map(|(index, weight)| (index, *weight, index as u64 + 77));
            all.filter(move |(index, ..)| *index != without)
        };
        let whole = shares(&weights, |call| rendezvous(call as u64, items(9)));
        assert_close(&weights, &whole, 0.08);
        for conversation in 0..1_000 {
            let before = rendezvous(conversation, items(9)).unwrap();
            let after = rendezvous(conversation, items(1)).unwrap();
            assert!(before == 1 || before == after, "only those of the lost one move");
        }
    }
}

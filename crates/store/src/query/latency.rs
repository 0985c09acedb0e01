//! How long calls took: histograms that add up, and the percentiles read from them.

use std::sync::LazyLock;

use crate::bins::{HIGHEST_BIN, bin_of, bin_value};

/// A histogram of durations. Its percentiles are within 4.5 % of the exact ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Calls by bin, in rising order of bins.
    bins: Vec<(i16, i64)>,
}

impl Histogram {
    /// Adds `calls` to a bin.
    pub(super) fn add(&mut self, bin: i16, calls: i64) {
        match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(index) => self.bins[index].1 = self.bins[index].1.saturating_add(calls),
            Err(index) => self.bins.insert(index, (bin, calls)),
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (bin, calls) in &other.bins {
            self.add(*bin, *calls);
        }
    }

    /// The duration in microseconds that `share` (0 to 1) of the calls did not exceed; `None` without calls.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let calls: i64 = self.bins.iter().map(|(_, calls)| calls).sum();
        let wanted = ((calls as f64 * share).ceil() as i64).clamp(1, calls.max(1));
        let mut seen = 0;
        let bin = self.bins.iter().find(|(_, calls)| {
            seen += calls;
            seen >= wanted
        });
        bin.map(|(bin, _)| bin_value(*bin))
    }

    /// Calls in it.
    #[must_use]
    pub fn calls(&self) -> i64 {
        self.bins.iter().map(|(_, calls)| calls).sum()
    }
}

/// How long calls took, and how long to their first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// From the head to the end of the call.
    pub duration: Histogram,
    /// From the head to the first byte, of calls that had one.
    pub first_byte: Histogram,
}

impl Latency {
    /// Adds `calls` to a bin of a kind, as the table names it.
    pub(super) fn add(&mut self, kind: i64, bin: i64, calls: i64) {
        let bin = bin.clamp(0, i64::from(HIGHEST_BIN)) as i16;
        if kind == 0 { self.duration.add(bin, calls) } else { self.first_byte.add(bin, calls) }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.duration.merge(&other.duration);
        self.first_byte.merge(&other.first_byte);
    }
}

/// The bin of a column in SQL: [`bin_of`] as a tree of comparisons, since logarithms of three databases need not agree on
/// the last bit. `{}` stands for the column.
pub(super) static BIN: LazyLock<String> = LazyLock::new(|| {
    let mut bins = vec![(0, 0)];
    while let Some((from, bin)) = bins.last().and_then(|(from, bin)| next_bin(*from, *bin)) {
        bins.push((from, bin));
    }
    let mut text = String::new();
    tree(&bins, &mut text);
    text
});

/// The shortest duration above bin `bin`, which `from` is in, and its bin.
fn next_bin(from: u64, bin: i16) -> Option<(u64, i16)> {
    let (mut low, mut high) = (from, u64::MAX);
    if bin_of(high) <= bin {
        return None;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if bin_of(middle) > bin { high = middle } else { low = middle }
    }
    Some((high, bin_of(high)))
}

fn tree(bins: &[(u64, i16)], text: &mut String) {
    let (left, right) = bins.split_at(bins.len() / 2);
    let ([.., _], [(from, bin), ..]) = (left, right) else {
        text.push_str(&right.first().map_or(0, |(_, bin)| *bin).to_string());
        return;
    };
    let _: &i16 = bin;
    text.push_str("CASE WHEN {} < ");
    text.push_str(&from.to_string());
    text.push_str(" THEN ");
    tree(left, text);
    text.push_str(" ELSE ");
    tree(right, text);
    text.push_str(" END");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_calls() {
        let mut latency = Latency::default();
        assert_eq!(latency.duration.percentile(0.5), None);
        for ms in 1..=1000_u64 {
            latency.add(0, i64::from(bin_of(ms * 1000)), 1);
        }
        for (share, exact) in [(0.5, 500_000.0), (0.95, 950_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let value = latency.duration.percentile(share).unwrap() as f64;
            assert!((value - exact).abs() <= exact * 0.045 + 1.0, "{share}: {value}");
        }
        let before = latency.clone();
        latency.merge(&before);
        assert_eq!(latency.duration.calls(), 2000);
        assert_eq!(latency.duration.percentile(0.5), before.duration.percentile(0.5));
        assert_eq!(latency.first_byte.percentile(0.5), None);
    }

    #[test]
    fn the_tree_is_as_deep_as_it_must_be_and_no_deeper() {
        let (mut depth, mut deepest) = (0, 0);
        for word in BIN.split(' ') {
            depth += i32::from(word == "CASE") - i32::from(word == "END");
            deepest = deepest.max(depth);
        }
        assert_eq!((depth, deepest <= 10), (0, true), "{deepest}");
        assert!(BIN.len() < 20_000, "{}", BIN.len());
    }
}

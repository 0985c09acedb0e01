//! What a batch adds to the sums by hour, day and month, and to the histograms of latency.

use std::collections::HashMap;
use std::hash::Hash;

use aiproxy_ledger::Entry;

use crate::bins::bin_of;
use crate::buckets::{Granularity, Period};
use crate::record_rows::{USAGES, count, money, usage_numbers};
use crate::rows::{Column, Repeated, Table};

pub(crate) static ROLLUPS: Table = Table {
    name: "rollups",
    columns: &[
        "granularity",
        "bucket",
        "series_id",
        "calls",
        "succeeded",
        "counted",
        "duration_us",
        "first_byte_us",
        "first_byte_calls",
        "request_bytes",
        "response_bytes",
        "cost",
        "unpriced",
        "estimated",
        "input",
        "output",
        "cached",
        "cache_write",
        "cache_write_long",
        "reasoning",
        "audio_input",
        "audio_output",
        "image_input",
        "image_output",
        "image",
        "video",
        "characters",
        "searches",
        "seconds_ms",
    ],
    key: &["granularity", "bucket", "series_id"],
    repeated: Repeated::Adds,
};

pub(crate) static LATENCY: Table = Table {
    name: "rollup_latency",
    columns: &["granularity", "bucket", "series_id", "kind", "bin", "calls"],
    key: &["granularity", "bucket", "series_id", "kind", "bin"],
    repeated: Repeated::Adds,
};

/// Sums beside the usage.
const PLAIN: usize = 11;

/// The sums of a bucket, in the order of the columns from `calls` on.
type Sums = [i64; PLAIN + USAGES];

/// What is added. The columns of latency are kind and bin.
#[derive(Debug, Default)]
pub(crate) struct Rollup {
    sums: HashMap<(Period, i64), Sums>,
    latency: HashMap<(Period, i64, i64, i64), i64>,
}

impl Rollup {
    /// Adds one record.
    pub(crate) fn add(&mut self, entry: &Entry<'_>, series: i64, period: Period) {
        let sums = self.sums.entry((period, series)).or_insert([0; PLAIN + USAGES]);
        let succeeded = entry.status < 400 && matches!(entry.end, "complete" | "client_closed");
        let plain: [i64; PLAIN] = [
            1,
            succeeded.into(),
            entry.counted.into(),
            count(entry.duration_us),
            entry.first_byte_us.map_or(0, count),
            entry.first_byte_us.is_some().into(),
            count(entry.request_bytes),
            count(entry.response_bytes),
            entry.cost.map_or(0, money),
            entry.is_unpriced().into(),
            (entry.usage_source == "estimated").into(),
        ];
        let usage = usage_numbers(entry.usage.as_ref()).map(|number| number.unwrap_or(0));
        for (sum, number) in sums.iter_mut().zip(plain.into_iter().chain(usage)) {
            *sum = sum.saturating_add(number);
        }
        // The histograms are of response times only. The sums are of everything; questions leave out what is no response
        // time, see `query::totals`.
        let timed = if entry.is_session() { [None; 2] } else { [Some(entry.duration_us), entry.first_byte_us] };
        for (kind, us) in [0, 1].into_iter().zip(timed) {
            if let Some(us) = us {
                *self.latency.entry((period, series, kind, bin_of(us).into())).or_insert(0) += 1;
            }
        }
    }

    /// The rows to add to `rollups`, in the order of its key: instances that add to the same rows wait for each other,
    /// never in a circle.
    pub(crate) fn columns(&self) -> Vec<Column<'static>> {
        let sums = by_bucket(
            self.sums.iter().map(|((period, series), sums)| (*period, (*series, 0, 0), *sums)),
            [0; PLAIN + USAGES],
            |sum, more| sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more)),
        );
        let mut columns = vec![
            Column::Int(sums.iter().map(|((granularity, ..), _)| *granularity).collect()),
            Column::Int(sums.iter().map(|((_, bucket, _), _)| *bucket).collect()),
            Column::Int(sums.iter().map(|((_, _, (series, ..)), _)| *series).collect()),
        ];
        columns.extend((0..PLAIN + USAGES).map(|at| Column::Int(sums.iter().map(|(_, sums)| sums[at]).collect())));
        columns
    }

    /// The rows to add to `rollup_latency`, in the order of its key.
    pub(crate) fn latency_columns(&self) -> Vec<Column<'static>> {
        let calls = by_bucket(
            self.latency.iter().map(|((period, series, kind, bin), calls)| (*period, (*series, *kind, *bin), *calls)),
            0,
            |sum, more| *sum += more,
        );
        vec![
            Column::Int(calls.iter().map(|((granularity, ..), _)| *granularity).collect()),
            Column::Int(calls.iter().map(|((_, bucket, _), _)| *bucket).collect()),
            Column::Int(calls.iter().map(|((_, _, (series, ..)), _)| *series).collect()),
            Column::Int(calls.iter().map(|((_, _, (_, kind, _)), _)| *kind).collect()),
            Column::Int(calls.iter().map(|((_, _, (.., bin)), _)| *bin).collect()),
            Column::Int(calls.iter().map(|(_, calls)| *calls).collect()),
        ]
    }
}

/// Folds what belongs to periods into hours, days and months; sorted.
fn by_bucket<K: Copy + Eq + Hash + Ord, S: Copy>(
    parts: impl Iterator<Item = (Period, K, S)> + Clone,
    zero: S,
    add: impl Fn(&mut S, S),
) -> Vec<((i64, i64, K), S)> {
    let mut folded = Vec::new();
    for granularity in Granularity::ALL {
        let mut buckets: HashMap<(i64, i64, K), S> = HashMap::new();
        for (period, key, sum) in parts.clone() {
            let key = (granularity.code(), period.bucket(granularity), key);
            add(buckets.entry(key).or_insert(zero), sum);
        }
        folded.extend(buckets);
    }
    folded.sort_unstable_by_key(|(key, _)| *key);
    folded
}

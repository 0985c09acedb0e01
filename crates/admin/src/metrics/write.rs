//! Writing families of series: a name, a sentence, and rows of labels and values.

use std::fmt;

use aiproxy_ledger::live::{Buckets, Family, latency::BOUNDS_US};
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Labels of one series.
pub(super) type Labels<'text, const LABELS: usize> = [(&'static str, &'text str); LABELS];

/// The page being written.
pub(super) struct Page<'encoder>(DescriptorEncoder<'encoder>);

impl<'encoder> Page<'encoder> {
    pub(super) fn new(encoder: DescriptorEncoder<'encoder>) -> Self {
        Self(encoder)
    }

    /// A counter. `_total` is added to its name.
    pub(super) fn counter<'text, const LABELS: usize, Value: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'text, LABELS>, Value)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        rows.into_iter().try_for_each(|(labels, value)| {
            with_labels(&mut family, &labels, |metric| metric.encode_counter::<NoLabelSet, _, u64>(&value, None))
        })
    }

    /// A gauge.
    pub(super) fn gauge<'text, const LABELS: usize, Value: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'text, LABELS>, Value)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        rows.into_iter()
            .try_for_each(|(labels, value)| with_labels(&mut family, &labels, |metric| metric.encode_gauge(&value)))
    }

    /// Counters of calls.
    pub(super) fn counts<const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        family: &Family<LABELS, u64>,
    ) -> fmt::Result {
        self.counter(name, help, rows(family).map(|(labels, count)| (labels, *count)))
    }

    /// Counters of thousandths or millionths, written as whole units.
    pub(super) fn parts<const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        parts: f64,
        family: &Family<LABELS, u64>,
    ) -> fmt::Result {
        self.counter(name, help, rows(family).map(|(labels, count)| (labels, *count as f64 / parts)))
    }

    /// Histograms of durations. `_seconds` is added to the name.
    pub(super) fn durations<const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        family: &Family<LABELS, Buckets>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        rows(family).try_for_each(|(labels, buckets)| {
            let bounds = BOUNDS_US.iter().map(|us| seconds(*us)).chain([f64::INFINITY]);
            let bounds: Vec<_> = bounds.zip(buckets.counts).collect();
            with_labels(&mut metric, &labels, |metric| {
                metric.encode_histogram::<NoLabelSet>(seconds(buckets.sum_us), buckets.count(), &bounds, None)
            })
        })
    }

    /// Something that is only told by its labels. `_info` is added to its name.
    pub(super) fn info<const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels<'_, LABELS>,
    ) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }
}

/// One row without labels.
pub(super) fn single<'text, Value>(value: Value) -> [(Labels<'text, 0>, Value); 1] {
    [([], value)]
}

/// One row without labels, if there is a value.
pub(super) fn optional<'text, Value>(value: Option<Value>) -> Option<(Labels<'text, 0>, Value)> {
    value.map(|value| ([], value))
}

fn rows<const LABELS: usize, Value>(
    family: &Family<LABELS, Value>,
) -> impl Iterator<Item = (Labels<'_, LABELS>, &Value)> {
    let names = family.labels();
    family.sorted().into_iter().map(move |(values, value)| {
        let mut labels = names.map(|name| (name, ""));
        for ((_, label), text) in labels.iter_mut().zip(values) {
            *label = text;
        }
        (labels, value)
    })
}

fn with_labels<const LABELS: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &Labels<'_, LABELS>,
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if LABELS == 0 { write(family) } else { write(&mut family.encode_family(labels)?) }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

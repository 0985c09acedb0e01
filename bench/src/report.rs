//! From samples to a verdict: medians and paired ratios. Also what `--output json` prints.

use serde::Serialize;

use crate::measure::median;
use crate::run::Sample;
use crate::subject::Subject;
use crate::workload::{Goal, Spec};

/// All rounds of one workload, and what failed.
#[derive(Serialize)]
pub(crate) struct Series {
    pub(crate) workload: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) baseline: Subject,
    pub(crate) judged: Subject,
    pub(crate) goal: Goal,
    pub(crate) failure: Option<String>,
    pub(crate) ratio: Option<Ratio>,
    pub(crate) ok: Option<bool>,
    pub(crate) medians: Vec<Medians>,
    pub(crate) samples: Vec<Sample>,
}

/// The judged value divided by the one it is compared with (mostly AIProxy by nginx), round by round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// The middle round of one subject. Added latency is against the direct calls of the same round.
#[derive(Serialize)]
pub(crate) struct Medians {
    pub(crate) subject: Subject,
    pub(crate) value: Option<f64>,
    pub(crate) per_second: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) added_p50_us: Option<f64>,
    pub(crate) added_p99_us: Option<f64>,
    pub(crate) busy: Option<f64>,
    pub(crate) disturbed: Option<f64>,
    pub(crate) rss_mb: Option<f64>,
    pub(crate) pss_mb: Option<f64>,
    pub(crate) stream_kib: Option<f64>,
    pub(crate) reload_ms: Option<f64>,
    pub(crate) loaded_reload_ms: Option<f64>,
}

impl Series {
    pub(crate) fn new(spec: &Spec, samples: Vec<Sample>, failure: Option<String>) -> Self {
        let medians: Vec<Medians> = Subject::ALL
            .into_iter()
            .filter(|&subject| samples.iter().any(|sample| sample.subject == Some(subject)))
            .map(|subject| Medians::of(&samples, subject))
            .collect();
        let (baseline, judged) = (spec.baseline, spec.judged);
        let ratio = Ratio::of(&samples, baseline, judged);
        let rss_mb = medians.iter().filter_map(|medians| medians.rss_mb).reduce(f64::max);
        let ours = medians.iter().find(|medians| medians.subject == judged);
        let verdict = || ours.and_then(|ours| verdict(spec.goal, ratio, rss_mb, ours));
        let ok = if failure.is_some() { Some(false) } else { verdict() };
        Self {
            workload: spec.name,
            unit: spec.unit,
            baseline,
            judged,
            goal: spec.goal,
            failure,
            ratio,
            ok,
            medians,
            samples,
        }
    }
}

/// Nothing, if something that the goal asks for was not measured. `rss_mb` is the largest of all subjects.
fn verdict(goal: Goal, ratio: Option<Ratio>, rss_mb: Option<f64>, ours: &Medians) -> Option<bool> {
    let checks = [
        (goal.ratio, ratio.map(|ratio| ratio.median)),
        (goal.value, ours.value),
        (goal.added_p99_us, ours.added_p99_us),
        (goal.stream_kib, ours.stream_kib),
        (goal.rss_mb, rss_mb),
        (goal.reload_ms, ours.reload_ms),
    ];
    checks
        .into_iter()
        .filter_map(|(goal, found)| goal.map(|goal| found.map(|found| found <= goal)))
        .try_fold(true, |all, check| check.map(|check| all && check))
}

impl Ratio {
    fn of(samples: &[Sample], baseline: Subject, judged: Subject) -> Option<Self> {
        let value = |round, subject| {
            let of = |sample: &&Sample| sample.round == round && sample.subject == Some(subject);
            samples.iter().find(of).and_then(|sample| sample.value)
        };
        let last = samples.iter().map(|sample| sample.round).max()?;
        let ratios: Vec<f64> =
            (1..=last).filter_map(|round| Some(value(round, judged)? / value(round, baseline)?)).collect();
        Some(Self {
            median: median(ratios.iter().copied())?,
            min: ratios.iter().copied().reduce(f64::min)?,
            max: ratios.iter().copied().reduce(f64::max)?,
        })
    }
}

impl Medians {
    fn of(samples: &[Sample], subject: Subject) -> Self {
        let own = || samples.iter().filter(move |sample| sample.subject == Some(subject));
        let middle = |field: fn(&Sample) -> Option<f64>| median(own().filter_map(field));
        let added = |field: fn(&Sample) -> Option<f64>| {
            if subject == Subject::Direct {
                return None;
            }
            let direct = |round| {
                let of = |sample: &&Sample| sample.round == round && sample.subject == Some(Subject::Direct);
                samples.iter().find(of).and_then(field)
            };
            median(own().filter_map(|sample| Some(field(sample)? - direct(sample.round)?)))
        };
        Self {
            subject,
            value: middle(|sample| sample.value),
            per_second: middle(|sample| sample.per_second),
            p50_us: middle(|sample| sample.p50_us),
            p99_us: middle(|sample| sample.p99_us),
            added_p50_us: added(|sample| sample.p50_us),
            added_p99_us: added(|sample| sample.p99_us),
            busy: middle(|sample| sample.busy),
            disturbed: middle(|sample| sample.disturbed),
            rss_mb: middle(|sample| sample.rss_mb),
            pss_mb: middle(|sample| sample.pss_mb),
            stream_kib: middle(|sample| sample.stream_kib),
            reload_ms: middle(|sample| sample.reload_ms),
            loaded_reload_ms: middle(|sample| sample.loaded_reload_ms),
        }
    }
}

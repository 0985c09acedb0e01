//! From samples to a verdict: medians, paired ratios, and a table or one JSON document.

use std::io::{self, Write};

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
    pub(crate) goal: Goal,
    pub(crate) failure: Option<String>,
    pub(crate) ratio: Option<Ratio>,
    pub(crate) ok: Option<bool>,
    pub(crate) medians: Vec<Medians>,
    pub(crate) samples: Vec<Sample>,
}

/// AIProxy divided by nginx, round by round.
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
}

impl Series {
    pub(crate) fn new(spec: &Spec, samples: Vec<Sample>, failure: Option<String>) -> Self {
        let medians: Vec<Medians> = [Subject::Direct, Subject::Nginx, Subject::Aiproxy]
            .into_iter()
            .filter(|&subject| samples.iter().any(|sample| sample.subject == Some(subject)))
            .map(|subject| Medians::of(&samples, subject))
            .collect();
        let ratio = Ratio::of(&samples);
        let ours = medians.iter().find(|medians| medians.subject == Subject::Aiproxy);
        let ok = if failure.is_some() { Some(false) } else { ours.and_then(|ours| verdict(spec.goal, ratio, ours)) };
        Self { workload: spec.name, unit: spec.unit, goal: spec.goal, failure, ratio, ok, medians, samples }
    }

    fn of(&self, subject: Subject) -> Option<&Medians> {
        self.medians.iter().find(|medians| medians.subject == subject)
    }
}

/// Nothing, if something that the goal asks for was not measured.
fn verdict(goal: Goal, ratio: Option<Ratio>, ours: &Medians) -> Option<bool> {
    let checks =
        [(goal.ratio, ratio.map(|ratio| ratio.median)), (goal.value, ours.value), (goal.stream_kib, ours.stream_kib)];
    checks
        .into_iter()
        .filter_map(|(goal, found)| goal.map(|goal| found.map(|found| found <= goal)))
        .try_fold(true, |all, check| check.map(|check| all && check))
}

impl Ratio {
    fn of(samples: &[Sample]) -> Option<Self> {
        let value = |round, subject| {
            let of = |sample: &&Sample| sample.round == round && sample.subject == Some(subject);
            samples.iter().find(of).and_then(|sample| sample.value)
        };
        let last = samples.iter().map(|sample| sample.round).max()?;
        let ratios: Vec<f64> = (1..=last)
            .filter_map(|round| Some(value(round, Subject::Aiproxy)? / value(round, Subject::Nginx)?))
            .collect();
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
        }
    }
}

/// The verdicts, then everything else that was measured.
pub(crate) fn table(out: &mut impl Write, all: &[Series]) -> io::Result<()> {
    writeln!(
        out,
        "{:<13} {:<9} {:>9} {:>9}  {:<22} {:<17} ok?",
        "workload", "unit", "nginx", "aiproxy", "ratio", "target"
    )?;
    for series in all {
        let value = |subject| number(series.of(subject).and_then(|medians| medians.value), 2);
        let ratio = series.ratio.map_or_else(
            || "-".to_owned(),
            |ratio| format!("{:.3} ({:.3}..{:.3})", ratio.median, ratio.min, ratio.max),
        );
        let ok = series.ok.map_or("-", |ok| if ok { "yes" } else { "NO" });
        let (nginx, ours, goal) = (value(Subject::Nginx), value(Subject::Aiproxy), goal(series));
        let name = series.workload;
        writeln!(out, "{name:<13} {:<9} {nginx:>9} {ours:>9}  {ratio:<22} {goal:<17} {ok}", series.unit)?;
    }
    writeln!(
        out,
        "\n{:<13} {:<8} {:>10} {:>9} {:>9} {:>10} {:>10} {:>6} {:>6} {:>8} {:>8} {:>10}",
        "workload",
        "who",
        "units/s",
        "p50 µs",
        "p99 µs",
        "added p50",
        "added p99",
        "core",
        "waited",
        "RSS MB",
        "PSS MB",
        "KiB/stream"
    )?;
    for series in all {
        for medians in &series.medians {
            writeln!(
                out,
                "{:<13} {:<8} {:>10} {:>9} {:>9} {:>10} {:>10} {:>6} {:>6} {:>8} {:>8} {:>10}",
                series.workload,
                medians.subject.name(),
                number(medians.per_second, 0),
                number(medians.p50_us, 0),
                number(medians.p99_us, 0),
                number(medians.added_p50_us, 0),
                number(medians.added_p99_us, 0),
                percent(medians.busy),
                percent(medians.disturbed),
                number(medians.rss_mb, 1),
                number(medians.pss_mb, 1),
                number(medians.stream_kib, 1),
            )?;
        }
    }
    for series in all.iter().filter(|series| series.failure.is_some()) {
        writeln!(out, "\nFAILED {}: {}", series.workload, series.failure.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.0}%", share * 100.0))
}

fn goal(series: &Series) -> String {
    let goal = series.goal;
    let parts = [
        goal.ratio.map(|ratio| format!("≤{ratio:.2}")),
        goal.value.map(|value| format!("≤{value:.0} {}", series.unit)),
        goal.stream_kib.map(|kib| format!("≤{kib:.0} KiB")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

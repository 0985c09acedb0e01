//! The results for people: the verdicts, then everything else that was measured.

use std::io::{self, Write};

use crate::report::{Medians, Series};
use crate::subject::Subject;

pub(crate) fn write(out: &mut impl Write, all: &[Series]) -> io::Result<()> {
    verdicts(out, all)?;
    writeln!(out)?;
    details(out, all)?;
    for series in all.iter().filter(|series| series.failure.is_some()) {
        writeln!(out, "\nFAILED {}: {}", series.workload, series.failure.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

fn verdicts(out: &mut impl Write, all: &[Series]) -> io::Result<()> {
    writeln!(
        out,
        "{:<17} {:<10} {:>24} {:>27}  {:<22} {:<28} ok?",
        "workload", "unit", "compared with", "judged", "ratio", "target"
    )?;
    for series in all {
        let value = |subject: Subject| {
            let value = series.medians.iter().find(|medians| medians.subject == subject).and_then(|of| of.value);
            value.map_or_else(|| "-".to_owned(), |value| format!("{} {value:.2}", subject.name()))
        };
        let ratio = series.ratio.map_or_else(
            || "-".to_owned(),
            |ratio| format!("{:.3} ({:.3}..{:.3})", ratio.median, ratio.min, ratio.max),
        );
        let ok = series.ok.map_or("-", |ok| if ok { "yes" } else { "NO" });
        let (baseline, judged, goal) = (value(series.baseline), value(series.judged), goal(series));
        let name = series.workload;
        writeln!(out, "{name:<17} {:<10} {baseline:>24} {judged:>27}  {ratio:<22} {goal:<28} {ok}", series.unit)?;
    }
    Ok(())
}

/// A column of the second table: its heading, how wide it is, what stands in it.
type Column = (&'static str, usize, fn(&Medians) -> String);

const DETAILS: [Column; 12] = [
    ("units/s", 10, |of| number(of.per_second, 0)),
    ("p50 µs", 9, |of| number(of.p50_us, 0)),
    ("p99 µs", 9, |of| number(of.p99_us, 0)),
    ("added p50", 10, |of| number(of.added_p50_us, 0)),
    ("added p99", 10, |of| number(of.added_p99_us, 0)),
    ("core", 6, |of| percent(of.busy)),
    ("waited", 6, |of| percent(of.disturbed)),
    ("RSS MB", 8, |of| number(of.rss_mb, 1)),
    ("PSS MB", 8, |of| number(of.pss_mb, 1)),
    ("KiB/stream", 10, |of| number(of.stream_kib, 1)),
    ("reload ms", 10, |of| number(of.reload_ms, 0)),
    ("in load", 8, |of| number(of.loaded_reload_ms, 0)),
];

fn details(out: &mut impl Write, all: &[Series]) -> io::Result<()> {
    write!(out, "{:<17} {:<17}", "workload", "who")?;
    for (heading, width, _) in DETAILS {
        write!(out, " {heading:>width$}")?;
    }
    writeln!(out)?;
    for series in all {
        for medians in &series.medians {
            write!(out, "{:<17} {:<17}", series.workload, medians.subject.name())?;
            for (_, width, text) in DETAILS {
                write!(out, " {:>width$}", text(medians))?;
            }
            writeln!(out)?;
        }
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
        goal.added_p99_us.map(|micros| format!("added p99 ≤{micros:.0} µs")),
        goal.stream_kib.map(|kib| format!("≤{kib:.0} KiB")),
        goal.rss_mb.map(|megabytes| format!("≤{megabytes:.0} MB")),
        goal.reload_ms.map(|millis| format!("reload ≤{millis:.0} ms")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

//! `health` of a channel.

use std::time::Duration;

use super::checks::{as_written, within};
use crate::form::{HealthForm, ProbeForm, ProbeKindForm, Span, Switchable};
use crate::problem::Problems;
use crate::snapshot::{Health, Probe, ProbeKind};
use crate::tree::Place;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The rules; not written means the defaults, `None` that nothing is ever left alone.
pub(super) fn compile(
    place: &Place<'_>,
    form: Option<Switchable<HealthForm>>,
    problems: &mut Problems,
) -> Option<Health> {
    let form = form.map_or_else(|| Some(HealthForm::default()), Switchable::into_form)?;
    let default = Health::default();
    let cooldown = within(&place.key("cooldown"), form.cooldown, default.cooldown, SHORTEST_PAUSE..=HOUR, problems);
    Some(Health {
        failures: form.failures.unwrap_or(default.failures),
        error_rate: form.error_rate.unwrap_or(default.error_rate),
        minimum_calls: form.minimum_calls.unwrap_or(default.minimum_calls),
        window: within(&place.key("window"), form.window, default.window, SECOND..=HOUR, problems),
        cooldown,
        max_cooldown: max_cooldown(&place.key("max_cooldown"), form.max_cooldown, cooldown, problems),
        probe: form.probe.and_then(Switchable::into_form).map(|form| probe(&place.key("probe"), form, problems)),
    })
}

/// Whoever writes only a long `cooldown` need not write this one too.
fn max_cooldown(place: &Place<'_>, written: Option<Span>, cooldown: Duration, problems: &mut Problems) -> Duration {
    let Some(Span(longest)) = written else {
        return Health::default().max_cooldown.max(cooldown);
    };
    // What is wrong with `cooldown` itself has been said.
    let shortest = cooldown.clamp(SHORTEST_PAUSE, HOUR);
    if !(shortest..=HOUR).contains(&longest) {
        problems.error(place, format!("must be between `cooldown` ({}) and 1h", as_written(shortest)));
    }
    longest
}

fn probe(place: &Place<'_>, form: ProbeForm, problems: &mut Problems) -> Probe {
    let default = Probe::default();
    let interval = within(&place.key("interval"), form.interval, default.interval, SECOND..=DAY, problems);
    let timeout = form.timeout.map_or(default.timeout.min(interval), |timeout| timeout.0);
    let is_possible = !timeout.is_zero() && timeout <= interval;
    if form.timeout.is_some() && !is_possible {
        let message =
            format!("must be more than 0 and at most `interval` ({})", as_written(interval.clamp(SECOND, DAY)));
        problems.error(&place.key("timeout"), message);
    }
    Probe {
        kind: match form.kind {
            None => default.kind,
            Some(ProbeKindForm::Connect) => ProbeKind::Connect,
            Some(ProbeKindForm::Models) => ProbeKind::Models,
        },
        interval,
        timeout,
        failures: form.failures.unwrap_or(default.failures),
        successes: form.successes.unwrap_or(default.successes),
    }
}

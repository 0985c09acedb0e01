//! `limits` and `quotas`, wherever they are written, to the one list of them in the snapshot.

use crate::context::Context;
use crate::form::{LimitsForm, QuotaForm, QuotaPeriodForm, QuotaUnitForm};
use crate::problem::Problems;
use crate::snapshot::{Limited, Limits, Quota, QuotaPeriod, QuotaUnit, Scope};
use crate::tree::Place;

/// Adds the limits and quotas of the thing `id` at `place`; returns their index. `None` if nothing is limited.
pub(super) fn add(
    place: &Place<'_>,
    scope: Scope,
    id: &str,
    limits: Option<LimitsForm>,
    quotas: Vec<QuotaForm>,
    context: &mut Context<'_>,
) -> Option<u32> {
    let limits = limits.map_or_else(Limits::default, |form| {
        let LimitsForm { requests_per_minute, tokens_per_minute, concurrent } = form;
        Limits { requests_per_minute, tokens_per_minute, concurrent }
    });
    let quotas = compile_quotas(&place.key("quotas"), &quotas, &mut context.problems);
    if limits == Limits::default() && quotas.is_empty() {
        return None;
    }
    let index = u32::try_from(context.limited.len()).ok()?;
    context.limited.push(Limited { scope, id: id.into(), limits, quotas });
    Some(index)
}

fn compile_quotas(place: &Place<'_>, forms: &[QuotaForm], problems: &mut Problems) -> Box<[Quota]> {
    let mut quotas: Vec<Quota> = Vec::with_capacity(forms.len());
    // A quota that is wrong leaves a gap, so the place in the file is kept beside each.
    let mut places: Vec<Place<'_>> = Vec::with_capacity(forms.len());
    for (index, form) in forms.iter().enumerate() {
        let place = place.index(index);
        let (unit, per, soft) = (unit(form.unit), period(form.per), form.soft.unwrap_or(false));
        let Some(amount) = amount(&place.key("amount"), unit, form.amount, problems) else {
            continue;
        };
        let same = quotas.iter().position(|quota| quota.unit == unit && quota.per == per && quota.soft == soft);
        if let Some(first) = same.and_then(|same| places.get(same)) {
            let first = problems.describe(first.mark(), place.mark());
            let kind = if soft { "soft quota" } else { "quota" };
            let message =
                format!("a {kind} of {} per {} is written twice; first at {first}", unit.as_str(), per.as_str());
            problems.error(&place, message);
            continue;
        }
        quotas.push(Quota { unit, per, amount, soft });
        places.push(place);
    }
    for (quota, place) in quotas.iter().zip(&places).filter(|(quota, _)| quota.soft) {
        let hard = quotas.iter().find(|hard| !hard.soft && hard.unit == quota.unit && hard.per == quota.per);
        if hard.is_some_and(|hard| hard.amount <= quota.amount) {
            problems.warning(place, "never reports anything, for the quota beside it that is not soft ends sooner");
        }
    }
    quotas.into()
}

/// The amount in whole units; money in millionths, to the nearest. Up to the largest amounts allowed a number of 53
/// binary digits is exact to the millionth.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the schema bounds it: above 0, to 10^15")]
fn amount(place: &Place<'_>, unit: QuotaUnit, written: f64, problems: &mut Problems) -> Option<u64> {
    const MILLIONTHS: f64 = 1_000_000.0;
    const MOST_MONEY: f64 = 1_000_000_000.0;
    let amount = match unit {
        QuotaUnit::Requests | QuotaUnit::Tokens if written.fract() == 0.0 => written,
        QuotaUnit::Requests | QuotaUnit::Tokens => {
            problems.error(place, format!("must be a whole number of {}", unit.as_str()));
            return None;
        }
        QuotaUnit::Cost if written > MOST_MONEY => {
            problems.error(place, format!("must not be more than {MOST_MONEY}, where the unit is `cost`"));
            return None;
        }
        QuotaUnit::Cost => (written * MILLIONTHS).round(),
    };
    if amount < 1.0 {
        problems.error(place, "is less than a millionth");
        return None;
    }
    Some(amount as u64)
}

fn unit(form: QuotaUnitForm) -> QuotaUnit {
    match form {
        QuotaUnitForm::Requests => QuotaUnit::Requests,
        QuotaUnitForm::Tokens => QuotaUnit::Tokens,
        QuotaUnitForm::Cost => QuotaUnit::Cost,
    }
}

fn period(form: QuotaPeriodForm) -> QuotaPeriod {
    match form {
        QuotaPeriodForm::Hour => QuotaPeriod::Hour,
        QuotaPeriodForm::Day => QuotaPeriod::Day,
        QuotaPeriodForm::Month => QuotaPeriod::Month,
        QuotaPeriodForm::Total => QuotaPeriod::Total,
    }
}

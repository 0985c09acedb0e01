//! `system.rate_limit` and `system.retry_budget`.

use std::time::Duration;

use super::checks::within;
use crate::form::{BadCredentialsForm, RateForm, RateLimitForm, RetryBudgetForm, Switchable};
use crate::problem::Problems;
use crate::snapshot::{BadCredentials, Rate, RateLimit, RetryBudget};
use crate::tree::Place;

/// Names of the two fields that make a rate.
#[derive(Clone, Copy)]
struct Names {
    rate: &'static str,
    burst: &'static str,
}

const NEW: Names = Names { rate: "requests_per_second", burst: "burst" };
const OLDER: Names = Names { rate: "requests_per_minute", burst: "burst_size" };

/// How fast calls may come.
pub(super) fn rate_limit(place: &Place<'_>, form: Option<RateLimitForm>, problems: &mut Problems) -> RateLimit {
    let form = form.unwrap_or_default();
    let is_new = form.requests_per_second.is_some() || form.burst.is_some();
    let is_older = form.requests_per_minute.is_some() || form.burst_size.is_some();
    if is_new && is_older {
        let first = if form.requests_per_minute.is_some() { OLDER.rate } else { OLDER.burst };
        let message = "write either `requests_per_second` and `burst`, or the older `requests_per_minute` and \
                       `burst_size`, not both";
        problems.error(&place.key(first), message);
    }
    let global = if is_new && is_older {
        None
    } else if is_new {
        rate(place, NEW, form.requests_per_second, form.burst, problems)
    } else {
        rate(place, OLDER, form.requests_per_minute.map(|calls| calls / 60.0), form.burst_size, problems)
    };
    let RateForm { requests_per_second, burst } = form.ip_limit.unwrap_or_default();
    RateLimit {
        global,
        per_ip: rate(&place.key("ip_limit"), NEW, requests_per_second, burst, problems),
        bad_credentials: bad_credentials(&place.key("bad_credentials"), form.bad_credentials, problems),
    }
}

fn rate(
    place: &Place<'_>,
    names: Names,
    per_second: Option<f64>,
    burst: Option<u32>,
    problems: &mut Problems,
) -> Option<Rate> {
    let Some(requests_per_second) = per_second else {
        if burst.is_some() && !place.is_broken(names.rate) {
            problems.error(&place.key(names.burst), format!("says nothing without a rate; write `{}` too", names.rate));
        }
        return None;
    };
    Some(Rate { requests_per_second, burst: burst.unwrap_or_else(|| default_burst(requests_per_second)) })
}

/// Twice the rate, and at least one call: none could ever come otherwise.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are from 0.001 to 1,000,000")]
fn default_burst(requests_per_second: f64) -> u32 {
    (requests_per_second * 2.0).ceil().max(1.0) as u32
}

fn bad_credentials(
    place: &Place<'_>,
    form: Option<Switchable<BadCredentialsForm>>,
    problems: &mut Problems,
) -> Option<BadCredentials> {
    let bounds = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let form = form.map_or_else(|| Some(BadCredentialsForm::default()), Switchable::into_form)?;
    let default = BadCredentials::default();
    Some(BadCredentials {
        limit: form.limit.unwrap_or(default.limit),
        window: within(&place.key("window"), form.window, default.window, bounds.clone(), problems),
        block: within(&place.key("block"), form.block, default.block, bounds, problems),
    })
}

/// How many calls may be sent a second time.
pub(super) fn retry_budget(form: Option<RetryBudgetForm>) -> RetryBudget {
    let form = form.unwrap_or_default();
    let default = RetryBudget::default();
    RetryBudget {
        share: form.share.unwrap_or(default.share),
        per_second: form.per_second.unwrap_or(default.per_second),
    }
}

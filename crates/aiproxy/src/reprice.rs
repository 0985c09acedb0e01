//! `aiproxy reprice`: prices calls of the past by the prices of now, in the database. Tokens are never changed.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use aiproxy_config::Severity;
use aiproxy_core::time;
use aiproxy_llm::prices::Cost;
use aiproxy_store::Store;
use aiproxy_store::reprice::{RepriceRow, Repriced, Repricing, reprice};
use anyhow::{Context, bail};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::cli::{Output, Reprice};
use crate::{control, output, reload};

/// Prices what `options` say.
pub(crate) fn run(options: &Reprice) -> anyhow::Result<ExitCode> {
    let loaded = reload::load(&options.config);
    let Some(snapshot) = loaded.snapshot else {
        for problem in loaded.problems.iter().filter(|problem| problem.severity == Severity::Error) {
            output::note(&problem.to_string());
        }
        bail!("the config has problems; nothing was changed");
    };
    let system = &snapshot.system;
    let zone = &system.timezone;
    let start = options.from.as_deref().map_or(Ok(0), |text| moment(text, zone)).context("--from")?;
    let end = options.to.as_deref().map_or(Ok(time::unix_ms()), |text| moment(text, zone)).context("--to")?;
    if start >= end {
        bail!("--from must be before --to");
    }
    let prices = &snapshot.prices;
    let family = |channel: &str| {
        let index = snapshot.channel_by_id.get(channel);
        // A channel that is gone: the price table looks in every family then.
        index.map_or("custom", |index| snapshot.channels[*index].kind.as_str())
    };
    let price = |row: &RepriceRow<'_>| {
        let model = row.model_served.or(row.model_asked)?;
        match prices.price(row.channel_id, family(row.channel_id), model, Some(&row.usage)) {
            Cost::Priced(cost) => Some((cost, prices.version().to_string())),
            Cost::Unpriced => None,
        }
    };
    let repricing = Repricing { range: start..end, all: options.all, timezone: zone.clone() };
    let shows_progress = options.output == Output::Text && std::io::stderr().is_terminal();
    let progress = |so_far: Repriced| {
        if shows_progress {
            write!(std::io::stderr(), "\r{} records looked at, {} changed ", so_far.seen, so_far.changed).ok();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let store = Store::connect(&control::options(system)).await?;
        reprice(&store, &repricing, price, progress).await
    })?;
    if shows_progress {
        output::note("");
    }
    let (seen, changed, unpriced) = (done.seen, done.changed, done.unpriced);
    match options.output {
        Output::Json => {
            let version = prices.version();
            let told = json!({ "seen": seen, "changed": changed, "unpriced": unpriced, "price_version": version });
            output::line(&told.to_string())?;
        }
        Output::Text => {
            output::line(&format!(
                "{seen} records looked at, {changed} priced anew, {unpriced} still without a price."
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A date (its midnight in `zone`) or a moment as RFC 3339 has it, in milliseconds since 1970-01-01 UTC.
fn moment(text: &str, zone: &TimeZone) -> anyhow::Result<u64> {
    let found = match text.parse::<Date>() {
        Ok(date) if text.len() == 10 => date.to_zoned(zone.clone())?.timestamp(),
        _ => text.parse::<Timestamp>().context("expected a date (2026-11-21) or a moment (2026-11-21T08:00:00Z)")?,
    };
    Ok(u64::try_from(found.as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_time_zone() {
        let shanghai = TimeZone::get("Asia/Shanghai").unwrap();
        assert_eq!(moment("2026-11-21", &shanghai).unwrap(), 1_795_190_400_000);
        assert_eq!(moment("2026-11-20T16:00:00Z", &shanghai).unwrap(), 1_795_190_400_000);
        assert!(moment("yesterday", &shanghai).is_err());
    }
}

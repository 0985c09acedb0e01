//! The query of a request: every parameter is known and has a value that can be used, or the request is refused with the
//! name of the first that has not.

use aiproxy_store::Granularity;
use aiproxy_store::query::{Cursor, Dimension, Filter, MAX_GROUPS, MAX_PAGE, MAX_SERIES, Order};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::answer::Refused;

const DAY_MS: i64 = 86_400_000;

/// Numbers below this are seconds that somebody took for milliseconds.
const LEAST_MS: i64 = 100_000_000_000;

/// A request's parameters. Each that is taken is crossed out; what is left at the end is unknown.
pub(crate) struct Parameters {
    pairs: Vec<(String, String)>,
}

/// Range, zone and conditions, which every statistic and every list has.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) filter: Filter,
    pub(crate) zone: TimeZone,
}

impl Parameters {
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Self {
        Self { pairs }
    }

    /// `start`, `end`, `timezone` and the filters.
    pub(crate) fn scope(&mut self, now_ms: i64, zone: &TimeZone) -> Result<Scope, Refused> {
        let zone = match self.one(&["timezone"])? {
            None => zone.clone(),
            Some(name) => TimeZone::get(&name).map_err(|_| {
                let message = "This is no time zone. Write a name such as Asia/Shanghai or UTC.";
                Refused::parameter("timezone", message)
            })?,
        };
        let end = self.one(&["end", "end_time"])?.map(|text| moment("end", &text, &zone, true)).transpose()?;
        let start = self.one(&["start", "start_time"])?.map(|text| moment("start", &text, &zone, false)).transpose()?;
        let end_ms = end.unwrap_or(now_ms);
        let start_ms = start.unwrap_or(end_ms.saturating_sub(DAY_MS));
        if start_ms > end_ms {
            return Err(Refused::parameter("end", "The end is before the start."));
        }
        let mut only = Vec::new();
        for dimension in Dimension::ALL {
            let values = self.all(dimension.as_str());
            if !values.is_empty() {
                only.push((dimension, values));
            }
        }
        Ok(Scope { filter: Filter { start_ms, end_ms, only }, zone })
    }

    /// `granularity`; an hour for ranges up to three days, a month from half a year, a day in between.
    pub(crate) fn granularity(&mut self, filter: &Filter) -> Result<Granularity, Refused> {
        let days = filter.end_ms.saturating_sub(filter.start_ms) / DAY_MS;
        match self.one(&["granularity"])?.as_deref() {
            None if days <= 3 => Ok(Granularity::Hour),
            None if days < 180 => Ok(Granularity::Day),
            None => Ok(Granularity::Month),
            Some("hour") => Ok(Granularity::Hour),
            Some("day") => Ok(Granularity::Day),
            Some("month") => Ok(Granularity::Month),
            Some(_) => Err(Refused::parameter("granularity", "Write hour, day or month.")),
        }
    }

    /// `order` of groups.
    pub(crate) fn order(&mut self, default: Order) -> Result<Order, Refused> {
        let Some(name) = self.one(&["order"])? else { return Ok(default) };
        Order::parse(&name).ok_or_else(|| {
            let message = "Write name, failed, or one of the sums, such as calls, cost or output: largest first.";
            Refused::parameter("order", message)
        })
    }

    /// `order` of records: whether the newest come first.
    pub(crate) fn newest_first(&mut self) -> Result<bool, Refused> {
        match self.one(&["order"])?.as_deref() {
            None | Some("newest") => Ok(true),
            Some("oldest") => Ok(false),
            Some(_) => Err(Refused::parameter("order", "Write newest or oldest.")),
        }
    }

    /// `limit` of groups.
    pub(crate) fn groups(&mut self) -> Result<usize, Refused> {
        self.limit(100, MAX_GROUPS)
    }

    /// `limit` of the groups of a series.
    pub(crate) fn series(&mut self) -> Result<usize, Refused> {
        self.limit(10, MAX_SERIES)
    }

    /// `limit` of records.
    pub(crate) fn page(&mut self) -> Result<usize, Refused> {
        self.limit(100, MAX_PAGE)
    }

    fn limit(&mut self, default: usize, most: usize) -> Result<usize, Refused> {
        let Some(text) = self.one(&["limit"])? else { return Ok(default) };
        text.parse()
            .ok()
            .filter(|limit| (1..=most).contains(limit))
            .ok_or_else(|| Refused::parameter("limit", format!("Write a number from 1 to {most}.")))
    }

    /// `cursor` of records.
    pub(crate) fn cursor(&mut self) -> Result<Option<Cursor>, Refused> {
        Ok(self.one(&["cursor"])?.map(|text| Cursor::decode(&text)).transpose()?)
    }

    /// `group_by`: dimensions, each one at most once.
    pub(crate) fn group_by(&mut self) -> Result<Vec<Dimension>, Refused> {
        let mut dimensions = Vec::new();
        for name in self.all("group_by") {
            let found = Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == name);
            let dimension = found.filter(|found| !dimensions.contains(found)).ok_or_else(|| {
                let names: Vec<_> = Dimension::ALL.iter().map(|dimension| dimension.as_str()).collect();
                Refused::parameter("group_by", format!("Write each at most once, of: {}.", names.join(", ")))
            })?;
            dimensions.push(dimension);
        }
        Ok(dimensions)
    }

    /// A switch.
    pub(crate) fn switch(&mut self, name: &'static str, default: bool) -> Result<bool, Refused> {
        match self.one(&[name])?.as_deref() {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(Refused::parameter(name, "Write true or false.")),
        }
    }

    /// One of several words; the first is the default.
    pub(crate) fn word(&mut self, name: &'static str, words: &[&'static str]) -> Result<&'static str, Refused> {
        let Some(text) = self.one(&[name])? else { return Ok(words.first().copied().unwrap_or_default()) };
        let found = words.iter().copied().find(|word| *word == text);
        found.ok_or_else(|| Refused::parameter(name, format!("Write one of: {}.", words.join(", "))))
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), Refused> {
        let Some((name, _)) = self.pairs.into_iter().next() else { return Ok(()) };
        let shown: String = name.chars().take(40).collect();
        let message = format!("There is no parameter `{shown}` here.");
        Err(Refused::parameter(shown, message))
    }

    /// The value of a parameter that may be given once, by any of its names.
    fn one(&mut self, names: &[&'static str]) -> Result<Option<String>, Refused> {
        let mut values = names.iter().flat_map(|name| self.all(name)).collect::<Vec<_>>();
        if values.len() > 1 {
            return Err(Refused::parameter(names[0], "It may be given once."));
        }
        Ok(values.pop())
    }

    fn all(&mut self, name: &str) -> Vec<String> {
        self.pairs.extract_if(.., |(found, _)| found == name).map(|(_, value)| value).collect()
    }
}

/// A moment: RFC 3339, without an offset in `zone`; a date, whose end is the end of the day; or Unix milliseconds.
fn moment(parameter: &'static str, text: &str, zone: &TimeZone, is_end: bool) -> Result<i64, Refused> {
    let unusable = || {
        let message =
            "Write a time such as 2026-01-31T15:04:05+08:00, a date such as 2026-01-31, or Unix milliseconds.";
        Refused::parameter(parameter, message)
    };
    if let Ok(ms) = text.parse::<i64>() {
        if (1..LEAST_MS).contains(&ms) {
            return Err(Refused::parameter(parameter, "These look like seconds. Write Unix milliseconds."));
        }
        return Ok(ms);
    }
    let local = |time: DateTime| zone.to_timestamp(time).map(Timestamp::as_millisecond).map_err(|_| unusable());
    if text.len() == 10
        && let Ok(date) = text.parse::<Date>()
    {
        let date = if is_end { date.checked_add(1.day()).map_err(|_| unusable())? } else { date };
        let start = date.to_zoned(zone.clone()).map_err(|_| unusable())?;
        return Ok(start.timestamp().as_millisecond());
    }
    // In a query a plus sign that was not encoded is a space.
    let text = text.replace(' ', "+");
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    local(text.parse().map_err(|_| unusable())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        Parameters::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn a_range_is_read_in_every_form_and_the_zone_asked_for() {
        let now = ms("2026-03-01T12:00:00Z");
        for (pairs, start, end) in [
            (&[][..], "2026-02-28T12:00:00Z", "2026-03-01T12:00:00Z"),
            (&[("start", "2026-02-01T00:00:00+08:00")], "2026-01-31T16:00:00Z", "2026-03-01T12:00:00Z"),
            (&[("start", "2026-02-01T00:00:00 08:00")], "2026-01-31T16:00:00Z", "2026-03-01T12:00:00Z"),
            (&[("start", "2026-02-01"), ("end", "2026-02-01")], "2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z"),
            (
                &[("start_time", "2026-02-01"), ("end_time", "2026-02-02T10:00"), ("timezone", "Asia/Shanghai")],
                "2026-01-31T16:00:00Z",
                "2026-02-02T02:00:00Z",
            ),
            (&[("end", "1769904000000")], "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
        ] {
            let mut parameters = parameters(pairs);
            let scope = parameters.scope(now, &TimeZone::UTC).unwrap();
            assert_eq!((scope.filter.start_ms, scope.filter.end_ms), (ms(start), ms(end)), "{pairs:?}");
            parameters.finish().unwrap();
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let scope = |pairs: &[(&str, &str)]| {
            let mut parameters = parameters(pairs);
            parameters.scope(0, &TimeZone::UTC).map(drop).and_then(|()| parameters.finish())
        };
        for (pairs, name) in [
            (&[("start", "yesterday")][..], "start"),
            (&[("start", "1769904000")], "start"),
            (&[("end", "2026-02-30")], "end"),
            (&[("start", "2026-02-03"), ("end", "2026-02-01")], "end"),
            (&[("start", "2026-02-03"), ("start_time", "2026-02-03")], "start"),
            (&[("timezone", "Mars")], "timezone"),
            (&[("start", "")], "start"),
            (&[("user", "a")], "user"),
        ] {
            let refused = scope(pairs).unwrap_err();
            assert_eq!(refused, Refused::parameter(name, refused_message(&refused)), "{pairs:?}");
        }
    }

    #[test]
    fn no_number_is_too_large_to_be_refused() {
        for end in [i64::MIN, i64::MAX] {
            let mut parameters = parameters(&[("end", &end.to_string())]);
            let scope = parameters.scope(0, &TimeZone::UTC).unwrap();
            assert_eq!(scope.filter.end_ms, end);
            parameters.granularity(&scope.filter).unwrap();
        }
    }

    fn refused_message(refused: &Refused) -> String {
        format!("{refused:?}").split("message: \"").nth(1).unwrap().split("\", parameter").next().unwrap().to_owned()
    }
}

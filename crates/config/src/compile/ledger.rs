//! What `system` says of keeping calls: aborts, time zone, journal, retention, redaction.

use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use regex::Regex;

use super::checks::{size_within, within};
use crate::form::{
    ClientAbortChoice, ClientAbortForm, ClientAbortPolicy, JournalForm, OnJournalFullForm, RetentionChoice,
    RetentionForm, Span, SpanOrOff,
};
use crate::parse::shown;
use crate::problem::Problems;
use crate::snapshot::{ClientAbort, Drain, Journal, OnJournalFull, Retention};
use crate::suggest::nearest;
use crate::tree::Place;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const HUNDRED_YEARS: Duration = Duration::from_secs(100 * 365 * 86_400);
const MEBIBYTE: u64 = 1 << 20;
const GIBIBYTE: u64 = 1 << 30;

/// What happens upstream when the client goes away.
pub(super) fn client_abort(
    place: &Place<'_>,
    form: Option<ClientAbortChoice>,
    problems: &mut Problems,
) -> (ClientAbort, Drain) {
    let default = Drain::default();
    let (policy, drain) = match form {
        None => return (ClientAbort::default(), default),
        Some(ClientAbortChoice::Policy(policy)) => (policy, default),
        Some(ClientAbortChoice::Full(ClientAbortForm { policy, timeout, concurrent })) => {
            let timeout = within(&place.key("timeout"), timeout, default.timeout, SECOND..=HOUR, problems);
            (policy, Drain { timeout, concurrent: concurrent.map_or(default.concurrent, |count| count as usize) })
        }
    };
    let policy = match policy {
        ClientAbortPolicy::Cancel => ClientAbort::Cancel,
        ClientAbortPolicy::Drain => ClientAbort::Drain,
    };
    (policy, drain)
}

/// The time zone of that name in the database that is built in, so that it is the same on every machine.
pub(super) fn timezone(place: &Place<'_>, name: Option<&str>, problems: &mut Problems) -> TimeZone {
    let Some(name) = name else {
        return TimeZone::UTC;
    };
    let database = TimeZoneDatabase::bundled();
    database.get(name).unwrap_or_else(|_| {
        let names: Vec<String> = database.available().map(|name| name.to_string()).collect();
        let near = nearest(name, names.iter().map(String::as_str));
        let hint = near.map_or("write e.g. `Asia/Shanghai`".to_owned(), |near| format!("did you mean `{near}`?"));
        problems.error(place, format!("there is no time zone `{}`; {hint}", shown(name)));
        TimeZone::UTC
    })
}

/// The journal at `place.journal`, with the short form beside it.
pub(super) fn journal(
    place: &Place<'_>,
    form: Option<JournalForm>,
    short: Option<OnJournalFullForm>,
    problems: &mut Problems,
) -> Journal {
    let form = form.unwrap_or_default();
    let default = Journal::default();
    if let (Some(short), Some(full)) = (short, form.on_full)
        && short != full
    {
        problems.error(&place.key("on_journal_full"), "says something else than `journal.on_full`; write one of them");
    }
    let place = place.key("journal");
    let fsync = form.fsync.and_then(|fsync| fsync.0).map(|written| {
        let bounds = Duration::from_millis(1)..=HOUR;
        within(&place.key("fsync"), Some(written), Duration::ZERO, bounds, problems)
    });
    let bounds = MEBIBYTE..=GIBIBYTE;
    Journal {
        segment_bytes: size_within(
            &place.key("segment_size"),
            form.segment_size,
            default.segment_bytes,
            bounds,
            problems,
        ),
        memory_bytes: size_within(
            &place.key("memory"),
            form.memory,
            default.memory_bytes,
            MEBIBYTE..=16 * GIBIBYTE,
            problems,
        ),
        fsync,
        on_full: match form.on_full.or(short) {
            None => default.on_full,
            Some(OnJournalFullForm::Serve) => OnJournalFull::Serve,
            Some(OnJournalFullForm::Refuse) => OnJournalFull::Refuse,
        },
    }
}

/// How long things are kept.
pub(super) fn retention(place: &Place<'_>, form: Option<RetentionChoice>, problems: &mut Problems) -> Retention {
    let default = Retention::default();
    let (place_of_records, form) = match form {
        None => return default,
        Some(RetentionChoice::Records(records)) => {
            (*place, RetentionForm { records: Some(records), ..RetentionForm::default() })
        }
        Some(RetentionChoice::Full(form)) => (place.key("records"), form),
    };
    let records = kept(&place_of_records, form.records, default.records, problems);
    let mut bodies = kept(&place.key("bodies"), form.bodies, default.bodies, problems);
    if let Some(longest) = records
        && bodies.is_none_or(|bodies| bodies > longest)
    {
        if form.bodies.is_some() {
            problems.warning(&place.key("bodies"), "is longer than `records`, but bodies go with their records");
        }
        bodies = records;
    }
    Retention {
        records,
        bodies,
        hours: kept(&place.key("hours"), form.hours, default.hours, problems),
        days: kept(&place.key("days"), form.days, default.days, problems),
        months: kept(&place.key("months"), form.months, default.months, problems),
    }
}

/// `None` is for ever.
fn kept(
    place: &Place<'_>,
    written: Option<SpanOrOff>,
    default: Option<Duration>,
    problems: &mut Problems,
) -> Option<Duration> {
    let Some(SpanOrOff(span)) = written else {
        return default;
    };
    let Span(duration) = span?;
    if !(HOUR..=HUNDRED_YEARS).contains(&duration) {
        problems.error(place, "must be between 1h and 100y; `off` keeps for ever, a plain number counts seconds");
    }
    Some(duration)
}

/// The regular expressions, none of which may match nothing at all.
pub(super) fn redact(place: &Place<'_>, patterns: Vec<String>, problems: &mut Problems) -> Box<[Box<str>]> {
    const MOST: usize = 100;
    if patterns.len() > MOST {
        problems.error(place, format!("has more than {MOST} regular expressions; join some by `|`"));
        return Box::default();
    }
    for (index, pattern) in patterns.iter().enumerate() {
        match Regex::new(pattern) {
            Ok(regex) if regex.is_match("") => {
                problems.error(&place.index(index), "matches the empty text, which is everywhere");
            }
            Ok(_) => {}
            Err(error) => {
                problems.error(&place.index(index), format!("is not a regular expression: {}", reason(&error)))
            }
        }
    }
    patterns.into_iter().map(Into::into).collect()
}

/// The reason alone: the rest of the message repeats the pattern, which may be a secret.
fn reason(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(_) = error {
        return "it is too large".to_owned();
    }
    let text = error.to_string();
    // A one-line pattern is quoted with four spaces before it, and a caret below what is wrong.
    let caret = text.lines().find(|line| line.trim_start().starts_with('^')).and_then(|line| line.find('^'));
    let is_one_line = text.lines().count() == 4;
    let at = caret.filter(|_| is_one_line).map(|caret| format!("at character {}: ", caret.saturating_sub(3)));
    let why = text.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it cannot be read");
    format!("{}{why}", at.unwrap_or_default())
}

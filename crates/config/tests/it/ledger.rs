//! What is kept of calls and for how long: bodies, the journal, retention, and what is wrong with them.

use std::time::Duration;

use aiproxy_config::snapshot::{Capture, ClientAbort, Drain, Journal, OnJournalFull, Retention};

use crate::support::{problems, snapshot, system, system_problems};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[test]
fn bodies_are_captured_as_the_key_and_the_channel_say() {
    let of = |text: &str| {
        let text = format!(
            "users: {{u: {{channels: [c], proxy_keys: [{{key: k, capture: {text}}}]}}}}
channels: {{c: {{base_url: 'http://h', api_key: x, capture: {text}}}}}"
        );
        let snapshot = snapshot(&text);
        let of_key = snapshot.find_key("k").unwrap().capture.clone();
        assert_eq!(snapshot.channels[0].capture, of_key, "{text}");
        of_key
    };
    let default = Capture { share: 1.0, max_bytes: 64 << 10, request: true, response: true };
    assert_eq!(of("null"), None);
    assert_eq!(of("true"), Some(default.clone()));
    assert_eq!(of("on"), Some(default.clone()));
    assert_eq!(of("{}"), Some(default.clone()));
    let off = Some(Capture { share: 0.0, ..default.clone() });
    assert_eq!((of("false"), of("off"), of("0")), (off.clone(), off.clone(), off), "said in so many words");
    assert_eq!(of("0.01"), Some(Capture { share: 0.01, ..default.clone() }));
    assert_eq!(of("1"), Some(default.clone()));
    let full = Capture { share: 0.5, max_bytes: 16 << 20, request: false, response: true };
    assert_eq!(of("{share: 0.5, max_size: 16MiB, request: false}"), Some(full));
    let short_form = snapshot("users: {u: {proxy_key: k}}").find_key("k").unwrap().capture.clone();
    assert_eq!(short_form, None);
}

#[test]
fn captures_that_make_no_sense() {
    let of = |text: &str| problems(&format!("channels: {{c: {{base_url: 'http://h', api_key: x, capture: {text}}}}}"));
    insta::assert_snapshot!(of("1.01"), @"aiproxy.yaml:1:59: error: channels.c.capture: must not be more than 1");
    insta::assert_snapshot!(of("-1"), @"aiproxy.yaml:1:59: error: channels.c.capture: must not be less than 0");
    insta::assert_snapshot!(of("everything"), @"aiproxy.yaml:1:59: error: channels.c.capture: `everything` is not known here; write one of: on, off");
    insta::assert_snapshot!(of("[true]"), @"aiproxy.yaml:1:59: error: channels.c.capture: expected true or false or a number or a group of fields, found a list");
    insta::assert_snapshot!(of("{bodies: false}"), @"aiproxy.yaml:1:60: error: channels.c.capture: unknown field `bodies`; fields here are: share, max_size, request, response");
    insta::assert_snapshot!(of("{share: 2, max_size: 17MiB}"), @r"
    aiproxy.yaml:1:67: error: channels.c.capture.share: must not be more than 1
    aiproxy.yaml:1:80: error: channels.c.capture.max_size: must be between 1KiB and 16MiB
    ");
    insta::assert_snapshot!(of("{max_size: 17MiB}"), @"aiproxy.yaml:1:70: error: channels.c.capture.max_size: must be between 1KiB and 16MiB");
    insta::assert_snapshot!(of("{request: false, response: false}"), @"aiproxy.yaml:1:59: error: channels.c.capture: stores neither requests nor responses; write `capture: false`");
}

#[test]
fn calls_whose_client_left_are_cancelled_or_read_on() {
    let of = |text: &str| {
        let system = system(text);
        (system.client_abort, system.drain)
    };
    let default = Drain { timeout: MINUTE, concurrent: 100 };
    assert_eq!(of(""), (ClientAbort::Cancel, default));
    assert_eq!(of("client_abort: cancel"), (ClientAbort::Cancel, default));
    assert_eq!(of("client_abort: drain"), (ClientAbort::Drain, default));
    let written = Drain { timeout: HOUR, concurrent: 7 };
    assert_eq!(of("client_abort: {policy: drain, timeout: 1h, concurrent: 7}"), (ClientAbort::Drain, written));
    insta::assert_snapshot!(system_problems("client_abort: wait"), @"aiproxy.yaml:1:24: error: system.client_abort: `wait` is not known here; write one of: cancel, drain");
    insta::assert_snapshot!(system_problems("client_abort: {timeout: 60s}"), @"aiproxy.yaml:1:24: error: system.client_abort: `policy` is missing");
    insta::assert_snapshot!(system_problems("client_abort: {policy: drain, timeout: 0, concurrent: 0}"), @r"
    aiproxy.yaml:1:49: error: system.client_abort.timeout: must be between 1s and 1h
    aiproxy.yaml:1:64: error: system.client_abort.concurrent: must not be less than 1; write `cancel` to read on for nobody
    ");
    insta::assert_snapshot!(system_problems("client_abort: {policy: drain, timeout: 2h}"), @"aiproxy.yaml:1:49: error: system.client_abort.timeout: must be between 1s and 1h");
}

#[test]
fn the_time_zone_is_one_that_is_known() {
    let name = |text: &str| system(text).timezone.iana_name().map(ToOwned::to_owned);
    assert_eq!(name("").as_deref(), Some("UTC"));
    assert_eq!(name("timezone: Asia/Shanghai").as_deref(), Some("Asia/Shanghai"));
    assert_eq!(name("timezone: asia/shanghai").as_deref(), Some("Asia/Shanghai"));
    assert_eq!(name("timezone: America/Argentina/Buenos_Aires").as_deref(), Some("America/Argentina/Buenos_Aires"));
    insta::assert_snapshot!(system_problems("timezone: Asia/Shanghia"), @"aiproxy.yaml:1:20: error: system.timezone: there is no time zone `Asia/Shanghia`; did you mean `Asia/Shanghai`?");
    insta::assert_snapshot!(system_problems("timezone: Shanghai"), @"aiproxy.yaml:1:20: error: system.timezone: there is no time zone `Shanghai`; did you mean `Asia/Shanghai`?");
    insta::assert_snapshot!(system_problems("timezone: '+08:00'"), @"aiproxy.yaml:1:20: error: system.timezone: there is no time zone `+08`; write e.g. `Asia/Shanghai`");
    insta::assert_snapshot!(system_problems("timezone: ''"), @"aiproxy.yaml:1:20: error: system.timezone: there is no time zone ``; write e.g. `Asia/Shanghai`");
    insta::assert_snapshot!(system_problems("timezone: ../../etc/passwd"), @"aiproxy.yaml:1:20: error: system.timezone: there is no time zone `../../etc/passwd`; write e.g. `Asia/Shanghai`");
    insta::assert_snapshot!(system_problems("timezone: 8"), @"aiproxy.yaml:1:20: error: system.timezone: expected text, found a whole number; put it in quotes");
}

#[test]
fn statistics_are_open_to_the_local_machine_or_to_nobody() {
    assert!(!system("").open_stats);
    assert!(!system("open_stats: off").open_stats);
    assert!(system("open_stats: loopback").open_stats);
    insta::assert_snapshot!(system_problems("open_stats: true"), @"aiproxy.yaml:1:22: error: system.open_stats: expected text, found true/false; put it in quotes");
}

#[test]
fn the_journal_has_bounds_and_a_policy() {
    let default =
        Journal { segment_bytes: 64 << 20, memory_bytes: 64 << 20, fsync: None, on_full: OnJournalFull::Serve };
    assert_eq!(system("").journal, default);
    assert_eq!(system("journal: {fsync: off, on_full: serve}").journal, default);
    let refuse = Journal { on_full: OnJournalFull::Refuse, ..default };
    assert_eq!(system("journal: {on_full: refuse}").journal, refuse);
    assert_eq!(system("on_journal_full: refuse").journal, refuse);
    assert_eq!(system("on_journal_full: refuse, journal: {on_full: refuse}").journal, refuse);
    let written = Journal {
        segment_bytes: 1 << 20,
        memory_bytes: 16 << 30,
        fsync: Some(Duration::from_millis(100)),
        on_full: OnJournalFull::Serve,
    };
    assert_eq!(system("journal: {segment_size: 1MiB, memory: 16GiB, fsync: 100ms}").journal, written);

    insta::assert_snapshot!(system_problems("on_journal_full: refuse, journal: {on_full: serve}"), @"aiproxy.yaml:1:27: error: system.on_journal_full: says something else than `journal.on_full`; write one of them");
    insta::assert_snapshot!(system_problems("journal: {segment_size: 0, memory: 17GiB, fsync: 0, on_full: stop}"), @r"
    aiproxy.yaml:1:34: error: system.journal.segment_size: must be between 1MiB and 1GiB
    aiproxy.yaml:1:45: error: system.journal.memory: must be between 1MiB and 16GiB
    aiproxy.yaml:1:59: error: system.journal.fsync: must be between 1ms and 1h
    aiproxy.yaml:1:71: error: system.journal.on_full: `stop` is not known here; write one of: serve, refuse
    ");
    insta::assert_snapshot!(system_problems("journal: {segment_size: 2GiB, memory: 1KiB, fsync: 2h}"), @r"
    aiproxy.yaml:1:34: error: system.journal.segment_size: must be between 1MiB and 1GiB
    aiproxy.yaml:1:48: error: system.journal.memory: must be between 1MiB and 16GiB
    aiproxy.yaml:1:61: error: system.journal.fsync: must be between 1ms and 1h
    ");
    insta::assert_snapshot!(system_problems("journal: {fsync: never}"), @"aiproxy.yaml:1:27: error: system.journal.fsync: expected a duration: seconds, or e.g. `500ms`, `30s`, `5m`, `2h`, or `off`");
}

#[test]
fn things_are_kept_for_a_time_or_for_ever() {
    let retention = |text: &str| system(&format!("retention: {text}")).retention;
    let default = Retention {
        records: Some(90 * DAY),
        bodies: Some(7 * DAY),
        hours: Some(90 * DAY),
        days: Some(3 * YEAR),
        months: None,
    };
    assert_eq!(system("").retention, default);
    assert_eq!(retention("{}"), default);
    assert_eq!(retention("1y"), Retention { records: Some(YEAR), ..default });
    assert_eq!(retention("off"), Retention { records: None, ..default });
    assert_eq!(retention("86400").records, Some(DAY), "a number counts seconds");
    let all = retention("{records: off, bodies: 2w, hours: 1h, days: off, months: 100y}");
    let expected =
        Retention { records: None, bodies: Some(14 * DAY), hours: Some(HOUR), days: None, months: Some(100 * YEAR) };
    assert_eq!(all, expected);
    assert_eq!(retention("{bodies: off, records: off}").bodies, None);
    let short = retention("1d");
    assert_eq!((short.records, short.bodies), (Some(DAY), Some(DAY)), "bodies go with their records");
}

#[test]
fn retentions_that_make_no_sense() {
    let of = |text: &str| system_problems(&format!("retention: {text}"));
    insta::assert_snapshot!(of("0"), @"aiproxy.yaml:1:21: error: system.retention: must be between 1h and 100y; `off` keeps for ever, a plain number counts seconds");
    insta::assert_snapshot!(of("for ever"), @"aiproxy.yaml:1:21: error: system.retention: expected a duration: seconds, or e.g. `500ms`, `30s`, `5m`, `2h`, or `off`");
    insta::assert_snapshot!(of("true"), @"aiproxy.yaml:1:21: error: system.retention: expected text or a number or a group of fields, found true/false");
    insta::assert_snapshot!(of("{records: 30, bodies: 101y, hours: 59m, weeks: 1}"), @r"
    aiproxy.yaml:1:31: error: system.retention.records: must be between 1h and 100y; `off` keeps for ever, a plain number counts seconds
    aiproxy.yaml:1:43: error: system.retention.bodies: must be between 0 and 100 years, or `off`
    aiproxy.yaml:1:56: error: system.retention.hours: must be between 1h and 100y; `off` keeps for ever, a plain number counts seconds
    aiproxy.yaml:1:61: error: system.retention: unknown field `weeks`; fields here are: records, bodies, hours, days, months
    ");
    insta::assert_snapshot!(of("{records: 30, hours: 59m}"), @r"
    aiproxy.yaml:1:31: error: system.retention.records: must be between 1h and 100y; `off` keeps for ever, a plain number counts seconds
    aiproxy.yaml:1:42: error: system.retention.hours: must be between 1h and 100y; `off` keeps for ever, a plain number counts seconds
    ");
    insta::assert_snapshot!(of("{records: 1d, bodies: off}"), @"aiproxy.yaml:1:43: warning: system.retention.bodies: is longer than `records`, but bodies go with their records");
    insta::assert_snapshot!(of("{bodies: 100d}"), @"aiproxy.yaml:1:30: warning: system.retention.bodies: is longer than `records`, but bodies go with their records");
}

#[test]
fn regular_expressions_are_tried_before_they_are_needed() {
    let redact = system("redact: ['sk-[a-z]+', '(?i)nimbus']").redact;
    assert_eq!(redact.iter().map(|pattern| &**pattern).collect::<Vec<_>>(), ["sk-[a-z]+", "(?i)nimbus"]);
    assert!(system("").redact.is_empty());
    let of = |text: &str| {
        let lines = system_problems(&format!("redact: {text}"));
        assert!(!lines.contains("canary"), "{lines}");
        lines
    };
    insta::assert_snapshot!(of("['canary(b', fine, 'canary[z-a]', 'canary(?=x)', 'x*', 'canary\\p{Foo}']"), @r"
    aiproxy.yaml:1:19: error: system.redact[0]: is not a regular expression: at character 7: unclosed group
    aiproxy.yaml:1:37: error: system.redact[2]: is not a regular expression: at character 8: invalid character class range, the start must be <= the end
    aiproxy.yaml:1:52: error: system.redact[3]: is not a regular expression: at character 7: look-around, including look-ahead and look-behind, is not supported
    aiproxy.yaml:1:67: error: system.redact[4]: matches the empty text, which is everywhere
    aiproxy.yaml:1:73: error: system.redact[5]: is not a regular expression: at character 7: Unicode property not found
    ");
    insta::assert_snapshot!(of("[\"canary\\n(b\", 'canary{1000}{1000}{1000}']"), @r"
    aiproxy.yaml:1:19: error: system.redact[0]: is not a regular expression: unclosed group
    aiproxy.yaml:1:33: error: system.redact[1]: is not a regular expression: it is too large
    ");
    insta::assert_snapshot!(of("canary"), @r#"aiproxy.yaml:1:18: error: system.redact: expected a list, found text; write ["…"]"#);
    let many = format!("[{}]", vec!["x"; 101].join(", "));
    insta::assert_snapshot!(of(&many), @"aiproxy.yaml:1:18: error: system.redact: has more than 100 regular expressions; join some by `|`");
}

//! What is counted of calls, and that it stays bounded.

use aiproxy_llm::prices::PriceTable;
use aiproxy_llm::usage::Usage;

use super::*;
use crate::entry::{EntryAttempt, UNPRICED};

/// A name that is in the shipped table of prices.
const PRICED: &str = "gpt-4o";

fn call(status: u16, end: &'static str) -> Entry<'static> {
    Entry {
        channel_id: Some("main"),
        user_id: Some("zhang"),
        protocol: "http",
        dialect: "openai",
        endpoint: "/v1/chat/completions",
        status,
        end,
        started_unix_ms: 1_000_000,
        duration_us: 2_000_000,
        first_byte_us: Some(500_000),
        request_bytes: 10,
        response_bytes: 20,
        ..Entry::default()
    }
}

fn totals(entries: &[Entry<'_>]) -> Totals {
    let mut totals = Totals::default();
    entries.iter().for_each(|entry| totals.add(entry, &PriceTable::shipped()));
    totals
}

fn series(entries: &[Entry<'_>]) -> CallSeries {
    let mut series = CallSeries::default();
    entries.iter().for_each(|entry| series.add(entry, &PriceTable::shipped()));
    series
}

fn rows(named: &Named) -> Vec<(&str, u64, u64)> {
    named.sorted().into_iter().map(|(name, counts)| (name, counts.calls, counts.succeeded)).collect()
}

#[test]
fn what_succeeded_is_what_the_predecessor_and_the_database_call_so() {
    let refused = Entry { channel_id: None, user_id: None, error_code: Some("rate_limited"), ..call(429, "complete") };
    let totals = totals(&[
        call(200, "complete"),
        call(302, "complete"),
        call(200, "client_closed"),
        call(200, "upstream_error"),
        call(499, "client_closed"),
        call(504, "timeout"),
        refused,
    ]);
    assert_eq!((totals.all.calls, totals.all.succeeded, totals.all.failed()), (7, 3, 4));
    assert_eq!(rows(&totals.channels), [("main", 6, 3)], "a refused call came to no channel");
    assert_eq!(rows(&totals.users), [("zhang", 6, 3)]);
    assert_eq!(rows(&totals.status_classes), [("2xx", 3, 2), ("3xx", 1, 1), ("4xx", 2, 0), ("5xx", 1, 0)]);
    assert_eq!(rows(&totals.error_codes), [("rate_limited", 1, 0)]);
    assert_eq!((totals.last_call_unix_ms, totals.all.request_bytes, totals.all.response_bytes), (1_002_000, 70, 140));
}

#[test]
fn sockets_and_calls_by_webrtc_are_calls_but_no_response_times() {
    let websocket = Entry { protocol: "websocket", duration_us: 3_600_000_000, ..call(101, "complete") };
    let refused = Entry { status: 502, ..websocket.clone() };
    let webrtc = Entry { protocol: "webrtc", status: 201, ..websocket.clone() };
    let entries = [websocket, refused, webrtc, call(200, "complete")];
    let totals = totals(&entries);
    assert_eq!((totals.all.calls, totals.all.succeeded, totals.websockets), (4, 3, 1));
    assert_eq!((totals.all.average_duration_us(), totals.all.timed), (2_000_000, 1));
    assert_eq!((totals.duration.count(), totals.first_byte.count()), (1, 1));
    assert_eq!(rows(&totals.protocols), [("http", 1, 1), ("webrtc", 1, 1), ("websocket", 2, 1)]);
    assert_eq!(Counts::default().average_duration_us(), 0);

    let series = series(&entries);
    let timed = |family: &Family<2, Buckets>| -> Vec<_> {
        family.sorted().into_iter().map(|(labels, buckets)| (labels[1].to_string(), buckets.count())).collect()
    };
    assert_eq!(
        (timed(&series.duration), timed(&series.first_byte)),
        (vec![("http".into(), 1)], vec![("http".into(), 1)])
    );
    let lasted = [(["main", "webrtc"], &3_600_000), (["main", "websocket"], &7_200_000)];
    assert_eq!(series.session_ms.sorted(), lasted, "beside each other, not among response times");
    assert_eq!(series.calls.sorted().iter().map(|(_, count)| **count).sum::<u64>(), 4);
}

#[test]
fn usage_and_cost_add_up_and_stop_at_the_end() {
    let usage = Usage { input: Some(u64::MAX), output: Some(3), seconds_ms: Some(1_500), ..Usage::default() };
    let used = Entry {
        usage: Some(usage),
        usage_source: "estimated",
        cost: Some(i64::MAX),
        model_served: Some(PRICED),
        ..call(200, "complete")
    };
    let unpriced = Entry { price_version: Some(UNPRICED), cost: None, ..used.clone() };
    let all = totals(&[used.clone(), used.clone(), unpriced.clone()]).all;
    assert_eq!((all.cost, all.unpriced, all.estimated, all.usage.seconds_ms), (i64::MAX, 1, 3, 4_500));
    assert_eq!(all.usage.fields()[..2], [("input", u64::MAX), ("output", 9)]);

    let series = series(&[used.clone(), Entry { cost: Some(-5), ..used }, unpriced]);
    let currency = PriceTable::shipped().currency().to_string();
    assert_eq!(series.cost.sorted(), [(["main", PRICED, &currency], &(i64::MAX as u64))], "counters never go back");
    assert_eq!(series.usage.sorted(), [(["main", PRICED, "input"], &u64::MAX), (["main", PRICED, "output"], &9)]);
    assert_eq!(series.usage_ms.sorted(), [(["main", PRICED], &4_500)]);
    assert_eq!((series.unpriced.sorted()[0].1, series.estimated.sorted()[0].1), (&1, &3));
}

#[test]
fn every_call_is_in_the_histogram_and_words_nobody_knows_are_other() {
    let odd = Entry { protocol: "pigeon", dialect: "klingon", error_code: Some("new_code"), ..call(700, "exploded") };
    let none = Entry { channel_id: None, first_byte_us: None, ..call(401, "complete") };
    let series = series(&[odd, none, call(200, "complete")]);
    assert_eq!(series.duration.sorted().iter().map(|(_, buckets)| buckets.count()).sum::<u64>(), 3);
    assert_eq!(series.first_byte.sorted().iter().map(|(_, buckets)| buckets.count()).sum::<u64>(), 2);
    assert_eq!(
        series.calls.sorted(),
        [
            (["", "", "openai", "http", "4xx", "complete"], &1),
            (["main", "", "openai", "http", "2xx", "complete"], &1),
            (["main", "", "other", "other", "other", "other"], &1),
        ]
    );
    assert_eq!(series.errors.sorted(), [(["other"], &1)]);
}

#[test]
fn attempts_are_counted_by_what_became_of_them() {
    let attempt =
        |status, why| EntryAttempt { channel_id: "a", credential_id: "one", status, why, ..EntryAttempt::default() };
    let attempts = vec![
        attempt(None, Some("connection refused")),
        attempt(Some(429), None),
        attempt(Some(503), None),
        attempt(Some(400), None),
        attempt(Some(200), Some("an error in a success")),
        attempt(None, None),
        attempt(Some(200), None),
    ];
    let series = series(&[Entry { attempts, ..call(200, "complete") }]);
    let outcomes: Vec<_> = series.attempts.sorted().into_iter().map(|(labels, count)| (labels[2], *count)).collect();
    let words = ["error_in_success", "no_answer", "rate_limited", "refused", "served", "server_error", "unfinished"];
    assert_eq!(outcomes, words.map(|word| (word, 1)));
}

#[test]
fn ten_thousand_invented_names_of_each_kind_stay_below_the_ceiling() {
    let (mut totals, mut series, prices) = (Totals::default(), CallSeries::default(), PriceTable::shipped());
    for number in 0..10_000 {
        let name = format!("invented-{number}");
        let attempt = EntryAttempt { channel_id: &name, credential_id: &name, ..EntryAttempt::default() };
        // Some are even served: by an upstream that takes any name.
        let served = (number % 2 == 0).then_some(&*name);
        let entry = Entry {
            channel_id: Some(&name),
            user_id: Some(&name),
            key_id: Some(&name),
            model_asked: Some(&name),
            model_served: served,
            endpoint: &name,
            error_code: Some(&name),
            protocol: &name,
            dialect: &name,
            end: if served.is_some() { "complete" } else { &name },
            attempts: vec![attempt],
            usage: Some(Usage { input: Some(1), output: Some(1), ..Usage::default() }),
            cost: Some(1),
            ..call(if served.is_some() { 200 } else { 404 }, "complete")
        };
        totals.add(&entry, &prices);
        series.add(&entry, &prices);
    }
    for named in [&totals.channels, &totals.users, &totals.models, &totals.error_codes, &totals.protocols] {
        let rows = named.sorted();
        assert_eq!(rows.iter().map(|(_, counts)| counts.calls).sum::<u64>(), 10_000, "nothing is lost");
        assert!(rows.len() <= totals::NAMES_LIMIT + 1 && rows.last().unwrap().0 == totals::OTHER);
    }
    let lengths =
        [series.calls.len(), series.usage.len(), series.cost.len(), series.attempts.len(), series.endpoints.len()];
    assert!(lengths.iter().all(|length| *length <= family::SERIES_LIMIT + 10), "{lengths:?}");
    assert_eq!([series.duration.len(), series.request_bytes.len(), series.errors.len()], [501, 501, 1]);
    assert_eq!(series.calls.sorted().iter().map(|(_, count)| **count).sum::<u64>(), 10_000);
    let models: std::collections::HashSet<_> = series.calls.sorted().iter().map(|(labels, _)| labels[1]).collect();
    assert_eq!(models.len(), family::MODELS_LIMIT + 1);
}

#[test]
fn a_model_that_was_only_asked_for_has_a_name_if_it_has_a_price_or_served_before() {
    let asked = |name| Entry { model_asked: Some(name), ..call(404, "complete") };
    let served = Entry { model_asked: Some("mine"), model_served: Some("mine"), ..call(200, "complete") };
    // A pattern of the table would fit this one.
    let invented = asked("gpt-4o-made-up-by-a-caller");
    let entries = [asked("mine"), served, asked("mine"), asked(PRICED), invented];
    assert_eq!(rows(&totals(&entries).models), [(PRICED, 1, 0), ("mine", 2, 1), (totals::OTHER, 2, 0)]);
    let series = series(&entries);
    let models: Vec<_> = series.calls.sorted().into_iter().map(|(labels, count)| (labels[1], *count)).collect();
    assert_eq!(models, [(PRICED, 1), ("mine", 1), ("mine", 1), ("other", 2)]);
}

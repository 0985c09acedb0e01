//! What is done to records later: deleting, pricing, adding up.

use std::time::Duration;

use aiproxy_config::snapshot::Retention;
use aiproxy_core::tasks::Tasks;
use aiproxy_ledger::{Entry, EntryAttempt, Sink};
use aiproxy_llm::usage::Usage;
use aiproxy_store::reprice::{RepriceRow, Repriced, Repricing, reprice};
use aiproxy_store::retention::{Class, delete_older, delete_unused_series, run, sweep};
use aiproxy_store::tallies::{Scope, Tally, sums};
use aiproxy_store::{Granularity, Store};
use jiff::tz::TimeZone;
use tokio::sync::Notify;

use crate::in_every_database;
use crate::sample::{START, batch, plain, random, sink};
use crate::servers::TestDatabase;

in_every_database! {
    old_records_are_deleted_in_bounded_batches,
    a_bucket_goes_when_all_of_it_is_old,
    a_series_goes_when_nothing_uses_it_and_comes_back_when_it_is_used,
    a_price_that_is_known_later_is_given_once,
    all_records_can_be_priced_anew,
    pricing_stopped_half_way_goes_on,
    tallies_are_sums_by_scope,
}

const DAY: u64 = 86_400_000;

async fn old_records_are_deleted_in_bounded_batches(database: TestDatabase) {
    let mut entries = random(1, 500);
    entries.sort_unstable_by_key(|entry| entry.id);
    sink(&database).await.write(&batch(&entries)).await.unwrap();
    let store = Store::connect(&database.options()).await.unwrap();
    let before = entries[230].started_unix_ms;
    let old = entries.iter().filter(|entry| entry.started_unix_ms < before).count() as u64;
    assert_eq!(delete_older(&store, Class::Records, before, 200).await.unwrap(), 200);
    // The oldest went first.
    let left = database.number("MIN(started_at_ms)", "FROM records").await;
    assert_eq!(left as u64, entries[200].started_unix_ms);
    assert_eq!(delete_older(&store, Class::Records, before, 200).await.unwrap(), old - 200);
    assert_eq!(delete_older(&store, Class::Records, before, 200).await.unwrap(), 0);
    assert_eq!(database.count("records").await as u64, 500 - old);
    assert_eq!(database.number("SUM(calls)", "FROM rollups WHERE granularity = 2").await, 500);
    assert_eq!(delete_older(&store, Class::Bodies, before, 200).await.unwrap(), 0);
}

async fn a_bucket_goes_when_all_of_it_is_old(database: TestDatabase) {
    let day = |number: u64| Entry { started_unix_ms: START + number * DAY, ..plain(number * DAY) };
    sink(&database).await.write(&batch(&[day(0), day(1), day(2)])).await.unwrap();
    let store = Store::connect(&database.options()).await.unwrap();
    let days = Class::Rollups(Granularity::Day);
    // The bucket of the second day ends at 23:00 UTC of that day; 25 hours are taken for a day.
    let noon = START + DAY + DAY / 2;
    // A sum and its two histograms.
    assert_eq!(delete_older(&store, days, noon, 5_000).await.unwrap(), 3);
    assert_eq!(delete_older(&store, days, noon, 5_000).await.unwrap(), 0);
    let far = START + 20 * DAY;
    assert_eq!(delete_older(&store, days, far, 1).await.unwrap(), 1);
    assert_eq!(delete_older(&store, days, far, 5_000).await.unwrap(), 5);
    assert_eq!(database.number("COUNT(*)", "FROM rollups WHERE granularity = 0").await, 3);
    assert_eq!(database.number("COUNT(*)", "FROM rollup_latency WHERE granularity = 2").await, 2);
}

async fn a_series_goes_when_nothing_uses_it_and_comes_back_when_it_is_used(database: TestDatabase) {
    let mut sink = sink(&database).await;
    sink.write(&batch(&[plain(1)])).await.unwrap();
    let store = Store::connect(&database.options()).await.unwrap();
    assert_eq!(delete_unused_series(&store, 100).await.unwrap(), 0);
    let far = START + 400 * DAY;
    let granularities = Granularity::ALL.map(Class::Rollups);
    for class in [Class::Records].into_iter().chain(granularities) {
        delete_older(&store, class, far, 5_000).await.unwrap();
    }
    assert_eq!(delete_unused_series(&store, 100).await.unwrap(), 1);
    assert_eq!(database.count("series").await, 0);
    // The sink remembers the number of the series that is gone.
    sink.write(&batch(&[plain(2)])).await.unwrap();
    assert_eq!(database.count("record_lines").await, 1);
}

/// Two calls whose price is not known, one after an attempt that cost something, and one that has a price.
fn to_price() -> [Entry<'static>; 3] {
    let unpriced = |number| Entry { cost: None, price_version: Some("unpriced"), ..plain(number) };
    let usage = Usage { input: Some(5), seconds_ms: Some(2_500), ..Usage::default() };
    let mut failed_over = unpriced(2);
    failed_over.attempts.insert(
        0,
        EntryAttempt {
            channel_id: "aliyun",
            credential_id: "2",
            status: Some(502),
            ms: 9,
            why: Some("status"),
            usage: Some(usage),
            cost: None,
        },
    );
    [unpriced(1), failed_over, plain(3)]
}

fn repricing(all: bool) -> Repricing {
    Repricing { range: START..START + DAY, all, timezone: TimeZone::get("Europe/Berlin").unwrap() }
}

/// Ten per token of input, and a million per second.
fn price(row: &RepriceRow<'_>) -> Option<(i64, String)> {
    let RepriceRow { usage, .. } = row;
    let cost = usage.input.unwrap_or(0) * 10 + usage.seconds_ms.unwrap_or(0) * 1000;
    Some((cost as i64, "2026-02".to_owned()))
}

async fn costs(database: &TestDatabase) -> Vec<i64> {
    let mut costs = vec![
        database.number("COALESCE(SUM(cost), 0)", "FROM records").await,
        database.number("COUNT(*)", "FROM records WHERE price_version = 'unpriced'").await,
    ];
    for granularity in 0..3 {
        let rest = format!("FROM rollups WHERE granularity = {granularity}");
        costs.push(database.number("SUM(cost)", &rest).await);
        costs.push(database.number("SUM(unpriced)", &rest).await);
    }
    costs
}

async fn a_price_that_is_known_later_is_given_once(database: TestDatabase) {
    sink(&database).await.write(&batch(&to_price())).await.unwrap();
    assert_eq!(costs(&database).await, [1_234, 2, 1_234, 2, 1_234, 2, 1_234, 2]);
    let store = Store::connect(&database.options()).await.unwrap();
    let nothing = reprice(&store, &repricing(false), |_| None, |_| {}).await.unwrap();
    assert_eq!((nothing.seen, nothing.changed, nothing.unpriced), (2, 0, 2));
    // What is known of the call, but not of the attempt before it, is not known.
    let own = |row: &RepriceRow<'_>| price(row).filter(|_| !row.is_attempt);
    let some = reprice(&store, &repricing(false), own, |_| {}).await.unwrap();
    assert_eq!((some.seen, some.changed, some.unpriced), (2, 1, 1));
    let mut rows = Vec::new();
    let note = |row: &RepriceRow<'_>| {
        rows.push((row.channel_id.to_owned(), row.model_served.map(str::to_owned), row.is_attempt));
        price(row)
    };
    let mut told = Vec::new();
    let rest = reprice(&store, &repricing(false), note, |progress| told.push(progress)).await.unwrap();
    let expected = Repriced { until_unix_ms: START + DAY, seen: 1, changed: 1, unpriced: 0 };
    assert_eq!((rest, told.last()), (expected, Some(&expected)));
    let own = ("openai".to_owned(), Some("gpt-4o".to_owned()), false);
    assert_eq!(rows, [own, ("aliyun".to_owned(), None, true)]);
    let total = 1_234 + 110 + 110 + 50 + 2_500_000;
    assert_eq!(costs(&database).await, [total, 0, total, 0, total, 0, total, 0]);
    let again = reprice(&store, &repricing(false), price, |_| {}).await.unwrap();
    assert_eq!((again.seen, again.changed), (0, 0));
    assert_eq!(costs(&database).await[0], total);
    let attempts = database.texts("SELECT attempts FROM records WHERE attempts IS NOT NULL").await;
    assert!(attempts[0].contains(r#""cost":2500050"#), "{}", attempts[0]);
}

async fn all_records_can_be_priced_anew(database: TestDatabase) {
    sink(&database).await.write(&batch(&to_price())).await.unwrap();
    let store = Store::connect(&database.options()).await.unwrap();
    for _ in 0..2 {
        reprice(&store, &repricing(true), price, |_| {}).await.unwrap();
        let total = 110 + 110 + 50 + 2_500_000 + 110;
        assert_eq!(costs(&database).await, [total, 0, total, 0, total, 0, total, 0]);
    }
    let dearer = |row: &RepriceRow<'_>| price(row).map(|(cost, _)| (2 * cost, "2026-03".to_owned()));
    reprice(&store, &repricing(true), dearer, |_| {}).await.unwrap();
    let total = 2 * (110 + 110 + 50 + 2_500_000 + 110);
    assert_eq!(costs(&database).await, [total, 0, total, 0, total, 0, total, 0]);
}

async fn pricing_stopped_half_way_goes_on(database: TestDatabase) {
    let entries: Vec<Entry<'_>> =
        (0..1_300).map(|number| Entry { cost: None, price_version: Some("unpriced"), ..plain(number) }).collect();
    sink(&database).await.write(&batch(&entries)).await.unwrap();
    let store = Store::connect(&database.options()).await.unwrap();
    let (what, stopped) = (repricing(false), Notify::new());
    let work = reprice(&store, &what, price, |_| stopped.notify_one());
    // The work is dropped in the middle of its second step.
    tokio::select! {
        biased;
        () = stopped.notified() => {}
        outcome = work => panic!("it was not stopped: {outcome:?}"),
    }
    let costs_then = costs(&database).await;
    assert_eq!((costs_then[0], costs_then[1]), (costs_then[2], costs_then[3]));
    assert_eq!(costs_then[0], 500 * 110);
    reprice(&store, &repricing(false), price, |_| {}).await.unwrap();
    let total = 1_300 * 110;
    assert_eq!(costs(&database).await, [total, 0, total, 0, total, 0, total, 0]);
}

async fn tallies_are_sums_by_scope(database: TestDatabase) {
    let refused = Entry { counted: false, status: 429, usage: None, cost: None, channel_id: None, ..plain(2) };
    let other = Entry { user_id: Some("li"), key_id: Some("li-1"), department: None, ..plain(3) };
    let later = Entry { started_unix_ms: START + DAY, id: plain(DAY).id, ..plain(4) };
    sink(&database).await.write(&batch(&[plain(1), refused, other, later])).await.unwrap();
    let store = Store::connect(&database.options()).await.unwrap();
    let tally = |scope, id: &str, channel: &str, calls: i64| Tally {
        scope,
        id: id.to_owned(),
        channel_id: channel.to_owned(),
        requests: calls,
        tokens: calls * 33,
        cost: calls * 1_234,
    };
    let mut all = sums(&store, Granularity::Month, 0).await.unwrap();
    all.sort_unstable();
    // The refused call knew its credential, but no channel.
    let expected = [
        tally(Scope::Key, "li-1", "", 1),
        tally(Scope::Key, "zhang-1", "", 2),
        tally(Scope::User, "li", "", 1),
        tally(Scope::User, "zhang", "", 2),
        tally(Scope::Department, "技术部", "", 2),
        tally(Scope::Channel, "openai", "", 3),
        tally(Scope::Credential, "1", "", 0),
        tally(Scope::Credential, "1", "openai", 3),
    ];
    assert_eq!(all, expected);
    let since = (START / 1000) as i64 + 23 * 3600;
    let day = sums(&store, Granularity::Day, since).await.unwrap();
    let user = day.into_iter().filter(|tally| tally.scope == Scope::User).collect::<Vec<_>>();
    assert_eq!(user, [tally(Scope::User, "zhang", "", 1)]);
}

#[tokio::test]
async fn a_file_shrinks_when_records_are_deleted() {
    let database = TestDatabase::sqlite().await;
    sink(&database).await.write(&batch(&random(7, 5_000))).await.unwrap();
    let store = Store::connect(&database.options()).await.unwrap();
    let pages = database.number("page_count", "FROM pragma_page_count").await;
    while delete_older(&store, Class::Records, u64::MAX, 1_000).await.unwrap() > 0 {}
    let left = database.number("page_count", "FROM pragma_page_count").await;
    assert!(left < pages - 100, "{pages} {left}");
}

#[tokio::test]
async fn a_sweep_deletes_each_class_by_its_age() {
    let database = TestDatabase::sqlite().await;
    let entries: Vec<Entry<'_>> = (0..4_500).map(plain).collect();
    sink(&database).await.write(&batch(&entries)).await.unwrap();
    let now = aiproxy_core::time::unix_ms();
    let kept = |records| Retention { records: Some(records), ..Retention::default() };
    let store = Store::connect(&database.options()).await.unwrap();
    // The first 2,000 milliseconds of calls, give or take what the test takes.
    let age = Duration::from_millis(now - START - 2_000);
    sweep(&store, &kept(age), &Tasks::new()).await.unwrap();
    let left = database.count("records").await;
    assert!((1..=2_500).contains(&left), "{left}");
    sweep(&store, &kept(Duration::from_secs(1)), &Tasks::new()).await.unwrap();
    assert_eq!(database.count("records").await, 0);
    assert_eq!(database.number("SUM(calls)", "FROM rollups WHERE granularity = 2").await, 4_500);
}

#[tokio::test]
async fn the_loop_ends_when_it_is_told_to() {
    let database = TestDatabase::sqlite().await;
    let tasks = Tasks::new();
    let store = Store::new(&database.options()).unwrap();
    tasks.spawn(run(store, Retention::default, tasks.clone()));
    tasks.stop();
    assert!(tasks.finished_within(Duration::from_secs(10)).await);
}

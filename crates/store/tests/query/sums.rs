//! Sums of any range.

use std::collections::BTreeMap;

use aiproxy_ledger::Entry;
use aiproxy_store::Granularity;
use aiproxy_store::bins::{bin_of, bin_value};
use aiproxy_store::query::{Dimension, Filter, Grouping, Order, Periods, QueryError, Totals};
use fastrand::Rng;

use crate::calls::{USERS, calls, ledger, matches, ms, question, sum, value, zone};
use crate::servers::TestDatabase;
use crate::with_each_database;

const START: &str = "2026-01-20T05:00:00Z";
const END: &str = "2026-04-03T19:30:00Z";
const ZONE: &str = "Asia/Shanghai";

with_each_database! {
    sums_of_any_range_are_those_of_its_entries,
    groups_are_those_of_the_entries_in_any_order,
    series_are_those_of_the_entries_in_any_zone,
    a_series_of_groups_adds_up_to_all_calls,
    an_empty_ledger_answers_with_zeros,
}

async fn sums_of_any_range_are_those_of_its_entries(database: TestDatabase) {
    let entries = calls(1, 2000, ms(START), ms(END));
    let query = ledger(&database, ZONE, &entries).await;
    let mut random = Rng::with_seed(11);
    for _ in 0..60 {
        let filter = question(&mut random, ms(START), ms(END));
        let summary = query.summary(&filter, true).await.unwrap();
        let own: Vec<_> = entries.iter().filter(|entry| matches(&filter, entry)).collect();
        assert_eq!(summary.totals, sum(own.iter().copied()), "{filter:?}");
        assert_eq!((summary.range.start_ms, summary.range.end_ms), (filter.start_ms, filter.end_ms));
        let latency = summary.latency.unwrap();
        let own: Vec<_> = own.into_iter().filter(|entry| !entry.is_session()).collect();
        for share in [0.5, 0.95, 0.99] {
            let percentile = latency.duration.percentile(share);
            assert_eq!(percentile, exact(own.iter().map(|entry| entry.duration_us), share), "{filter:?}");
            let percentile = latency.first_byte.percentile(share);
            assert_eq!(percentile, exact(own.iter().filter_map(|entry| entry.first_byte_us), share), "{filter:?}");
        }
    }
}

/// The value of the bin that the percentile itself is in.
fn exact(durations: impl Iterator<Item = u64>, share: f64) -> Option<u64> {
    let mut durations: Vec<_> = durations.collect();
    durations.sort_unstable();
    let rank = (durations.len() as f64 * share).ceil() as usize;
    durations.get(rank.max(1) - 1).map(|us| bin_value(bin_of(*us)))
}

async fn groups_are_those_of_the_entries_in_any_order(database: TestDatabase) {
    let entries = calls(2, 1500, ms(START), ms(END));
    let query = ledger(&database, ZONE, &entries).await;
    let mut random = Rng::with_seed(12);
    let dimensions = Dimension::ALL.iter().map(|dimension| vec![*dimension]);
    for dimensions in dimensions.chain([vec![Dimension::Status, Dimension::ErrorCode]]) {
        let filter = question(&mut random, ms(START), ms(END));
        let own: Vec<_> = entries.iter().filter(|entry| matches(&filter, entry)).collect();
        let mut expected = BTreeMap::<Vec<String>, Vec<&Entry<'_>>>::new();
        for entry in own {
            let key = dimensions.iter().map(|dimension| value(entry, *dimension)).collect();
            expected.entry(key).or_default().push(entry);
        }
        let mut expected: Vec<_> = expected.into_iter().map(|(key, entries)| (key, sum(entries.into_iter()))).collect();
        let by = |order, limit, failed_only| Grouping { dimensions: dimensions.clone(), order, limit, failed_only };
        let found = query.group_by(&filter, &by(Order::Largest("cost"), 3, false), true).await.unwrap();
        assert_eq!(found.count, expected.len() as i64);
        expected.sort_by_key(|(key, totals)| (-totals.cost, key.clone()));
        let told = |groups: &aiproxy_store::query::Groups| -> Vec<(Vec<String>, Totals)> {
            groups.groups.iter().map(|group| (group.key.clone(), group.totals)).collect()
        };
        assert_eq!(told(&found), expected[..expected.len().min(3)], "{filter:?}");
        for group in &found.groups {
            let latency = group.latency.as_ref().unwrap();
            assert_eq!(latency.duration.calls(), group.totals.duration_calls);
            assert_eq!(latency.first_byte.calls(), group.totals.first_byte_calls);
        }
        let failed = query.group_by(&filter, &by(Order::MostFailed, 100, true), false).await.unwrap();
        expected.retain(|(_, totals)| totals.failed() > 0);
        expected.sort_by_key(|(key, totals)| (-totals.failed(), key.clone()));
        assert_eq!(told(&failed), expected, "{filter:?}");
        assert!(failed.groups.iter().all(|group| group.latency.is_none()));
    }
}

async fn series_are_those_of_the_entries_in_any_zone(database: TestDatabase) {
    let entries = calls(3, 1500, ms(START), ms(END));
    let query = ledger(&database, ZONE, &entries).await;
    let mut random = Rng::with_seed(13);
    for name in ["Asia/Shanghai", "UTC", "America/New_York", "Europe/Berlin", "Pacific/Auckland"] {
        for granularity in Granularity::ALL {
            let filter = question(&mut random, ms(START), ms(END));
            let periods = Periods { granularity, zone: zone(name), grouping: None };
            let found = query.timeseries(&filter, &periods, true).await.unwrap();
            let mut expected = BTreeMap::<i64, Vec<&Entry<'_>>>::new();
            for entry in entries.iter().filter(|entry| matches(&filter, entry)) {
                let start = granularity.bucket(&zone(name), entry.started_unix_ms as i64 / 1000).start;
                expected.entry(start).or_default().push(entry);
            }
            let [series] = &found.series[..] else { panic!("{}", found.series.len()) };
            assert_eq!(
                (series.points.len(), series.latency.as_ref().unwrap().len()),
                (found.starts.len(), found.starts.len())
            );
            assert!(found.starts.is_sorted());
            for ((start, totals), latency) in
                found.starts.iter().zip(&series.points).zip(series.latency.as_ref().unwrap())
            {
                let own = expected.remove(start).unwrap_or_default();
                assert_eq!(*totals, sum(own.into_iter()), "{name} {granularity:?} {start} {filter:?}");
                assert_eq!(latency.duration.calls(), totals.duration_calls);
            }
            assert!(expected.is_empty(), "{name} {granularity:?} {filter:?}");
        }
    }
    let odd = Periods { granularity: Granularity::Day, zone: zone("Asia/Kolkata"), grouping: None };
    let error = query.timeseries(&Filter::all(ms(START), ms(END)), &odd, false).await.unwrap_err();
    assert!(matches!(error, QueryError::Invalid { parameter: "timezone", .. }), "{error}");
}

async fn a_series_of_groups_adds_up_to_all_calls(database: TestDatabase) {
    let entries = calls(4, 800, ms(START), ms(END));
    let query = ledger(&database, "America/New_York", &entries).await;
    let filter = Filter::all(ms(START) + 1234, ms(END) - 98_765);
    let grouping =
        Grouping { dimensions: vec![Dimension::User], order: Order::Largest("calls"), limit: 2, failed_only: false };
    let periods = Periods { granularity: Granularity::Month, zone: zone("Asia/Tokyo"), grouping: Some(grouping) };
    let found = query.timeseries(&filter, &periods, false).await.unwrap();
    assert_eq!((found.starts.len(), found.series.len()), (4, 3));
    let mut all = Totals::default();
    for series in &found.series {
        for (start, totals) in found.starts.iter().zip(&series.points) {
            let own = entries.iter().filter(|entry| {
                let user = value(entry, Dimension::User);
                let is_rest = found.series[..2].iter().all(|series| series.key.as_ref().unwrap()[0] != user);
                matches(&filter, entry)
                    && Granularity::Month.bucket(&zone("Asia/Tokyo"), entry.started_unix_ms as i64 / 1000).start
                        == *start
                    && series.key.as_ref().map_or(is_rest, |key| key[0] == user)
            });
            assert_eq!(*totals, sum(own));
            all.add(totals);
        }
    }
    assert_eq!(all, found.summary.totals);
    assert_eq!(all, sum(entries.iter().filter(|entry| matches(&filter, entry))));
    assert!(USERS.contains(&&*found.series[0].key.as_ref().unwrap()[0]));
}

async fn an_empty_ledger_answers_with_zeros(database: TestDatabase) {
    let query = ledger(&database, "UTC", &[]).await;
    let filter = Filter::all(ms(START), ms(END));
    assert_eq!(query.summary(&filter, false).await.unwrap().totals, Totals::default());
    let by = Grouping { dimensions: vec![Dimension::User], order: Order::Name, limit: 10, failed_only: false };
    let groups = query.group_by(&filter, &by, true).await.unwrap();
    assert_eq!((groups.groups, groups.count), (Vec::new(), 0));
    let periods = Periods { granularity: Granularity::Month, zone: zone("UTC"), grouping: None };
    let series = query.timeseries(&filter, &periods, false).await.unwrap();
    assert_eq!(series.series[0].points, vec![Totals::default(); 4]);
    assert_eq!(query.records(&filter, true, None, 10).await.unwrap().records, []);
    assert_eq!(query.summary(&Filter::all(5, 5), true).await.unwrap().totals, Totals::default());
    for (start, end) in [(5, 4), (-1, 4), (0, i64::MAX)] {
        let error = query.summary(&Filter::all(start, end), true).await.unwrap_err();
        assert!(matches!(error, QueryError::Invalid { .. }), "{error}");
    }
}

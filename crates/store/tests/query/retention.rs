//! What is answered where retention has deleted something.

use aiproxy_store::Granularity;
use aiproxy_store::query::{Filter, Periods, QueryError};

use crate::calls::{calls, ledger, matches, ms, sum, zone};
use crate::servers::TestDatabase;
use crate::with_each_database;

const START: &str = "2026-01-05T00:00:00Z";
const END: &str = "2026-04-03T19:30:00Z";

with_each_database! {
    a_range_is_widened_to_what_is_kept,
}

async fn a_range_is_widened_to_what_is_kept(database: TestDatabase) {
    let entries = calls(31, 1500, ms(START), ms(END));
    let query = ledger(&database, "UTC", &entries).await;
    // Records are kept from the middle of an hour on, hours from the middle of a day, days from the middle of a month.
    let hours = ms("2026-03-05T07:00:00Z") / 1000;
    let days = ms("2026-02-10T00:00:00Z") / 1000;
    let id: String =
        aiproxy_store::id_floor(ms("2026-03-20T10:20:00Z") as u64).iter().map(|byte| format!("{byte:02x}")).collect();
    let id = match database.kind {
        aiproxy_config::snapshot::DatabaseKind::Postgres => format!("'\\x{id}'"),
        _ => format!("x'{id}'"),
    };
    database
        .run(&format!(
            "DELETE FROM records WHERE id < {id};
             DELETE FROM rollups WHERE granularity = 0 AND bucket < {hours};
             DELETE FROM rollup_latency WHERE granularity = 0 AND bucket < {hours};
             DELETE FROM rollups WHERE granularity = 1 AND bucket < {days};
             DELETE FROM rollup_latency WHERE granularity = 1 AND bucket < {days};"
        ))
        .await;
    for (start, end, widened_start, widened_end) in [
        // All kept.
        ("2026-03-22T10:11:12Z", "2026-03-25T01:02:03Z", "2026-03-22T10:11:12Z", "2026-03-25T01:02:03Z"),
        // Records are gone, hours are not.
        ("2026-03-12T10:11:12Z", "2026-03-25T01:02:03Z", "2026-03-12T10:00:00Z", "2026-03-25T01:02:03Z"),
        ("2026-03-12T10:11:12Z", "2026-03-12T10:21:12Z", "2026-03-12T10:00:00Z", "2026-03-12T11:00:00Z"),
        // Hours are gone, days are not; also of the day that lost some of them.
        ("2026-02-12T10:00:00Z", "2026-03-25T01:02:03Z", "2026-02-12T00:00:00Z", "2026-03-25T01:02:03Z"),
        ("2026-03-05T05:00:00Z", "2026-03-05T10:00:00Z", "2026-03-05T00:00:00Z", "2026-03-06T00:00:00Z"),
        ("2026-03-05T20:00:00Z", "2026-03-05T22:00:00Z", "2026-03-05T20:00:00Z", "2026-03-05T22:00:00Z"),
        // Days are gone, months are not.
        ("2026-01-12T10:00:00Z", "2026-02-20T10:00:00Z", "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"),
    ] {
        let summary = query.summary(&Filter::all(ms(start), ms(end)), true).await.unwrap();
        let widened = Filter::all(ms(widened_start), ms(widened_end));
        assert_eq!((summary.range.start_ms, summary.range.end_ms), (widened.start_ms, widened.end_ms), "{start} {end}");
        assert_eq!(summary.totals, sum(entries.iter().filter(|entry| matches(&widened, entry))), "{start} {end}");
        assert_eq!(summary.latency.unwrap().duration.calls(), summary.totals.duration_calls);
    }
    let periods = |granularity, name| Periods { granularity, zone: zone(name), grouping: None };
    let filter = Filter::all(ms("2026-03-01T00:00:00Z"), ms("2026-03-10T00:00:00Z"));
    let days = query.timeseries(&filter, &periods(Granularity::Day, "UTC"), false).await.unwrap();
    assert_eq!(days.starts.len(), 9);
    assert_eq!(days.summary.totals, sum(entries.iter().filter(|entry| matches(&filter, entry))));
    for (granularity, name) in [(Granularity::Hour, "UTC"), (Granularity::Day, "Asia/Tokyo")] {
        let error = query.timeseries(&filter, &periods(granularity, name), false).await.unwrap_err();
        let QueryError::Invalid { parameter: "start", message } = error else { panic!("{error}") };
        assert!(message.contains("from 2026-03-05T"), "{message}");
    }
}

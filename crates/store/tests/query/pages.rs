//! Records, page by page.

use std::collections::HashSet;

use aiproxy_ledger::{Bodies, Body, Entry};
use aiproxy_store::query::{Cursor, Dimension, Filter, QueryError};
use fastrand::Rng;

use crate::calls::{USERS, calls, ledger, matches, ms, question, write};
use crate::servers::TestDatabase;
use crate::with_each_database;

const START: &str = "2026-01-20T05:00:00Z";
const END: &str = "2026-04-03T19:30:00Z";

with_each_database! {
    pages_are_the_entries_of_the_filter_in_order,
    paging_visits_each_record_once_while_others_arrive,
    an_export_is_all_entries_of_the_filter,
    a_record_is_what_was_written_with_its_bodies,
    values_are_never_taken_for_sql,
}

/// The entries of a filter, in the order of their ids.
fn expected<'a>(entries: &'a [Entry<'a>], filter: &Filter, newest_first: bool) -> Vec<&'a Entry<'a>> {
    let mut own: Vec<_> = entries.iter().filter(|entry| matches(filter, entry)).collect();
    own.sort_by_key(|entry| entry.id);
    if newest_first {
        own.reverse();
    }
    own
}

async fn pages_are_the_entries_of_the_filter_in_order(database: TestDatabase) {
    let entries = calls(5, 1200, ms(START), ms(END));
    let query = ledger(&database, "Asia/Shanghai", &entries).await;
    let mut random = Rng::with_seed(21);
    for _ in 0..25 {
        let filter = question(&mut random, ms(START), ms(END));
        let newest_first = random.bool();
        let limit = random.usize(1..400);
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = query.records(&filter, newest_first, cursor, limit).await.unwrap();
            assert!(page.records.len() <= limit);
            assert!(page.next.is_none() || page.records.len() == limit);
            found.extend(page.records);
            let Some(next) = page.next else { break };
            cursor = Some(Cursor::decode(&next.encode()).unwrap());
        }
        let own = expected(&entries, &filter, newest_first);
        assert_eq!(found.len(), own.len(), "{filter:?}");
        for (record, entry) in found.iter().zip(own) {
            assert_eq!(record.entry(), *entry);
        }
    }
}

async fn paging_visits_each_record_once_while_others_arrive(database: TestDatabase) {
    let entries = calls(6, 600, ms(START), ms(END));
    let query = ledger(&database, "UTC", &entries).await;
    let filter = Filter { only: vec![(Dimension::Channel, vec!["openai".into()])], ..Filter::all(ms(START), ms(END)) };
    let own: HashSet<_> = expected(&entries, &filter, true).iter().map(|entry| entry.id).collect();
    for newest_first in [true, false] {
        let (mut seen, mut cursor, mut seed) = (Vec::new(), None, 100 + u64::from(newest_first));
        loop {
            let page = query.records(&filter, newest_first, cursor, 37).await.unwrap();
            seen.extend(page.records.iter().map(aiproxy_store::query::Record::id));
            seed += 10;
            write(&database, "UTC", &calls(seed, 5, ms(START), ms(END)), &[]).await;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let different: HashSet<_> = seen.iter().copied().collect();
        assert_eq!(different.len(), seen.len(), "twice");
        assert!(own.is_subset(&different), "missed");
        assert!(seen.is_sorted_by(|one, other| (one > other) == newest_first));
    }
}

async fn an_export_is_all_entries_of_the_filter(database: TestDatabase) {
    let entries = calls(7, 2600, ms(START), ms(END));
    let query = ledger(&database, "UTC", &entries).await;
    for only in [vec![], vec![(Dimension::User, vec![USERS[1].to_owned()])]] {
        let filter = Filter { only, ..Filter::all(ms(START) + 999, ms(END) - 999) };
        let mut export = query.export(&filter, false).unwrap();
        let mut found = Vec::new();
        loop {
            let records = export.next().await.unwrap();
            if records.is_empty() {
                break;
            }
            assert!(records.len() <= 1000);
            found.extend(records);
        }
        let own = expected(&entries, &filter, false);
        assert_eq!(found.len(), own.len());
        assert!(found.iter().zip(own).all(|(record, entry)| record.entry() == *entry));
    }
}

async fn a_record_is_what_was_written_with_its_bodies(database: TestDatabase) {
    let entries = calls(8, 3, ms(START), ms(END));
    let query = ledger(&database, "UTC", &entries).await;
    let body = Body { content_type: "text/plain", form: "text", content: "ab\"c", bytes: 4, ..Body::default() };
    let bodies = Bodies { id: entries[0].id, request: Some(body), ..Bodies::default() };
    write(&database, "UTC", &[], &[bodies]).await;
    for entry in &entries {
        assert_eq!(query.record(entry.id).await.unwrap().unwrap().entry(), *entry);
    }
    assert_eq!(query.record([7; 16]).await.unwrap(), None);
    let stored = query.bodies(entries[0].id).await.unwrap().unwrap();
    let request: serde_json::Value = serde_json::from_str(&stored.request.unwrap()).unwrap();
    assert_eq!((request["content"].as_str(), stored.response), (Some("ab\"c"), None));
    assert_eq!(query.bodies(entries[1].id).await.unwrap(), None);
}

async fn values_are_never_taken_for_sql(database: TestDatabase) {
    let entries = calls(9, 200, ms(START), ms(END));
    let query = ledger(&database, "UTC", &entries).await;
    for value in USERS.iter().copied().chain(["' OR ''='", "1; DELETE FROM records", "?", "$1", "%", "\u{202e}"]) {
        let filter =
            Filter { only: vec![(Dimension::User, vec![value.to_owned()])], ..Filter::all(ms(START), ms(END)) };
        let own = expected(&entries, &filter, true).len();
        assert_eq!(query.summary(&filter, false).await.unwrap().totals.calls, own as i64, "{value}");
        assert_eq!(query.records(&filter, true, None, 1000).await.unwrap().records.len(), own, "{value}");
    }
    let nul = Filter { only: vec![(Dimension::User, vec!["a\0".into()])], ..Filter::all(ms(START), ms(END)) };
    assert!(matches!(query.records(&nul, true, None, 1).await, Err(QueryError::Invalid { parameter: "user_id", .. })));
    assert_eq!(database.count("records").await, 200);
}

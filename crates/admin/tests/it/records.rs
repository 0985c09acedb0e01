//! Records.

use serde_json::{Value, json};

use crate::ledger::{END, START, Served};

const RECORDS: &str = "/admin/api/v1/records";

#[tokio::test]
async fn pages_follow_each_other_by_their_cursors() {
    let served = Served::with_calls(250).await;
    let mut ids: Vec<_> = served.entries.iter().map(|entry| (entry.id, entry.id_text())).collect();
    ids.sort();
    for order in ["newest", "oldest"] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("{RECORDS}?start={START}&end={END}&limit=60&order={order}{cursor}");
            let page = served.json(&path).await;
            found.extend(
                page["records"].as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let mut expected: Vec<_> = ids.iter().map(|(_, id)| id.clone()).collect();
        if order == "newest" {
            expected.reverse();
        }
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_record_is_the_line_that_other_sinks_have_and_its_bodies() {
    let served = Served::with_calls(2).await;
    for (entry, bodies) in served.entries.iter().zip([true, false]) {
        let mut found = served.json(&format!("{RECORDS}/{}", entry.id_text())).await;
        let kept = found.as_object_mut().unwrap().remove("bodies").unwrap();
        let mut line = Vec::new();
        entry.write_json(&mut line);
        assert_eq!(found, serde_json::from_slice::<Value>(&line).unwrap());
        if bodies {
            assert_eq!((&kept["request"]["content"], &kept["response"]), (&json!("hi"), &Value::Null));
        } else {
            assert_eq!(kept, Value::Null);
        }
        let simple = entry.id_text().replace('-', "");
        assert_eq!(served.json(&format!("{RECORDS}/{simple}")).await["id"], entry.id_text());
    }
}

#[tokio::test]
async fn garbage_is_refused_by_name() {
    let served = Served::with_calls(1).await;
    for (path, parameter) in [
        ("?cursor=garbage", "cursor"),
        ("?cursor=1zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "cursor"),
        ("?cursor=", "cursor"),
        ("?limit=1001", "limit"),
        ("?order=cost", "order"),
        ("/not-an-id", "id"),
        ("/00000000-0000-0000-0000-000000000000?x=1", "x"),
    ] {
        let expected = (400, "invalid_request".to_owned(), parameter.to_owned());
        assert_eq!(served.refusal(&format!("{RECORDS}{path}")).await, expected, "{path}");
    }
    assert_eq!(served.refusal(&format!("{RECORDS}/00000000-0000-0000-0000-000000000000")).await.0, 404);
}

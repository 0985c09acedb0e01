//! Exports.

use std::collections::BTreeMap;

use crate::ledger::{END, START, Served};

/// The rows of a CSV, by column.
fn rows(bytes: &[u8]) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(bytes);
    reader.deserialize().map(Result::unwrap).collect()
}

#[tokio::test]
async fn exported_records_are_all_records_and_add_up() {
    let served = Served::with_calls(2300).await;
    let path = format!("/admin/api/v1/records/export?start={START}&end={END}&order=oldest&bom=true");
    let response = served.get(&path).await;
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
    let name = "attachment; filename=\"aiproxy-records-20260120T050000Z-20260203T193000Z.csv\"";
    assert_eq!(response.headers()["content-disposition"], name);
    let text = response.body().strip_prefix("\u{feff}".as_bytes()).unwrap();
    let rows = rows(text);
    let mut entries: Vec<_> = served.entries.iter().collect();
    entries.sort_by_key(|entry| entry.id);
    assert_eq!(rows.len(), entries.len());
    for (row, entry) in rows.iter().zip(entries) {
        assert_eq!(row["id"], entry.id_text());
        assert_eq!(row["cost"], entry.cost.map(|cost| cost.to_string()).unwrap_or_default());
        let user = entry.user_id.unwrap();
        assert_eq!(row["user_id"], if user.starts_with('=') { format!("'{user}") } else { user.to_owned() });
        assert_eq!(row["duration_ms"], format!("{:.3}", entry.duration_us as f64 / 1000.0));
        assert_eq!(row["currency"], "CNY");
    }
    let summary = served.json(&format!("/admin/api/v1/statistics/summary?start={START}&end={END}")).await;
    let cost: i64 = rows.iter().filter_map(|row| row["cost"].parse::<i64>().ok()).sum();
    assert_eq!(summary["totals"]["cost"], cost);
}

#[tokio::test]
async fn exported_reports_are_those_of_the_api() {
    let served = Served::with_calls(200).await;
    let range = format!("start={START}&end={END}");
    let all = served.json(&format!("/admin/api/v1/statistics/summary?{range}")).await;
    let calls = all["totals"]["calls"].as_i64().unwrap();
    for (report, columns) in [
        ("users", vec!["user_id", "user_name"]),
        ("credentials", vec!["channel_id", "channel_name", "credential_id"]),
        ("timeseries", vec!["start"]),
        ("timeseries&group_by=user_id&granularity=day", vec!["start", "user_id", "user_name"]),
        ("summary", vec![]),
    ] {
        let response = served.get(&format!("/admin/api/v1/statistics/export?{range}&report={report}")).await;
        assert_eq!(response.status(), 200, "{report}: {response:?}");
        let head = response.body().split(|byte| *byte == b'\r').next().unwrap();
        let head = std::str::from_utf8(head).unwrap();
        assert!(head.starts_with(&columns.iter().map(|column| format!("{column},")).collect::<String>()), "{head}");
        let rows = rows(response.body());
        let sum: i64 = rows.iter().map(|row| row["calls"].parse::<i64>().unwrap()).sum();
        assert_eq!(sum, calls, "{report}");
    }
    let errors = served.get(&format!("/admin/api/v1/statistics/export?{range}&report=errors")).await;
    assert_eq!(rows(errors.body()).len(), 1);
    let nothing = served.get("/admin/api/v1/records/export?start=2000-01-01&end=2000-01-02").await;
    assert!(nothing.body().starts_with(b"id,started_at,") && rows(nothing.body()).is_empty());
}

#[tokio::test]
async fn a_spreadsheet_is_one_and_leaves_no_file() {
    let served = Served::with_calls(1500).await;
    for path in ["records/export", "statistics/export"] {
        let response = served.get(&format!("/admin/api/v1/{path}?start={START}&end={END}&format=xlsx")).await;
        assert_eq!(response.status(), 200);
        assert!(response.headers()["content-disposition"].to_str().unwrap().ends_with(".xlsx\""));
        // A ZIP archive, whole: it ends with its directory.
        assert!(response.body().starts_with(b"PK\x03\x04"));
        let end = response.body().len().saturating_sub(22);
        assert!(response.body()[end..].starts_with(b"PK\x05\x06"));
    }
    let left = std::fs::read_dir(&served.directory).unwrap().map(|file| file.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| !name.to_string_lossy().starts_with("aiproxy.db")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn only_a_few_exports_run_at_once_and_a_reader_who_leaves_makes_room() {
    let served = Served::with_calls(20_000).await;
    let path = format!("/admin/api/v1/records/export?start={START}&end={END}");
    let ask = || http::Request::builder().uri(&path).body(bytes::Bytes::new()).unwrap();
    let (one, other) = (served.admin.answer(ask()).await, served.admin.answer(ask()).await);
    assert_eq!((one.status(), other.status()), (http::StatusCode::OK, http::StatusCode::OK));
    let (status, code, _) = served.refusal(&path).await;
    assert_eq!((status, &*code), (503, "overloaded"));
    drop(one);
    let mut status = 503;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        let answer = served.admin.answer(ask()).await;
        status = answer.status().as_u16();
        if status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(status, 200);
    drop(other);
}

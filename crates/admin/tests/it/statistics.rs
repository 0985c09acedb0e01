//! Statistics.

use serde_json::{Value, json};

use crate::ledger::{END, START, Served, ms};

const STATISTICS: &str = "/admin/api/v1/statistics";

fn range() -> String {
    format!("start={START}&end={END}")
}

#[tokio::test]
async fn a_summary_is_the_sum_of_the_calls() {
    let served = Served::with_calls(300).await;
    let found = served.json(&format!("{STATISTICS}/summary?{}", range())).await;
    let totals = &found["totals"];
    let ok: Vec<_> = served.entries.iter().filter(|entry| entry.status == 200).collect();
    assert_eq!(totals["calls"], 300);
    assert_eq!((&totals["succeeded"], &totals["failed"]), (&json!(ok.len()), &json!(300 - ok.len())));
    assert_eq!(totals["cost"], ok.iter().map(|entry| entry.cost.unwrap()).sum::<i64>());
    assert_eq!(totals["usage"]["input"], ok.iter().map(|entry| entry.usage.unwrap().input.unwrap()).sum::<u64>());
    assert_eq!(totals["usage"]["seconds"], ok.len() as f64 * 1.5);
    assert_eq!(totals["first_byte_ms"]["mean"], 1.234);
    let p50 = totals["duration_ms"]["p50"].as_f64().unwrap();
    assert!((3500.0..5500.0).contains(&p50), "{p50}");
    assert_eq!((&found["currency"], &found["timezone"]), (&json!("CNY"), &json!("UTC")));
    assert_eq!(
        (&found["start"], &found["end"]),
        (&json!("2026-01-20T05:00:00+00:00"), &json!("2026-02-03T19:30:00+00:00"))
    );
}

#[tokio::test]
async fn each_report_adds_up_to_the_summary_in_any_zone() {
    let served = Served::with_calls(300).await;
    for zone in ["UTC", "Asia/Shanghai", "America/New_York"] {
        let scope = format!("start=2026-01-22T03:04:05.678Z&end=2026-02-01&timezone={zone}");
        let all = served.json(&format!("{STATISTICS}/summary?{scope}")).await;
        let sum = |rows: &Value, name: &str| {
            rows.as_array().unwrap().iter().map(|row| row[name].as_i64().unwrap()).sum::<i64>()
        };
        for report in ["users", "departments", "keys", "channels", "credentials", "models", "endpoints"] {
            let found = served.json(&format!("{STATISTICS}/{report}?{scope}&percentiles=true")).await;
            assert_eq!(found["totals"], all["totals"], "{report}");
            assert_eq!(found["total_groups"], found["groups"].as_array().unwrap().len());
            for name in ["calls", "cost", "failed", "response_bytes"] {
                assert_eq!(sum(&found["groups"], name), all["totals"][name].as_i64().unwrap(), "{report} {name}");
            }
        }
        for granularity in ["hour", "day", "month"] {
            let scope = format!("{scope}&granularity={granularity}");
            let found = served.json(&format!("{STATISTICS}/timeseries?{scope}")).await;
            assert_eq!(sum(&found["series"][0]["points"], "cost"), all["totals"]["cost"].as_i64().unwrap());
            let found = served.json(&format!("{STATISTICS}/timeseries?{scope}&group_by=user_id&limit=1")).await;
            let [top, rest] = [&found["series"][0], &found["series"][1]];
            assert_eq!((&rest["rest"], top["user_id"].is_string()), (&json!(true), true));
            let both = sum(&top["points"], "calls") + sum(&rest["points"], "calls");
            assert_eq!(both, all["totals"]["calls"].as_i64().unwrap());
        }
    }
}

#[tokio::test]
async fn groups_have_names_and_the_order_and_filters_asked_for() {
    let served = Served::with_calls(300).await;
    let path = format!("{STATISTICS}/users?{}&order=cost&limit=2&channel_id=openai&status=2xx", range());
    let found = served.json(&path).await;
    let groups = found["groups"].as_array().unwrap();
    assert_eq!((groups.len(), &found["total_groups"]), (2, &json!(3)));
    assert!(groups[0]["cost"].as_i64() >= groups[1]["cost"].as_i64());
    let named = served.json(&format!("{STATISTICS}/users?{}&user_id=zhangsan&user_id=nobody", range())).await;
    assert_eq!(named["groups"][0]["user_name"], "张三");
    assert_eq!(named["totals"]["calls"], named["groups"][0]["calls"]);
    let errors = served.json(&format!("{STATISTICS}/errors?{}", range())).await;
    assert_eq!(errors["groups"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&errors["groups"][0]["status"], &errors["groups"][0]["error_code"]),
        (&json!(504), &json!("upstream_timeout"))
    );
    assert_eq!(errors["groups"][0]["failed"], errors["totals"]["failed"]);
    assert_eq!(errors["groups"][0]["duration_ms"].get("p50"), None);
}

#[tokio::test]
async fn what_is_not_there_is_an_empty_list_with_zeros() {
    let served = Served::with_calls(0).await;
    let found = served.json(&format!("{STATISTICS}/users")).await;
    assert_eq!(
        (&found["groups"], &found["total_groups"], &found["totals"]["calls"]),
        (&json!([]), &json!(0), &json!(0))
    );
    assert_eq!(found["totals"]["success_rate"], Value::Null);
    let found = served.json(&format!("{STATISTICS}/timeseries?start=2026-01-01&end=2026-01-01")).await;
    assert_eq!(found["series"][0]["points"].as_array().unwrap().len(), 24);
    let found = served.json("/admin/api/v1/records").await;
    assert_eq!(found, json!({ "records": [], "next_cursor": null }));
}

#[tokio::test]
async fn a_bad_parameter_is_named() {
    let served = Served::with_calls(1).await;
    for (path, parameter) in [
        ("summary?colour=red", "colour"),
        ("summary?start=yesterday", "start"),
        ("summary?end=2026-01-01&start=2026-01-02T00:00:01Z", "end"),
        ("summary?end=99999999999999999", "end"),
        ("summary?timezone=Mars", "timezone"),
        ("timeseries?timezone=Asia/Kolkata&granularity=day&start=2026-01-01", "timezone"),
        ("timeseries?granularity=week", "granularity"),
        ("timeseries?granularity=hour&start=2000-01-01", "granularity"),
        ("timeseries?group_by=colour", "group_by"),
        ("users?order=colour", "order"),
        ("users?order=cost;DROP%20TABLE%20records", "order"),
        ("users?limit=0", "limit"),
        ("users?limit=10001", "limit"),
        ("users?limit=1&limit=2", "limit"),
        ("users?status=abc", "status"),
        ("users?user_id=%00", "user_id"),
        ("users?percentiles=maybe", "percentiles"),
        ("export?report=everything", "report"),
        ("export?format=pdf", "format"),
    ] {
        let expected = (400, "invalid_request".to_owned(), parameter.to_owned());
        assert_eq!(served.refusal(&format!("{STATISTICS}/{path}")).await, expected, "{path}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_and_a_missing_database_say_so() {
    let served = Served::with_calls(1).await;
    assert_eq!(served.refusal("/admin/api/v1/statistics/colours").await.0, 404);
    assert_eq!(served.send("POST", "/admin/api/v1/statistics/users").await.status(), 405);
    let page = served.get("/stats").await;
    assert_eq!(page.headers()["content-type"], "application/json; charset=utf-8");
    assert!(page.body().starts_with(b"{\n  \"service\": \"AIProxy\""));
    for served in [Served::without_database(), Served::without_ledger()] {
        for path in ["statistics/summary", "records", "records/export", "statistics/export?report=users"] {
            let (status, code, _) = served.refusal(&format!("/admin/api/v1/{path}")).await;
            assert_eq!((status, &*code), (503, "database_unavailable"), "{path}");
        }
        assert_eq!(served.get("/stats").await.status(), 200);
    }
    assert!(ms(START) < ms(END));
}

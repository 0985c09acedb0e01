//! `/stats`: what has been counted since the first start ever. Names and types of the predecessor's page stay as they
//! were; whatever is new is a field of its own.
//!
//! Three of its habits are mended, as its users expect: a WebSocket that is established is counted at once and is a
//! success, how long it lasts is no response time, and channels are told apart by their ids, not by their names. A call
//! by WebRTC is counted the same way.

use aiproxy_ledger::live::{Counts, Latency, Named, Totals, UsageTotals};
use serde_json::{Map, Value, json};

use crate::live::About;

/// The page. It grows with the number of names that calls had, each table up to
/// [`NAMES_LIMIT`](aiproxy_ledger::live::totals::NAMES_LIMIT).
#[must_use]
pub fn stats(totals: &Totals, about: &About) -> Value {
    let (sockets, calls) = (about.open_websockets, about.open_webrtc_calls);
    let open = sockets.saturating_add(calls);
    let finished = |protocol| totals.protocols.get(protocol).map_or(0, |counts| counts.calls);
    // What is open has no record yet; what it is counted as now, it is counted as when it has.
    let requests = totals.all.calls.saturating_add(open);
    let successful = totals.all.succeeded.saturating_add(open);
    let websocket = finished("websocket").saturating_add(sockets);
    let webrtc = finished("webrtc").saturating_add(calls);
    let established = totals.websockets.saturating_add(sockets);
    json!({
        "service": "AIProxy",
        "version": about.version,
        "uptime_seconds": about.uptime_seconds,
        "total_requests": requests,
        "successful_requests": successful,
        "failed_requests": requests.saturating_sub(successful),
        "success_rate": percent(successful, requests),
        "protocol_stats": {
            "http_requests": requests.saturating_sub(websocket).saturating_sub(webrtc),
            "websocket_requests": websocket,
            "websocket_connections": established,
            "websocket_connection_rate": percent(established, websocket),
            "websocket_open": sockets,
            "webrtc_requests": webrtc,
            "webrtc_open": calls,
        },
        "channel_stats": channels(&totals.channels, about),
        "avg_response_time": seconds(totals.all.average_duration_us()),
        "last_request_time": totals.last_call_unix_ms / 1000,
        "api_keys_count": about.keys,
        "timestamp": about.unix_ms / 1000,
        "since": totals.since_unix_ms / 1000,
        "user_stats": users(&totals.users, about),
        "model_stats": rows(&totals.models, |_, _| {}),
        "errors": {
            "status": failures(&totals.status_classes),
            "codes": failures(&totals.error_codes),
        },
        "latency": { "duration_ms": percentiles(&totals.duration), "first_byte_ms": percentiles(&totals.first_byte) },
        "request_bytes": totals.all.request_bytes,
        "response_bytes": totals.all.response_bytes,
        "usage": usage(&totals.all.usage),
        "estimated_requests": totals.all.estimated,
        "cost": totals.all.cost,
        "currency": about.currency,
        "unpriced_requests": totals.all.unpriced,
    })
}

/// Channels that had calls; also those that are no longer in the config.
fn channels(named: &Named, about: &About) -> Value {
    rows(named, |id, row| {
        let channel = about.channels.get(id);
        row.insert("name".into(), channel.map_or(id, |channel| &channel.name).into());
        row.insert("status".into(), channel.map_or("removed", |channel| &channel.status).into());
    })
}

fn users(named: &Named, about: &About) -> Value {
    rows(named, |id, row| {
        row.insert("name".into(), about.users.get(id).map_or(id, |user| &user.name).into());
    })
}

/// One object per name that had calls.
fn rows(named: &Named, describe: impl Fn(&str, &mut Map<String, Value>)) -> Value {
    let rows = named.sorted().into_iter().filter(|(_, counts)| counts.calls > 0).map(|(id, counts)| {
        let mut row = Map::new();
        describe(id, &mut row);
        row.extend(counted(counts));
        (id.to_owned(), Value::from(row))
    });
    Value::from(rows.collect::<Map<_, _>>())
}

fn counted(counts: &Counts) -> Map<String, Value> {
    let Value::Object(row) = json!({
        "requests": counts.calls,
        "successful_requests": counts.succeeded,
        "failed_requests": counts.failed(),
        "success_rate": percent(counts.succeeded, counts.calls),
        "avg_response_time": seconds(counts.average_duration_us()),
        "request_bytes": counts.request_bytes,
        "response_bytes": counts.response_bytes,
        "usage": usage(&counts.usage),
        "cost": counts.cost,
    }) else {
        return Map::new();
    };
    row
}

/// How many calls failed, by name.
fn failures(named: &Named) -> Value {
    let failed = named.sorted().into_iter().filter(|(_, counts)| counts.failed() > 0);
    Value::from(failed.map(|(name, counts)| (name.to_owned(), counts.failed().into())).collect::<Map<_, _>>())
}

fn percentiles(latency: &Latency) -> Value {
    let at = |share| latency.percentile_us(share).map(|us| us as f64 / 1000.0);
    json!({ "p50": at(0.5), "p95": at(0.95), "p99": at(0.99) })
}

/// What was used; units that never were are left out.
fn usage(usage: &UsageTotals) -> Value {
    let mut map: Map<String, Value> = usage
        .fields()
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(name, number)| ((*name).into(), (*number).into()))
        .collect();
    if usage.seconds_ms > 0 {
        map.insert("seconds".into(), json!(usage.seconds_ms as f64 / 1000.0));
    }
    map.into()
}

/// `NN.NN%`, as the predecessor wrote it; `0.00%` of nothing.
fn percent(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    format!("{:.2}%", share * 100.0)
}

/// `N.NNN`, as the predecessor wrote it.
fn seconds(us: u64) -> String {
    format!("{:.3}", us as f64 / 1_000_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{Channel, User};

    fn about() -> About {
        let channel = |name: &str, status: &str| Channel { name: name.into(), status: status.into() };
        About {
            version: "0.1.0".into(),
            uptime_seconds: 7200,
            unix_ms: 1_772_366_400_500,
            channels: [
                ("aliyun".into(), channel("阿里云百炼", "active")),
                ("openai".into(), channel("OpenAI", "active")),
                ("spare".into(), channel("Spare", "disabled")),
            ]
            .into(),
            users: [("zhangsan".into(), User { name: "张三".into() })].into(),
            keys: 5,
            open_websockets: 0,
            open_webrtc_calls: 0,
            currency: "CNY".into(),
        }
    }

    /// Sums of `calls` calls, of which `succeeded` did, of 250 ms each.
    fn counts(calls: u64, succeeded: u64) -> Value {
        let mut counts = serde_json::to_value(Counts::default()).unwrap();
        counts["calls"] = calls.into();
        counts["succeeded"] = succeeded.into();
        counts["timed"] = calls.into();
        counts["duration_us"] = (calls * 250_000).into();
        counts["usage"]["numbers"][0] = (calls * 100).into();
        counts["cost"] = (calls * 3).into();
        counts
    }

    fn totals() -> Totals {
        let mut totals = serde_json::to_value(Totals::default()).unwrap();
        totals["since_unix_ms"] = 1_772_000_000_000_u64.into();
        totals["last_call_unix_ms"] = 1_772_366_390_000_u64.into();
        totals["all"] = counts(10, 7);
        totals["channels"]["names"] = json!({ "aliyun": counts(6, 5), "gone": counts(2, 2) });
        totals["users"]["names"] = json!({ "zhangsan": counts(8, 7) });
        totals["protocols"]["names"] =
            json!({ "http": counts(8, 7), "websocket": counts(1, 0), "webrtc": counts(1, 0) });
        totals["status_classes"]["names"] = json!({ "2xx": counts(7, 7), "4xx": counts(1, 0), "5xx": counts(2, 0) });
        totals["error_codes"]["names"] = json!({ "upstream_timeout": counts(1, 0), "key_disabled": counts(1, 0) });
        let mut totals: Totals = serde_json::from_value(totals).unwrap();
        for _ in 0..10 {
            totals.duration.add(250_000);
        }
        totals
    }

    #[test]
    fn the_page_has_the_predecessors_fields_and_more() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&stats(&totals(), &about())).unwrap());
    }

    #[test]
    fn the_page_of_a_gateway_without_calls_is_all_zeros() {
        let page = stats(&Totals::default(), &About::default());
        assert_eq!((&page["success_rate"], &page["avg_response_time"]), (&json!("0.00%"), &json!("0.000")));
        assert_eq!((&page["total_requests"], &page["channel_stats"]), (&json!(0), &json!({})));
        assert_eq!(page["latency"]["duration_ms"]["p99"], Value::Null);
        assert_eq!(page["protocol_stats"]["websocket_connection_rate"], json!("0.00%"));
    }

    #[test]
    fn an_open_websocket_is_counted_at_once_and_as_a_success() {
        let page = stats(&Totals::default(), &About { open_websockets: 3, ..about() });
        let protocols = &page["protocol_stats"];
        assert_eq!((&protocols["websocket_requests"], &protocols["websocket_connections"]), (&json!(3), &json!(3)));
        assert_eq!((&page["failed_requests"], &page["success_rate"]), (&json!(0), &json!("100.00%")));
        assert_eq!((&page["avg_response_time"], &protocols["http_requests"]), (&json!("0.000"), &json!(0)));
        assert_eq!((&protocols["websocket_open"], &protocols["webrtc_open"]), (&json!(3), &json!(0)));
        assert_eq!(protocols["websocket_connection_rate"], json!("100.00%"));
    }

    #[test]
    fn an_open_call_by_webrtc_is_neither_http_nor_a_websocket() {
        let page = stats(&totals(), &About { open_websockets: 1, open_webrtc_calls: 2, ..about() });
        let protocols = &page["protocol_stats"];
        assert_eq!((&page["total_requests"], &page["successful_requests"]), (&json!(13), &json!(10)));
        assert_eq!((&protocols["webrtc_requests"], &protocols["webrtc_open"]), (&json!(3), &json!(2)));
        assert_eq!((&protocols["websocket_requests"], &protocols["websocket_connections"]), (&json!(2), &json!(1)));
        assert_eq!(protocols["http_requests"], json!(8), "as without them");
    }
}

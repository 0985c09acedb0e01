//! The page is OpenMetrics to the letter, adds up, and has a ceiling.

mod open_metrics;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use aiproxy_ledger::entry::EntryAttempt;
use aiproxy_ledger::journal::Options;
use aiproxy_ledger::reader::Reader;
use aiproxy_ledger::runner::{Order, Runner};
use aiproxy_ledger::sinks::tally::{Restored, TallySink};
use aiproxy_ledger::tally::Calendar;
use aiproxy_ledger::{Batch, Entry, Position, Sink};
use aiproxy_llm::prices::PriceTable;
use aiproxy_llm::usage::Usage;
use jiff::tz::TimeZone;
use tokio::sync::watch;

use self::open_metrics::Exposition;
use super::*;

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("aiproxy-metrics-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

struct Part {
    source: MetricsSource,
    sink: TallySink,
    _directory: Directory,
}

impl Part {
    fn new(gateway: GatewayMeasures) -> Self {
        let directory = Directory::new();
        let journal = Journal::open(Options {
            directory: directory.0.clone(),
            shards: 1,
            segment_bytes: 1 << 20,
            memory_bytes: 1 << 20,
            fsync: None,
        });
        let calendar = Arc::new(Calendar::new(TimeZone::UTC));
        let Restored { sink, totals, .. } = TallySink::restore(&journal, calendar, Box::new(PriceTable::shipped));
        let gateway = Box::new(move || gateway.clone());
        let source = MetricsSource { totals, journal, sinks: Vec::new(), gateway, version: "1.2.3" };
        Self { source, sink, _directory: directory }
    }

    async fn count(&mut self, entries: impl IntoIterator<Item = Entry<'_>>) {
        let mut batch = Batch::default();
        entries.into_iter().for_each(|entry| batch.push_record(&entry));
        self.sink.write(&batch).await.unwrap();
    }

    fn page(&self) -> Exposition {
        Exposition::parse(&self.source.render()).unwrap()
    }
}

fn call(channel: &str) -> Entry<'_> {
    Entry {
        channel_id: Some(channel),
        protocol: "http",
        dialect: "openai",
        endpoint: "/v1/chat/completions",
        status: 200,
        end: "complete",
        duration_us: 1_500_000,
        first_byte_us: Some(4_000),
        model_asked: Some("gpt-4o"),
        model_served: Some("gpt-4o"),
        usage: Some(Usage { input: Some(1_000), output: Some(20), seconds_ms: Some(1_500), ..Usage::default() }),
        cost: Some(1_250_000),
        request_bytes: 100,
        attempts: vec![EntryAttempt {
            channel_id: channel,
            credential_id: "a",
            status: Some(200),
            ..Default::default()
        }],
        ..Entry::default()
    }
}

#[tokio::test]
async fn an_empty_gateway_has_a_page_too() {
    let page = Part::new(GatewayMeasures::default()).page();
    assert_eq!(page.value("aiproxy_build_info", &[("version", "1.2.3")]), Some(1.0));
    assert_eq!(page.value("aiproxy_calls_in_flight", &[]), Some(0.0));
    assert_eq!(page.sum("aiproxy_calls_total"), 0.0);
    assert!(page.value("process_resident_memory_bytes", &[]).unwrap() > 1e6);
    assert!(page.value("process_start_time_seconds", &[]).unwrap() > 1.6e9);
    assert!(page.value("process_open_fds", &[]).unwrap() >= 3.0);
    assert!(page.value("aiproxy_system_memory_available_bytes", &[]).unwrap() > 1e6);
}

#[tokio::test]
async fn calls_are_told_with_their_units_and_histograms_count_all_but_sessions() {
    let mut part = Part::new(GatewayMeasures::default());
    let failed = Entry { status: 429, error_code: Some("rate_limited"), cost: None, usage: None, ..call("main") };
    let websocket = Entry { protocol: "websocket", status: 101, duration_us: 4_000_000_000, ..call("main") };
    part.count([call("main"), call("main"), failed, websocket, call("other one")]).await;
    let page = part.page();
    let labels = [
        ("channel", "main"),
        ("model", "gpt-4o"),
        ("dialect", "openai"),
        ("protocol", "http"),
        ("status_class", "2xx"),
        ("end", "complete"),
    ];
    assert_eq!(page.value("aiproxy_calls_total", &labels), Some(2.0));
    assert_eq!(page.sum("aiproxy_calls_total"), 5.0);
    assert_eq!(page.sum("aiproxy_endpoint_calls_total"), 5.0);
    assert_eq!(page.sum("aiproxy_call_duration_seconds_count"), 4.0);
    assert_eq!(page.sum("aiproxy_call_first_byte_seconds_count"), 4.0);
    let session = [("channel", "main"), ("protocol", "websocket")];
    assert_eq!(page.value("aiproxy_session_seconds_total", &session), Some(4_000.0));
    assert_eq!(page.sum("aiproxy_session_seconds_total"), 4_000.0);
    let duration = [("channel", "main"), ("protocol", "http")];
    assert_eq!(page.value("aiproxy_call_duration_seconds_sum", &duration), Some(4.5));
    let within = |le| [("channel", "main"), ("protocol", "http"), ("le", le)];
    let buckets = ["1.0", "2.5", "+Inf"].map(|le| page.value("aiproxy_call_duration_seconds_bucket", &within(le)));
    assert_eq!(buckets, [Some(0.0), Some(3.0), Some(3.0)]);
    let model = [("channel", "main"), ("model", "gpt-4o")];
    assert_eq!(page.value("aiproxy_usage_total", &[&model[..], &[("kind", "input")]].concat()), Some(3_000.0));
    assert_eq!(page.value("aiproxy_usage_seconds_total", &model), Some(4.5));
    let currency = PriceTable::shipped().currency().to_string();
    assert_eq!(page.value("aiproxy_cost_total", &[&model[..], &[("currency", &currency)]].concat()), Some(3.75));
    assert_eq!(page.value("aiproxy_gateway_errors_total", &[("code", "rate_limited")]), Some(1.0));
    assert_eq!(page.sum("aiproxy_attempts_total"), 5.0);
    assert_eq!(page.value("aiproxy_request_bytes_total", &[("channel", "main")]), Some(400.0));
}

#[tokio::test]
async fn ten_thousand_invented_models_users_and_channels_stay_below_the_ceiling() {
    let mut part = Part::new(GatewayMeasures::default());
    let names: Vec<String> = (0..10_000).map(|number| format!("invented-{number}")).collect();
    part.count(names.iter().map(|name| Entry {
        user_id: Some(name),
        key_id: Some(name),
        client_ip: name,
        model_asked: Some(name),
        model_served: Some(name),
        error_code: Some(name),
        ..call(name)
    }))
    .await;
    let page = part.page();
    assert_eq!(page.sum("aiproxy_calls_total"), 10_000.0);
    assert_eq!(page.sum("aiproxy_call_duration_seconds_count"), 10_000.0);
    assert_eq!(page.sum("aiproxy_cost_total"), 12_500.0);
    let size = page.series();
    part.count(names.iter().map(|name| Entry { model_asked: Some(name), status: 404, end: "timeout", ..call(name) }))
        .await;
    assert!(size < 45_000, "{size} series");
    assert!(part.page().series() < size + 5_000, "as full as it gets");
}

#[tokio::test]
async fn names_with_quotes_lines_and_backslashes_are_escaped() {
    let name = "a \"quoted\"\\ name\nof two lines, {with} =signs# 模型";
    let host = ChannelMeasures {
        id: name.into(),
        state: "paused",
        credentials: vec![(name.into(), "healthy", 2)],
        endpoints: vec![("up.test".into(), "healthy"), ("up.test".into(), "paused")],
    };
    let mut part = Part::new(GatewayMeasures { channels: vec![host], ..GatewayMeasures::default() });
    part.count([call(name)]).await;
    let page = part.page();
    assert_eq!(page.value("aiproxy_request_bytes_total", &[("channel", name)]), Some(100.0));
    let state = |state| page.value("aiproxy_channel_state", &[("channel", name), ("state", state)]);
    assert_eq!(["healthy", "paused"].map(state), [Some(0.0), Some(1.0)]);
    let endpoint = |endpoint| {
        page.value("aiproxy_endpoint_state", &[("channel", name), ("endpoint", endpoint), ("state", "paused")])
    };
    assert_eq!(["up.test", "up.test 2"].map(endpoint), [Some(0.0), Some(1.0)], "two at one host are two series");
    assert_eq!(page.value("aiproxy_credential_paused_models", &[("channel", name), ("credential", name)]), Some(2.0));
}

#[tokio::test]
async fn the_gateway_and_its_config_are_told() {
    let measures = GatewayMeasures {
        calls_in_flight: 7,
        connections: 9,
        open_websockets: 5,
        websockets_opened: 12,
        open_webrtc_calls: 2,
        idle_upstream_connections: vec![("up.test".into(), 3)],
        is_draining: true,
        reloads: 2,
        last_reload_unix_ms: Some(1_795_161_600_500),
        config_is_current: false,
        denied: vec![("ip", 4)],
        ..GatewayMeasures::default()
    };
    let page = Part::new(measures).page();
    let single = |name| page.value(name, &[]);
    assert_eq!([single("aiproxy_calls_in_flight"), single("aiproxy_connections")], [Some(7.0), Some(9.0)]);
    assert_eq!([single("aiproxy_websockets_open"), single("aiproxy_webrtc_calls_open")], [Some(5.0), Some(2.0)]);
    assert_eq!(single("aiproxy_websockets_opened_total"), Some(12.0));
    assert_eq!([single("aiproxy_draining"), single("aiproxy_config_current")], [Some(1.0), Some(0.0)]);
    assert_eq!(single("aiproxy_config_reloads_total"), Some(2.0));
    assert_eq!(single("aiproxy_config_last_reload_timestamp_seconds"), Some(1_795_161_600.5));
    assert_eq!(page.value("aiproxy_upstream_idle_connections", &[("host", "up.test")]), Some(3.0));
    assert_eq!(page.value("aiproxy_denied_calls_total", &[("by", "ip")]), Some(4.0));
}

#[test]
fn the_journal_and_its_sinks_are_told() {
    let mut part = Part::new(GatewayMeasures::default());
    let journal = part.source.journal.clone();
    for _ in 0..20 {
        assert!(journal.append_record(&call("main")));
    }
    let Part { sink, .. } = part;
    // One that waits for its turn, as it does while another process still feeds it.
    let (orders, listening) = watch::channel(Order::Wait);
    let runner = Runner::start(journal.clone(), sink, listening).unwrap();
    part.source.sinks.push(runner.status().clone());
    let page = Exposition::parse(&part.source.render()).unwrap();
    let bytes = page.value("aiproxy_journal_bytes", &[("place", "disk")]).unwrap();
    assert!(bytes > 1_000.0);
    assert_eq!(page.value("aiproxy_journal_segments", &[("place", "disk")]), Some(1.0));
    assert_eq!(page.value("aiproxy_journal_records_total", &[]), Some(20.0));
    assert_eq!(page.value("aiproxy_journal_lost_records_total", &[]), Some(0.0));
    let tally = [("sink", "tally")];
    assert_eq!(page.value("aiproxy_sink_backlog_bytes", &tally), Some(bytes), "all of it");
    assert_eq!(page.value("aiproxy_sink_frames_total", &tally), Some(0.0));
    assert_eq!(page.value("aiproxy_sink_failing_seconds", &tally), Some(0.0));

    orders.send(Order::Finish(aiproxy_core::time::now() + std::time::Duration::from_secs(60))).unwrap();
    runner.join();
    let page = Exposition::parse(&part.source.render()).unwrap();
    assert_eq!(page.value("aiproxy_sink_backlog_bytes", &tally), Some(0.0));
    assert_eq!(page.value("aiproxy_sink_frames_total", &tally), Some(20.0));
    assert_eq!(page.sum("aiproxy_calls_total"), 20.0);
    let mut reader = Reader::new(journal.clone(), Position::default());
    reader.fill(&mut Batch::default(), &Default::default()).unwrap();
    assert_eq!(journal.backlog(reader.position()), 0);
}

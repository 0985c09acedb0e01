//! What happens when something fails: failover, health, affinity, and credentials told apart.

use std::time::Duration;

use aiproxy_config::snapshot::{Health, Probe, ProbeKind};

use crate::support::{problems, snapshot};

/// The rules of a channel that says `fields`.
fn health(fields: &str) -> Option<Health> {
    snapshot(&format!("channels: {{c: {{base_url: 'http://h', api_key: x, {fields}}}}}")).channels[0].health.clone()
}

/// What is said about a channel with this `health`.
fn health_problems(text: &str) -> String {
    problems(&format!("channels: {{c: {{base_url: 'http://h', api_key: x, health: {text}}}}}"))
}

#[test]
fn failover_is_as_the_key_or_else_the_user_or_else_the_system_says() {
    let of_key = |system: &str, user: &str, key: &str| {
        let said = |value: &str| if value.is_empty() { String::new() } else { format!("failover: {value}") };
        let snapshot = snapshot(&format!(
            "
users: {{a: {{channels: [c], proxy_key: short, proxy_keys: [{{key: full, {}}}], {}}}}}
channels: {{c: {{base_url: 'http://h', api_key: x}}}}
system: {{{}}}
",
            said(key),
            said(user),
            said(system)
        ));
        let failover = |secret| snapshot.find_key(secret).unwrap().failover;
        (failover("short"), failover("full"))
    };
    assert_eq!(of_key("", "", ""), (false, false), "off unless somebody asks for it");
    assert_eq!(of_key("true", "", ""), (true, true));
    assert_eq!(of_key("true", "false", ""), (false, false));
    assert_eq!(of_key("", "true", ""), (true, true));
    assert_eq!(of_key("", "true", "false"), (true, false), "the short form has the user's");
    assert_eq!(of_key("true", "false", "true"), (false, true));
}

#[test]
fn health_is_on_by_default_and_can_be_switched_off() {
    for on in ["", "health: true", "health: on", "health: {}", "health: ", "health: {probe: false}"] {
        assert_eq!(health(on), Some(Health::default()), "{on}");
    }
    for off in ["health: false", "health: off"] {
        assert_eq!(health(off), None, "{off}");
    }
    for probed in ["health: {probe: true}", "health: {probe: on}", "health: {probe: {kind: connect}}"] {
        assert_eq!(health(probed), Some(Health { probe: Some(Probe::default()), ..Health::default() }), "{probed}");
    }
}

#[test]
fn health_is_as_written() {
    let written = health(
        "health: {failures: 1000, error_rate: 1, minimum_calls: 1, window: 1h, cooldown: 100ms, max_cooldown: 100ms,
         probe: {kind: models, interval: 1s, timeout: 1, failures: 100, successes: 1}}",
    );
    let second = Duration::from_secs(1);
    let tenth = Duration::from_millis(100);
    let probe = Probe { kind: ProbeKind::Models, interval: second, timeout: second, failures: 100, successes: 1 };
    let expected = Health {
        failures: 1000,
        error_rate: 1.0,
        minimum_calls: 1,
        window: 3600 * second,
        cooldown: tenth,
        max_cooldown: tenth,
        probe: Some(probe),
    };
    assert_eq!(written, Some(expected));
}

#[test]
fn a_default_gives_way_to_what_is_written_beside_it() {
    let health = health("health: {cooldown: 2m, probe: {interval: 2s}}").unwrap();
    assert_eq!((health.cooldown, health.max_cooldown), (Duration::from_secs(120), Duration::from_secs(120)));
    let probe = health.probe.unwrap();
    assert_eq!((probe.interval, probe.timeout), (Duration::from_secs(2), Duration::from_secs(2)));
}

#[test]
fn health_that_makes_no_sense() {
    insta::assert_snapshot!(health_problems("{failures: 0, error_rate: 0, minimum_calls: 0, window: 500ms, cooldown: 99ms}"), @r"
    aiproxy.yaml:1:69: error: channels.c.health.failures: must not be less than 1
    aiproxy.yaml:1:84: error: channels.c.health.error_rate: must be more than 0
    aiproxy.yaml:1:102: error: channels.c.health.minimum_calls: must not be less than 1
    aiproxy.yaml:1:113: error: channels.c.health.window: must be between 1s and 1h
    aiproxy.yaml:1:130: error: channels.c.health.cooldown: must be between 100ms and 1h
    ");
    insta::assert_snapshot!(health_problems("{failures: 1001, error_rate: 1.01, minimum_calls: 1000001, window: 61m, cooldown: 2h}"), @r"
    aiproxy.yaml:1:69: error: channels.c.health.failures: must not be more than 1000
    aiproxy.yaml:1:87: error: channels.c.health.error_rate: must not be more than 1
    aiproxy.yaml:1:108: error: channels.c.health.minimum_calls: must not be more than 1000000
    aiproxy.yaml:1:125: error: channels.c.health.window: must be between 1s and 1h
    aiproxy.yaml:1:140: error: channels.c.health.cooldown: must be between 100ms and 1h
    ");
    insta::assert_snapshot!(health_problems("{cooldown: 1500ms, max_cooldown: 1s}"), @"aiproxy.yaml:1:91: error: channels.c.health.max_cooldown: must be between `cooldown` (1500ms) and 1h");
    insta::assert_snapshot!(health_problems("{max_cooldown: 2h}"), @"aiproxy.yaml:1:73: error: channels.c.health.max_cooldown: must be between `cooldown` (5s) and 1h");
    insta::assert_snapshot!(health_problems("{probe: {interval: 0, timeout: 0, failures: 0, successes: 101, kind: conect}}"), @r"
    aiproxy.yaml:1:77: error: channels.c.health.probe.interval: must be between 1s and 24h
    aiproxy.yaml:1:89: error: channels.c.health.probe.timeout: must be more than 0 and at most `interval` (1s)
    aiproxy.yaml:1:102: error: channels.c.health.probe.failures: must not be less than 1
    aiproxy.yaml:1:116: error: channels.c.health.probe.successes: must not be more than 100
    aiproxy.yaml:1:127: error: channels.c.health.probe.kind: `conect` is not known here; did you mean `connect`?
    ");
    insta::assert_snapshot!(health_problems("{probe: {timeout: 31s}}"), @"aiproxy.yaml:1:76: error: channels.c.health.probe.timeout: must be more than 0 and at most `interval` (30s)");
    insta::assert_snapshot!(health_problems("{probe: {interval: 25h, path: /health}}"), @r"
    aiproxy.yaml:1:77: error: channels.c.health.probe.interval: must be between 1s and 24h
    aiproxy.yaml:1:82: error: channels.c.health.probe: unknown field `path`; fields here are: kind, interval, timeout, failures, successes
    ");
    insta::assert_snapshot!(health_problems("yes"), @"aiproxy.yaml:1:58: error: channels.c.health: `yes` is not known here; write one of: on, off");
    insta::assert_snapshot!(health_problems("{probe: 30}"), @"aiproxy.yaml:1:66: error: channels.c.health.probe: expected true or false or a group of fields, found a whole number");
}

#[test]
fn affinity_and_ambiguous_retries_are_off_unless_asked_for() {
    let channel = |fields: &str| {
        let snapshot = snapshot(&format!("channels: {{c: {{base_url: 'http://h', api_key: x, {fields}}}}}"));
        (snapshot.channels[0].affinity, snapshot.channels[0].retry_ambiguous)
    };
    assert_eq!(channel(""), (false, false));
    assert_eq!(channel("affinity: true, retry_ambiguous: true"), (true, true));
    assert_eq!((channel("affinity: on").0, channel("affinity: off").0), (true, false));
    let text = "channels: {c: {base_url: 'http://h', api_key: x, affinity: {by: user}, retry_ambiguous: on}}";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:1:60: error: channels.c.affinity: expected true or false, found a group of fields
    aiproxy.yaml:1:89: error: channels.c.retry_ambiguous: expected true or false, found text
    ");
}

#[test]
fn a_real_key_is_written_once_in_a_channel() {
    let text = "
channels:
  c:
    base_url: http://h
    credentials:
      - {api_key: sk-real}
      - {api_key: other}
      - {api_key: '${REAL_KEY}', status: disabled}
      - {api_key: other}
  d: {base_url: 'http://h', api_key: other}
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:8:19: error: channels.c.credentials[2].api_key: the same key is written twice in this channel; first at line 6, column 19
    aiproxy.yaml:9:19: error: channels.c.credentials[3].api_key: the same key is written twice in this channel; first at line 7, column 19
    ");
}

#[test]
fn a_fingerprint_tells_an_exchanged_key_from_a_kept_one() {
    let fingerprints = |first: &str| -> Vec<u64> {
        let text = format!(
            "channels: {{c: {{base_url: 'http://h', credentials: [{{api_key: {first}}}, {{api_key: abc}}]}},
             d: {{base_url: 'http://h', api_key: abc}}}}"
        );
        let snapshot = snapshot(&text);
        let credentials = snapshot.channels.iter().flat_map(|channel| &channel.credentials);
        credentials.map(|credential| credential.fingerprint).collect()
    };
    let before = fingerprints("one");
    let after = fingerprints("two");
    assert_ne!(before[0], after[0]);
    // SHA-256 of "abc" begins so (FIPS 180-2, B.1).
    assert_eq!(before[1..], [0xba78_16bf_8f01_cfea; 2]);
    assert_eq!(before[1..], after[1..]);
}

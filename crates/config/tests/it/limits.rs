//! How much may come: limits of entities, limits of the process, and what is wrong with them.

use std::time::Duration;

use aiproxy_config::snapshot::{BadCredentials, Limited, Limits, Rate, RateLimit, RetryBudget, Scope, System};

use crate::support::{problems, snapshot};

fn rate_limit(text: &str) -> RateLimit {
    snapshot(&format!("system: {{rate_limit: {text}}}")).system.rate_limit
}

#[test]
fn whatever_has_limits_is_listed_and_pointed_at() {
    let snapshot = snapshot(
        "
groups:
  one: {limits: {concurrent: 1}}
  none: {limits: {}}
  two: {limits: {concurrent: 2}}
  lonely: {limits: {concurrent: 3}}
users:
  a:
    channels: [c, d]
    groups: [two, none, one]
    limits: {requests_per_minute: 100000000, tokens_per_minute: 1000000000000, concurrent: 1000000}
    proxy_key: k1
    proxy_keys:
      - {id: tight, key: k2, limits: {tokens_per_minute: 5}}
      - {id: loose, key: k3, limits: {tokens_per_minute: }}
  b: {proxy_key: k4, channels: [c], groups: [one]}
channels:
  c:
    base_url: http://h
    credentials: [{id: x, api_key: k5}, {api_key: k6, limits: {concurrent: 4}}]
    limits: {requests_per_minute: 6}
  d: {base_url: 'http://h', api_key: k7}
",
    );
    let at = |index: Option<u32>| index.map(|index| &snapshot.limited[index as usize]);
    let limited = |scope, id: &str, limits| Limited { scope, id: id.into(), limits, quotas: Box::default() };
    let concurrent = |count| Limits { concurrent: Some(count), ..Limits::default() };

    let of_user = |user: usize| snapshot.users[user].limited.iter().map(|index| at(Some(*index)).unwrap().clone());
    let own = Limits {
        requests_per_minute: Some(100_000_000),
        tokens_per_minute: Some(1_000_000_000_000),
        concurrent: Some(1_000_000),
    };
    let (one, two) = (limited(Scope::Group, "one", concurrent(1)), limited(Scope::Group, "two", concurrent(2)));
    assert_eq!(of_user(0).collect::<Vec<_>>(), [limited(Scope::User, "a", own), two, one.clone()]);
    assert_eq!(of_user(1).collect::<Vec<_>>(), [one]);

    let of_key = |secret| at(snapshot.find_key(secret).unwrap().limited);
    let five_tokens = Limits { tokens_per_minute: Some(5), ..Limits::default() };
    assert_eq!(of_key("k2"), Some(&limited(Scope::Key, "tight", five_tokens)));
    assert_eq!((of_key("k1"), of_key("k3"), of_key("k4")), (None, None, None), "none of their own");

    let [c, d] = [&snapshot.channels[0], &snapshot.channels[1]];
    let six_calls = Limits { requests_per_minute: Some(6), ..Limits::default() };
    assert_eq!((at(c.limited), at(d.limited)), (Some(&limited(Scope::Channel, "c", six_calls)), None));
    let credential = limited(Scope::Credential, "c/credential-2", concurrent(4));
    assert_eq!((at(c.credentials[0].limited), at(c.credentials[1].limited)), (None, Some(&credential)));

    assert_eq!(snapshot.limited.len(), 7, "each once, and nothing that is not limited: {:?}", snapshot.limited);
}

#[test]
fn a_limit_is_at_least_one() {
    let text = "
users:
  a:
    proxy_keys: [{key: k1, limits: {requests_per_minute: 0}}]
    limits: {tokens_per_minute: -1, concurrent: 1.5}
    channels: [c]
    groups: [g]
groups:
  g: {limits: {requests_per_minute: 100000001, tokens_per_minute: 1000000000001, concurrent: 1000001}}
channels:
  c:
    base_url: http://h
    credentials: [{api_key: k2, limits: {concurrent: 0}}]
    limits: 60
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:4:58: error: users.a.proxy_keys[0].limits.requests_per_minute: must not be less than 1; leave it out for no limit; `status: disabled` switches off
    aiproxy.yaml:5:33: error: users.a.limits.tokens_per_minute: must not be less than 1; leave it out for no limit; `status: disabled` switches off
    aiproxy.yaml:5:49: error: users.a.limits.concurrent: expected a whole number, found a number
    aiproxy.yaml:9:37: error: groups.g.limits.requests_per_minute: must not be more than 100000000
    aiproxy.yaml:9:67: error: groups.g.limits.tokens_per_minute: must not be more than 1000000000000
    aiproxy.yaml:9:94: error: groups.g.limits.concurrent: must not be more than 1000000
    aiproxy.yaml:13:54: error: channels.c.credentials[0].limits.concurrent: must not be less than 1; leave it out for no limit; `status: disabled` switches off
    aiproxy.yaml:14:13: error: channels.c.limits: expected a group of fields, found a whole number
    ");
}

#[test]
fn a_weight_of_nothing_is_refused_everywhere() {
    let text = "
channels:
  c:
    endpoints: [{base_url: 'http://h', weight: 0}, {base_url: 'http://i', weight: 1000000}]
    credentials: [{api_key: k1, weight: 0}, {api_key: k2, weight: 1000001}]
    weight: 0
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:4:48: error: channels.c.endpoints[0].weight: must not be less than 1; to take it out, remove it from the list
    aiproxy.yaml:5:41: error: channels.c.credentials[0].weight: must not be less than 1; write `status: disabled` to take it out
    aiproxy.yaml:5:67: error: channels.c.credentials[1].weight: must not be more than 1000000
    aiproxy.yaml:6:13: error: channels.c.weight: must not be less than 1; write `status: disabled` to take it out
    ");
}

#[test]
fn the_process_has_limits_by_default_and_as_written() {
    let default = snapshot("system: {max_connections: 7}").system;
    assert_eq!((default.max_connections, default.max_in_flight), (7, 7), "as many calls as connections");
    assert_eq!(default.replay_limit, 32 << 20);
    assert_eq!(default.retry_budget, RetryBudget { share: 0.2, per_second: 10.0 });
    assert_eq!(default.rate_limit, System::default().rate_limit);
    assert_eq!(snapshot("users: {}").system.max_in_flight, 10_000);

    let written = snapshot(
        "system: {max_connections: 7, max_in_flight: 9, replay_limit: 8MiB, retry_budget: {share: 0, per_second: 1}}",
    );
    let system = written.system;
    assert_eq!((system.max_in_flight, system.replay_limit), (9, 8 << 20));
    assert_eq!(system.retry_budget, RetryBudget { share: 0.0, per_second: 1.0 });
    let share_only = snapshot("system: {retry_budget: {share: 1}}").system.retry_budget;
    assert_eq!(share_only, RetryBudget { share: 1.0, per_second: 10.0 });
}

#[test]
fn a_rate_has_a_burst_of_twice_as_much() {
    let rate = |requests_per_second, burst| Some(Rate { requests_per_second, burst });
    assert_eq!(rate_limit("{requests_per_second: 20, burst: 41}").global, rate(20.0, 41));
    assert_eq!(rate_limit("{requests_per_second: 20}").global, rate(20.0, 40));
    assert_eq!(rate_limit("{requests_per_second: 1.2}").global, rate(1.2, 3), "rounded up");
    assert_eq!(rate_limit("{requests_per_second: 0.01}").global, rate(0.01, 1), "never nothing");
    assert_eq!(rate_limit("{requests_per_minute: 60, burst_size: 10}").global, rate(1.0, 10));
    assert_eq!(rate_limit("{requests_per_minute: 60}").global, rate(1.0, 2));

    let both = rate_limit("{requests_per_second: 20, ip_limit: {requests_per_second: 2, burst: 5}}");
    assert_eq!((both.global, both.per_ip), (rate(20.0, 40), rate(2.0, 5)));
    let one = rate_limit("{ip_limit: {requests_per_second: 2}}");
    assert_eq!((one.global, one.per_ip), (None, rate(2.0, 4)));
}

#[test]
fn bad_credentials_are_limited_unless_switched_off() {
    for on in ["{}", "{bad_credentials: true}", "{bad_credentials: on}", "{bad_credentials: {}}", "{bad_credentials: }"]
    {
        assert_eq!(rate_limit(on).bad_credentials, Some(BadCredentials::default()), "{on}");
    }
    for off in ["{bad_credentials: false}", "{bad_credentials: off}"] {
        assert_eq!(rate_limit(off).bad_credentials, None, "{off}");
    }
    let minute = Duration::from_secs(60);
    let written = rate_limit("{bad_credentials: {limit: 3, block: 10m}}").bad_credentials;
    assert_eq!(written, Some(BadCredentials { limit: 3, window: minute, block: 10 * minute }));
}

#[test]
fn limits_of_the_process_that_make_no_sense() {
    let text = "
system:
  max_in_flight: 0
  replay_limit: 0
  retry_budget: {share: 1.1, per_second: -1}
  failover: sometimes
  rate_limit:
    requests_per_second: 0
    burst: 0
    ip_limit: {burst: 5}
    bad_credentials: {limit: 0, window: 0, block: 25h, after: 3}
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:3:18: error: system.max_in_flight: must not be less than 1
    aiproxy.yaml:4:17: error: system.replay_limit: must be more than 0
    aiproxy.yaml:5:25: error: system.retry_budget.share: must not be more than 1
    aiproxy.yaml:5:42: error: system.retry_budget.per_second: must not be less than 0
    aiproxy.yaml:6:13: error: system.failover: expected true or false, found text
    aiproxy.yaml:8:26: error: system.rate_limit.requests_per_second: must not be less than 0.001; leave it out for no limit
    aiproxy.yaml:9:12: error: system.rate_limit.burst: must not be less than 1
    aiproxy.yaml:10:23: error: system.rate_limit.ip_limit.burst: says nothing without a rate; write `requests_per_second` too
    aiproxy.yaml:11:30: error: system.rate_limit.bad_credentials.limit: must not be less than 1; write `bad_credentials: false` to switch it off
    aiproxy.yaml:11:41: error: system.rate_limit.bad_credentials.window: must be between 1s and 24h
    aiproxy.yaml:11:51: error: system.rate_limit.bad_credentials.block: must be between 1s and 24h
    aiproxy.yaml:11:56: error: system.rate_limit.bad_credentials: unknown field `after`; fields here are: limit, window, block
    ");
    let rate_limit = |text: &str| problems(&format!("system: {{rate_limit: {text}}}"));
    insta::assert_snapshot!(rate_limit("{requests_per_second: 1, requests_per_minute: 60}"), @"aiproxy.yaml:1:68: error: system.rate_limit.requests_per_minute: write either `requests_per_second` and `burst`, or the older `requests_per_minute` and `burst_size`, not both");
    insta::assert_snapshot!(rate_limit("{requests_per_minute: 60, burst: 2}"), @"aiproxy.yaml:1:44: error: system.rate_limit.requests_per_minute: write either `requests_per_second` and `burst`, or the older `requests_per_minute` and `burst_size`, not both");
    insta::assert_snapshot!(rate_limit("{requests_per_second: 1, burst_size: 2}"), @"aiproxy.yaml:1:59: error: system.rate_limit.burst_size: write either `requests_per_second` and `burst`, or the older `requests_per_minute` and `burst_size`, not both");
    insta::assert_snapshot!(rate_limit("{burst: 2}"), @"aiproxy.yaml:1:30: error: system.rate_limit.burst: says nothing without a rate; write `requests_per_second` too");
    insta::assert_snapshot!(rate_limit("{burst_size: 2}"), @"aiproxy.yaml:1:35: error: system.rate_limit.burst_size: says nothing without a rate; write `requests_per_minute` too");
    insta::assert_snapshot!(rate_limit("{requests_per_minute: -1, burst_size: 2}"), @"aiproxy.yaml:1:44: error: system.rate_limit.requests_per_minute: must not be less than 0.1; leave it out for no limit");
    insta::assert_snapshot!(rate_limit("{requests_per_second: 1e9, bad_credentials: 5}"), @r"
    aiproxy.yaml:1:44: error: system.rate_limit.requests_per_second: must not be more than 1000000
    aiproxy.yaml:1:66: error: system.rate_limit.bad_credentials: expected true or false or a group of fields, found a whole number
    ");
    insta::assert_snapshot!(rate_limit("{bad_credentials: maybe}"), @"aiproxy.yaml:1:40: error: system.rate_limit.bad_credentials: `maybe` is not known here; write one of: on, off");
}

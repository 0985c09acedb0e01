//! How much may be used in a period, by whom, and what is wrong with it.

use aiproxy_config::snapshot::{Limited, Limits, Quota, QuotaPeriod, QuotaUnit, Scope, Snapshot};

use crate::support::{problems, snapshot};

fn quota(unit: QuotaUnit, per: QuotaPeriod, amount: u64) -> Quota {
    Quota { unit, per, amount, soft: false }
}

/// The quotas of a group that says so.
fn quotas(text: &str) -> Box<[Quota]> {
    let snapshot = snapshot(&format!("groups: {{g: {{quotas: {text}}}}}"));
    snapshot.limited.into_iter().next().map(|limited| limited.quotas).unwrap_or_default()
}

fn quota_problems(text: &str) -> String {
    problems(&format!("groups: {{g: {{quotas: {text}}}}}"))
}

/// Scopes and ids of what a user answers for, in the order in which it is asked.
fn asked(snapshot: &Snapshot, user: usize) -> Vec<String> {
    let limited = snapshot.users[user].limited.iter().map(|index| &snapshot.limited[*index as usize]);
    limited.map(|limited| format!("{} {}", limited.scope.as_str(), limited.id)).collect()
}

#[test]
fn whatever_has_quotas_is_listed_and_pointed_at() {
    let snapshot = snapshot(
        "
groups:
  one: {quotas: [{unit: tokens, per: total, amount: 1000000000000000}]}
  none: {quotas: []}
departments:
  技术部: {quotas: [{unit: cost, per: month, amount: 2500.5}], limits: {concurrent: 7}}
  idle: {}
users:
  a:
    channels: [c]
    department: 技术部
    groups: [none, one, none]
    quotas: [{unit: requests, per: hour, amount: 1}, {unit: requests, per: hour, amount: 1, soft: true}]
    proxy_keys: [{id: k, key: k1, quotas: [{unit: requests, per: day, amount: 3}]}]
  b: {proxy_key: k2, channels: [c], department: idle}
  c: {proxy_key: k3, channels: [c], department: elsewhere}
  d: {proxy_key: k4, channels: [c]}
channels:
  c:
    base_url: http://h
    credentials: [{id: x, api_key: k5, quotas: [{unit: cost, per: total, amount: 0.000001}]}, {api_key: k6}]
    quotas: [{unit: tokens, per: month, amount: 5}]
",
    );
    assert_eq!(asked(&snapshot, 0), ["user a", "group one", "department 技术部"]);
    for without in 1..4 {
        assert!(asked(&snapshot, without).is_empty(), "user {without}");
    }
    assert_eq!(snapshot.users[0].groups.iter().map(|id| &**id).collect::<Vec<_>>(), ["none", "one"], "once each");
    assert_eq!(snapshot.limited.len(), 6, "each once, and nothing without: {:?}", snapshot.limited);

    let at = |index: Option<u32>| &snapshot.limited[index.unwrap() as usize];
    let with = |scope, id: &str, quotas: &[Quota]| Limited {
        scope,
        id: id.into(),
        limits: Limits::default(),
        quotas: quotas.into(),
    };
    let of_key = with(Scope::Key, "k", &[quota(QuotaUnit::Requests, QuotaPeriod::Day, 3)]);
    assert_eq!(at(snapshot.find_key("k1").unwrap().limited), &of_key);
    let [channel] = &*snapshot.channels else { panic!("one channel") };
    let of_channel = with(Scope::Channel, "c", &[quota(QuotaUnit::Tokens, QuotaPeriod::Month, 5)]);
    assert_eq!(at(channel.limited), &of_channel);
    let of_credential = with(Scope::Credential, "c/x", &[quota(QuotaUnit::Cost, QuotaPeriod::Total, 1)]);
    assert_eq!(at(channel.credentials[0].limited), &of_credential);
    assert_eq!(channel.credentials[1].limited, None);

    let of_user: Vec<_> = snapshot.users[0].limited.iter().map(|index| &snapshot.limited[*index as usize]).collect();
    let call = quota(QuotaUnit::Requests, QuotaPeriod::Hour, 1);
    assert_eq!(*of_user[0].quotas, [call, Quota { soft: true, ..call }], "one soft and one hard");
    assert_eq!(*of_user[1].quotas, [quota(QuotaUnit::Tokens, QuotaPeriod::Total, 1_000_000_000_000_000)]);
    assert_eq!(*of_user[2].quotas, [quota(QuotaUnit::Cost, QuotaPeriod::Month, 2_500_500_000)]);
    assert_eq!(of_user[2].limits, Limits { concurrent: Some(7), ..Limits::default() });
}

#[test]
fn money_becomes_millionths_to_the_nearest() {
    for (written, millionths) in [
        ("50", 50_000_000),
        ("0.1", 100_000),
        ("0.3", 300_000),
        ("1.15", 1_150_000),
        ("2500.50", 2_500_500_000),
        ("0.0000014", 1),
        ("0.0000005", 1),
        ("1e-6", 1),
        ("123456789.123457", 123_456_789_123_457),
        ("999999999.999999", 999_999_999_999_999),
        ("1000000000", 1_000_000_000_000_000),
    ] {
        let quotas = quotas(&format!("[{{unit: cost, per: day, amount: {written}}}]"));
        assert_eq!(*quotas, [quota(QuotaUnit::Cost, QuotaPeriod::Day, millionths)], "{written}");
    }
}

#[test]
fn quotas_that_make_no_sense() {
    let text = "[
  {unit: requests, per: day, amount: 0},
  {unit: tokens, per: week, amount: -1},
  {unit: calls, per: hour, amount: many},
  {unit: cost, amount: .nan, hard: true},
]";
    insta::assert_snapshot!(quota_problems(text), @r"
    aiproxy.yaml:2:38: error: groups.g.quotas[0].amount: must be more than 0; leave the quota out for no limit; `status: disabled` switches off
    aiproxy.yaml:3:23: error: groups.g.quotas[1].per: `week` is not known here; write one of: hour, day, month, total
    aiproxy.yaml:3:37: error: groups.g.quotas[1].amount: must be more than 0; leave the quota out for no limit; `status: disabled` switches off
    aiproxy.yaml:4:10: error: groups.g.quotas[2].unit: `calls` is not known here; write one of: requests, tokens, cost
    aiproxy.yaml:4:36: error: groups.g.quotas[2].amount: expected a number, found text; write it without quotes
    aiproxy.yaml:5:3: error: groups.g.quotas[3]: `per` is missing
    aiproxy.yaml:5:24: error: groups.g.quotas[3].amount: expected a number, found text; write it without quotes
    aiproxy.yaml:5:30: error: groups.g.quotas[3]: unknown field `hard`; fields here are: unit, per, amount, soft
    ");
    let text = "[
  {unit: requests, per: day, amount: 1.5},
  {unit: tokens, per: day, amount: 0.5},
  {unit: cost, per: day, amount: 1000000000.1},
  {unit: cost, per: hour, amount: 0.0000004},
  {unit: cost, per: month, amount: 1},
  {unit: cost, per: month, amount: 2, soft: true},
  {unit: cost, per: month, amount: 3},
  {unit: cost, per: month, amount: 2, soft: true},
  {unit: cost, per: total, amount: 2, soft: true},
  {unit: tokens, per: month, amount: 2, soft: true},
]";
    insta::assert_snapshot!(quota_problems(text), @r"
    aiproxy.yaml:2:38: error: groups.g.quotas[0].amount: must be a whole number of requests
    aiproxy.yaml:3:36: error: groups.g.quotas[1].amount: must be a whole number of tokens
    aiproxy.yaml:4:34: error: groups.g.quotas[2].amount: must not be more than 1000000000, where the unit is `cost`
    aiproxy.yaml:5:35: error: groups.g.quotas[3].amount: is less than a millionth
    aiproxy.yaml:7:3: warning: groups.g.quotas[5]: never reports anything, for the quota beside it that is not soft ends sooner
    aiproxy.yaml:8:3: error: groups.g.quotas[6]: a quota of cost per month is written twice; first at line 6, column 3
    aiproxy.yaml:9:3: error: groups.g.quotas[7]: a soft quota of cost per month is written twice; first at line 7, column 3
    ");
    insta::assert_snapshot!(quota_problems("{unit: cost, per: day, amount: 1}"), @"aiproxy.yaml:1:22: error: groups.g.quotas: expected a list, found a group of fields");
    insta::assert_snapshot!(quota_problems("[{unit: tokens, per: day, amount: 1e16}]"), @"aiproxy.yaml:1:56: error: groups.g.quotas[0].amount: must not be more than 1000000000000000");
}

#[test]
fn a_department_is_known_by_its_exact_name() {
    let users = "users: {a: {proxy_key: k, channels: [c], department: 技术部}, b: {proxy_key: l, channels: [c]}}
channels: {c: {base_url: 'http://h', api_key: x}}\n";
    assert_eq!(problems(&format!("{users}departments: {{技术部: }}")), "");
    insta::assert_snapshot!(problems(&format!("{users}departments: {{技木部: {{}}, sales: {{}}}}")), @r"
    aiproxy.yaml:3:15: warning: departments.技木部: no user has this `department`; did you mean `技术部`?
    aiproxy.yaml:3:24: warning: departments.sales: no user has this `department`; users have: 技术部
    ");
    let wrong = "departments: {' x': {}, y: {limit: {}}, z: {limits: {concurrent: 0}, quotas: 5}, w: 7}";
    insta::assert_snapshot!(problems(&format!("{users}{wrong}")), @r#"
    aiproxy.yaml:3:15: error: departments." x": an id is not empty and has no control characters or spaces around it
    aiproxy.yaml:3:29: error: departments.y: unknown field `limit`; did you mean `limits`?
    aiproxy.yaml:3:66: error: departments.z.limits.concurrent: must not be less than 1; leave it out for no limit; `status: disabled` switches off
    aiproxy.yaml:3:78: error: departments.z.quotas: expected a list, found a whole number
    aiproxy.yaml:3:82: error: departments.w: expected a group of fields, found a whole number
    "#);
    assert_eq!(problems("departments: {nobody: {}}"), "", "nobody is there yet");
}

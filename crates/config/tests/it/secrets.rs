//! Secrets come from variables and files, and no message ever shows one.

use crate::support::{problems, snapshot};

#[test]
fn secrets_are_filled_in_whole_or_inside_a_text() {
    let snapshot = snapshot(
        "
channels:
  a: {base_url: 'http://h', api_key: '${REAL_KEY}', headers: {set: {X-A: 'Token ${REAL_KEY}!', X-B: '$${REAL_KEY} $5'}}}
  b: {base_url: 'http://h', api_key: 'env:REAL_KEY'}
",
    );
    assert_eq!(snapshot.channels[0].credentials[0].api_key.expose(), "sk-real");
    assert_eq!(snapshot.channels[1].credentials[0].api_key.expose(), "sk-real");
    let headers: Vec<&str> = snapshot.channels[0].headers_set.iter().map(|(_, value)| value.expose()).collect();
    assert_eq!(headers, ["Token sk-real!", "${REAL_KEY} $5"]);
}

#[test]
fn a_secret_that_cannot_be_filled_in_is_an_error_with_its_position() {
    let text = "
channels:
  a: {base_url: 'http://h', api_key: '${NOT_SET}'}
  b: {base_url: 'http://h', api_key: 'x${REAL_KEY'}
  c: {base_url: 'http://h', api_key: '${sk-canary}'}
  d: {base_url: 'http://h', api_key: '${EMPTY}'}
  e: {base_url: 'http://h', api_key: ''}
  f: {base_url: 'http://h', api_key: 'file:/no/such/file'}
  g: {base_url: 'http://h', api_key: 'env:'}
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:3:38: error: channels.a.api_key: the environment variable `NOT_SET` is not set
    aiproxy.yaml:4:38: error: channels.b.api_key: `${` without `}`; write `$${` for the characters themselves
    aiproxy.yaml:5:38: error: channels.c.api_key: the name of an environment variable has only letters, digits and `_`
    aiproxy.yaml:6:38: error: channels.d.api_key: is empty after its variable or file was filled in
    aiproxy.yaml:7:38: error: channels.e.api_key: is empty
    aiproxy.yaml:8:38: error: channels.f.api_key: cannot read `/no/such/file`: there is no such file
    aiproxy.yaml:9:38: error: channels.g.api_key: the name of an environment variable has only letters, digits and `_`
    ");
}

/// Every secret is the canary, and each is wrong in every way there is.
#[test]
fn no_message_shows_a_secret() {
    for secret in [
        "sk-canary value",
        "'canary\\nvalue'",
        "'${CANARY_KEY}'",
        "'{canary: 1}'",
        "{canary_key: x}",
        "[canary]",
        "'canary:3128'",
    ] {
        let text = format!(
            "
users:
  a: {{proxy_key: {secret}, proxy_keys: [{{key: {secret}}}, {{key: {secret}}}]}}
channels:
  c:
    base_url: https://u:canary@h?key=canary
    endpoints: [{{base_url: 'canary'}}]
    websocket_url: canary
    api_key: {secret}
    credentials: [{{api_key: {secret}}}, {{api_key: {secret}}}]
    proxy: {secret}
    headers: {{set: {{X-A: {secret}}}}}
    api_key:sk-canary: 1
system:
  admin: {{token: {secret}}}
  secrets: {{master_key: {secret}}}
  database: {secret}
  log:
    webhook: [{{url: {secret}, secret: {secret}}}, {{name: {secret}, url: http://u:canary@}}]
    parquet: {{s3: {{bucket: b, endpoint: {secret}, access_key_id: {secret}, secret_access_key: {secret}}}}}
  redact: ['(canary', {secret}]
"
        );
        let lines = problems(&text);
        assert!(lines.lines().count() > 8, "{lines}");
        // A group where a secret belongs is a wrong type; its field names are never looked at.
        assert!(!lines.contains("canary"), "{secret}: {lines}");
        assert!(!format!("{:?}", crate::support::load_as("aiproxy.yaml", &text)).contains("canary"));
    }
}

#[test]
fn a_loaded_config_prints_without_its_secrets() {
    let text = "
users: {a: {proxy_key: canary1, channels: [c]}}
channels: {c: {base_url: 'http://h', api_key: canary2, headers: {set: {X-A: canary3}}, proxy: 'http://u:canary4@p:1'}}
system:
  admin: {token: canary-canary-canary}
  database: postgres://u:canary5@h/d
  log:
    webhook: {url: 'https://u:canary6@h', secret: canary7}
    parquet: {s3: {bucket: abc, region: r, access_key_id: canary8, secret_access_key: canary9}}
";
    let printed = format!("{:?}", snapshot(text));
    assert!(!printed.contains("canary"), "{printed}");
}

//! Given this text, then exactly these problem lines.

use crate::support::{problems, snapshot};

/// A good channel to refer to.
const CHANNEL: &str = "channels: {c: {base_url: 'http://h', api_key: x}}\n";

#[test]
fn all_problems_are_told_at_once() {
    let text = "
usrs: {}
users:
  alice:
    proxy-key: k1
    channels: opena
  bob:
    proxy_key: 12345
    channels: [opena, openai, nowhere]
    ip_allow: [10.0.0.0/33, local]
    favourite_colour: red
channels:
  openai:
    base_url: api.openai.com
    kind: open-ai
    api_key: x
    weight: -1
    priority: 1.5
    max_retries: 11
    timeout: 5 minutes
    supports_websocket: yes
system:
  log_level: verbose
  body_limit: 10 apples
  listen: 127.0.0.1
  max_connections: 0
";
    insta::assert_snapshot!(problems(text), @r#"
    aiproxy.yaml:2:1: error: usrs: unknown field `usrs`; did you mean `users`?
    aiproxy.yaml:4:3: warning: users.alice: the user has no `proxy_key` and cannot call
    aiproxy.yaml:5:5: error: users.alice: unknown field `proxy-key`; did you mean `proxy_key`?
    aiproxy.yaml:6:15: error: users.alice.channels: expected a list, found text; write ["…"]
    aiproxy.yaml:8:16: error: users.bob.proxy_key: expected text, found a whole number; put it in quotes
    aiproxy.yaml:9:16: error: users.bob.channels[0]: there is no channel `opena`; did you mean `openai`?
    aiproxy.yaml:9:31: error: users.bob.channels[2]: there is no channel `nowhere`; there are: openai
    aiproxy.yaml:10:16: error: users.bob.ip_allow[0]: expected an IP address or a network, e.g. `10.0.0.7`, `10.0.0.0/8`, `2001:db8::/32`
    aiproxy.yaml:10:29: error: users.bob.ip_allow[1]: expected an IP address or a network, e.g. `10.0.0.7`, `10.0.0.0/8`, `2001:db8::/32`
    aiproxy.yaml:11:5: error: users.bob: unknown field `favourite_colour`; fields here are: name, department, contact, email, phone, proxy_key, proxy_keys, status, channels, groups, models, ip_allow, failover, limits, quotas, created_at, updated_at
    aiproxy.yaml:14:15: error: channels.openai.base_url: a URL starts with `https://` or `http://`
    aiproxy.yaml:15:11: error: channels.openai.kind: `open-ai` is not known here; did you mean `openai`?
    aiproxy.yaml:17:13: error: channels.openai.weight: must not be less than 1; write `status: disabled` to take it out
    aiproxy.yaml:18:15: error: channels.openai.priority: expected a whole number, found a number
    aiproxy.yaml:19:18: error: channels.openai.max_retries: must not be more than 10
    aiproxy.yaml:20:14: error: channels.openai.timeout: expected a duration: seconds, or e.g. `500ms`, `30s`, `5m`, `2h`
    aiproxy.yaml:21:25: error: channels.openai.supports_websocket: expected true or false, found text
    aiproxy.yaml:23:14: error: system.log_level: `verbose` is not known here; write one of: error, warn, info, debug, trace
    aiproxy.yaml:24:15: error: system.body_limit: expected a size: bytes, or e.g. `64KiB`, `10MiB`, `1GiB`
    aiproxy.yaml:25:11: error: system.listen: expected an address and port, e.g. `127.0.0.1:8001`, `:8001` or `[::1]:8001`
    aiproxy.yaml:26:20: error: system.max_connections: must not be less than 1
    "#);
}

#[test]
fn a_forgotten_space_after_a_colon_is_recognised() {
    insta::assert_snapshot!(problems("channels:\n  c: {api_key:sk-canary, base_url: 'http://h'}\n"), @r"
    aiproxy.yaml:2:3: error: channels.c: `api_key` is missing (for an upstream that asks for none, write any text)
    aiproxy.yaml:2:7: error: channels.c: after `api_key:` comes a space
    ");
}

#[test]
fn references_must_exist() {
    let text = format!(
        "{CHANNEL}groups: {{engineers: {{channels: [d]}}}}\nusers: {{a: {{proxy_key: k, channels: [c], groups: [enginers]}}}}\n"
    );
    insta::assert_snapshot!(problems(&text), @r"
    aiproxy.yaml:2:33: error: groups.engineers.channels[0]: there is no channel `d`; there are: c
    aiproxy.yaml:3:51: error: users.a.groups[0]: there is no group `enginers`; did you mean `engineers`?
    ");
}

#[test]
fn keys_and_their_ids_are_unique() {
    let text = format!(
        "{CHANNEL}users:
  a: {{proxy_key: same, channels: [c]}}
  b:
    channels: [c]
    proxy_key: same
    proxy_keys:
      - {{id: a, key: other}}
      - {{id: b-x, key: x}}
"
    );
    insta::assert_snapshot!(problems(&text), @r"
    aiproxy.yaml:6:16: error: users.b.proxy_key: the same key is written twice; first at line 3, column 18
    aiproxy.yaml:8:14: error: users.b.proxy_keys[0].id: the key id `a` is used twice; first at line 3, column 18
    aiproxy.yaml:9:24: error: users.b.proxy_keys[1].key: this is the real key of `channels.c`; callers must never hold it, give them another
    ");
}

#[test]
fn a_key_stays_within_its_user() {
    let text = "
channels:
  c: {base_url: 'http://h', api_key: x}
  d: {base_url: 'http://h', api_key: x}
users:
  a:
    channels: [c]
    models: ['gpt-*', qwen]
    proxy_keys:
      - {key: k1, channels: [d], models: [gpt-4o, 'gpt-4*', '*', claude]}
      - {key: k2, expires_at: 2025-12-31T23:59:59Z}
      - {key: k3, expires_at: 2025-12-31}
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:10:30: error: users.a.proxy_keys[0].channels[0]: the user of this key may not use the channel `d`
    aiproxy.yaml:10:61: error: users.a.proxy_keys[0].models[2]: the user of this key may not use the model `*`
    aiproxy.yaml:10:66: error: users.a.proxy_keys[0].models[3]: the user of this key may not use the model `claude`
    aiproxy.yaml:11:31: warning: users.a.proxy_keys[1].expires_at: this key has expired
    aiproxy.yaml:12:31: error: users.a.proxy_keys[2].expires_at: expected a moment with its offset, e.g. `2026-12-31T23:59:59+08:00` or `2026-12-31T15:59:59Z`
    ");
}

#[test]
fn users_and_channels_that_cannot_work_are_pointed_out() {
    let text = "
channels:
  off: {base_url: 'http://h', api_key: x, status: disabled}
  typo: {base_url: 'http://h', api_key: x, status: Active}
  alone: {base_url: 'http://h', api_key: x}
users:
  keyless: {channels: [off]}
  placeless: {proxy_key: k1}
  hopeless: {proxy_key: k2, channels: [off]}
  doubly: {proxy_key: k3, channels: [off, typo]}
  gone: {status: disabled}
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:4:52: warning: channels.typo.status: is neither `active` nor `disabled`; it counts as disabled
    aiproxy.yaml:5:3: warning: channels.alone: no user may use this channel; add it to some `channels:`
    aiproxy.yaml:7:3: warning: users.keyless: the user has no `proxy_key` and cannot call
    aiproxy.yaml:8:3: warning: users.placeless: the user may use no channel; add `channels:` or `groups:`
    aiproxy.yaml:9:25: warning: users.hopeless.proxy_key: the only channel of this key, `off`, is switched off
    aiproxy.yaml:10:23: warning: users.doubly.proxy_key: all channels of this key are switched off: `off`, `typo`
    ");
}

#[test]
fn a_channel_needs_an_address_and_a_key_unless_it_is_off() {
    let text = "
channels:
  empty:
  off: {status: disabled}
  both: {base_url: 'http://h', endpoints: [{base_url: 'http://h'}], api_key: x, credentials: [{api_key: y}]}
  weightless:
    endpoints: [{base_url: 'http://h', weight: 0}, {weight: 1}]
    credentials: [{id: a, api_key: x, weight: 0}, {id: a, api_key: y, weight: 0}]
  mixed:
    endpoints: [{base_url: 'https://api.openai.com'}, {base_url: 'https://api.anthropic.com'}]
    credentials: [{api_key: x, status: disabled}]
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:3:3: error: channels.empty: `base_url` is missing, e.g. `base_url: https://api.openai.com`
    aiproxy.yaml:3:3: error: channels.empty: `api_key` is missing (for an upstream that asks for none, write any text)
    aiproxy.yaml:5:43: error: channels.both.endpoints: write either `base_url` or `endpoints`, not both
    aiproxy.yaml:5:94: error: channels.both.credentials: write either `api_key` or `credentials`, not both
    aiproxy.yaml:7:48: error: channels.weightless.endpoints[0].weight: must not be less than 1; to take it out, remove it from the list
    aiproxy.yaml:7:52: error: channels.weightless.endpoints[1]: `base_url` is missing
    aiproxy.yaml:8:47: error: channels.weightless.credentials[0].weight: must not be less than 1; write `status: disabled` to take it out
    aiproxy.yaml:8:56: error: channels.weightless.credentials[1].id: the id `a` is used twice in this channel; first at line 8, column 24
    aiproxy.yaml:8:79: error: channels.weightless.credentials[1].weight: must not be less than 1; write `status: disabled` to take it out
    aiproxy.yaml:10:16: error: channels.mixed.endpoints: the hosts are of different kinds; write `kind`, or two channels
    aiproxy.yaml:11:18: warning: channels.mixed.credentials: every credential is switched off, so the channel answers nobody
    ");
}

#[test]
fn urls_are_checked() {
    let text = "
channels:
  a: {base_url: 'https://user:pass@h', api_key: x, websocket_url: 'tcp://h'}
  b: {base_url: 'https://h/v1?key=1', api_key: x, proxy: 'proxy.example.com:3128'}
  c: {base_url: 'https://', api_key: x, proxy: 'ftp://p:1'}
  d: {base_url: '${REAL_KEY}', api_key: x, proxy: 'http://p'}
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:3:17: error: channels.a.base_url: a base URL has no user name or password; use `api_key` or `headers.set`
    aiproxy.yaml:3:67: error: channels.a.websocket_url: a WebSocket URL starts with `wss://` or `ws://` (`https://` and `http://` mean the same)
    aiproxy.yaml:4:17: error: channels.b.base_url: a base URL has no query (`?…`) or fragment (`#…`)
    aiproxy.yaml:4:58: error: channels.b.proxy: expected `http://host:port`, `socks5://host:port` or `socks5h://host:port`
    aiproxy.yaml:5:17: error: channels.c.base_url: the host is missing
    aiproxy.yaml:5:48: error: channels.c.proxy: expected `http://host:port`, `socks5://host:port` or `socks5h://host:port`
    aiproxy.yaml:6:17: error: channels.d.base_url: `${…}` is filled in only in secret fields; write the URL itself
    aiproxy.yaml:6:51: error: channels.d.proxy: the proxy's port is missing, e.g. `http://proxy.example.com:3128`
    ");
}

#[test]
fn headers_paths_and_keys_have_only_fitting_characters() {
    let text = r#"
channels:
  c:
    base_url: http://h
    api_key: "two words"
    user_agent: "a\r\nb: c"
    headers:
      set: {"X Y": ok, Host: h, X-A: "a\nb", X-B: "中", X-C: " padded", X-D: "fine, thanks"}
      remove: ["", Content-Length, X-Fine]
    path_rewrite: {chat: /v1/chat, /a: b, /c: "/d?e"}
    websocket_endpoints: {"/a b": /c}
users:
  a: {proxy_key: "line\nbreak", channels: [c]}
  " b": {proxy_key: "密钥", channels: [c]}
"#;
    insta::assert_snapshot!(problems(text), @r#"
    aiproxy.yaml:5:14: error: channels.c.api_key: a key has only visible ASCII characters: no spaces, line breaks or letters beyond
    aiproxy.yaml:6:17: error: channels.c.user_agent: a header value has only visible ASCII characters and inner spaces: no line breaks, no control characters
    aiproxy.yaml:8:20: error: channels.c.headers.set."X Y": a header name has only ASCII letters, digits and `-`
    aiproxy.yaml:8:30: error: channels.c.headers.set.Host: this header belongs to the connection; the gateway writes it itself
    aiproxy.yaml:8:38: error: channels.c.headers.set.X-A: a header value has only visible ASCII characters and inner spaces: no line breaks, no control characters
    aiproxy.yaml:8:51: error: channels.c.headers.set.X-B: a header value has only visible ASCII characters and inner spaces: no line breaks, no control characters
    aiproxy.yaml:8:61: error: channels.c.headers.set.X-C: a header value has only visible ASCII characters and inner spaces: no line breaks, no control characters
    aiproxy.yaml:9:16: error: channels.c.headers.remove[0]: a header name has only ASCII letters, digits and `-`
    aiproxy.yaml:9:20: error: channels.c.headers.remove[1]: this header belongs to the connection; the gateway writes it itself
    aiproxy.yaml:10:20: error: channels.c.path_rewrite.chat: a path starts with `/`, e.g. `/v1/chat/completions`
    aiproxy.yaml:10:40: error: channels.c.path_rewrite./a: a path starts with `/`, e.g. `/v1/chat/completions`
    aiproxy.yaml:10:47: error: channels.c.path_rewrite./c: a path has no query, fragment or spaces
    aiproxy.yaml:11:27: error: channels.c.websocket_endpoints."/a b": a path has no query, fragment or spaces
    aiproxy.yaml:13:18: error: users.a.proxy_key: a key has only visible ASCII characters: no spaces, line breaks or letters beyond
    aiproxy.yaml:14:3: error: users." b": an id is not empty and has no control characters or spaces around it
    aiproxy.yaml:14:21: error: users." b".proxy_key: a key has only visible ASCII characters: no spaces, line breaks or letters beyond
    "#);
}

#[test]
fn aliases_do_not_go_in_circles() {
    let text = "
channels:
  circle: {base_url: 'http://h', api_key: x, models: {a: b, b: c, c: a}}
  itself: {base_url: 'http://h', api_key: x, models: {a: a}}
  chain: {base_url: 'http://h', api_key: x, models: {a: b, b: c}}
  stars: {base_url: 'http://h', api_key: x, models: [{'a*': b}, '', {c: ''}, {d: e}, {d: f}]}
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:3:58: error: channels.circle.models.a: the aliases go in a circle: `a` leads to itself
    aiproxy.yaml:6:53: error: channels.stars.models: the alias `d` is written twice
    aiproxy.yaml:6:61: error: channels.stars.models[0].a*: an alias and its real name are whole names, without `*`
    aiproxy.yaml:6:65: error: channels.stars.models[1]: a model name is not empty; `*` stands for all
    aiproxy.yaml:6:73: error: channels.stars.models[2].c: an alias and its real name are not empty
    ");
}

#[test]
fn deadlines_are_at_most_a_day() {
    let text = format!(
        "{CHANNEL}system: {{config_reload_interval: 300000, shutdown_timeout: 25h, timeouts: {{headers: -1, body: 1e400}}}}\n"
    );
    insta::assert_snapshot!(problems(&text), @r"
    aiproxy.yaml:2:34: error: system.config_reload_interval: is more than 24 h; a plain number counts seconds, milliseconds are written `500ms`
    aiproxy.yaml:2:60: error: system.shutdown_timeout: is more than 24 h; a plain number counts seconds, milliseconds are written `500ms`
    aiproxy.yaml:2:85: error: system.timeouts.headers: must not be less than 0
    aiproxy.yaml:2:95: error: system.timeouts.body: expected a duration: seconds, or e.g. `500ms`, `30s`, `5m`, `2h`
    ");
}

#[test]
fn the_admin_token_is_long_and_not_well_known() {
    for token in ["admin", "ChangeMe", "changemechangeme", "aaaaaaaaaaaaaaaaaaaa", "only-15-letters"] {
        let lines = problems(&format!("system: {{admin: {{token: {token}}}}}"));
        let message = lines.strip_prefix("aiproxy.yaml:1:25: error: system.admin.token: ").unwrap();
        assert!(!message.contains(token), "{lines}");
    }
    snapshot("system: {admin: {token: 4f1c0a7e9b2d4f1c}}");
}

#[test]
fn the_admin_port_is_another_one() {
    insta::assert_snapshot!(problems("system: {listen: ':1', admin: {listen: '0.0.0.0:1'}}"), @"aiproxy.yaml:1:40: error: system.admin.listen: is the callers' address too; leave it out to share the port");
    snapshot("system: {listen: '127.0.0.1:0', admin: {listen: '127.0.0.1:0'}}");
}

#[test]
fn a_real_key_is_not_a_proxy_key() {
    insta::assert_snapshot!(problems(&format!("{CHANNEL}users: {{a: {{proxy_key: x, channels: [c]}}}}")), @"aiproxy.yaml:2:24: error: users.a.proxy_key: this is the real key of `channels.c`; callers must never hold it, give them another");
}

#[test]
fn what_is_not_enforced_is_said() {
    let text = "
channels:
  c: {base_url: 'http://h', api_key: x, tls: {insecure: true}, supports_websocket: false, health: false}
users:
  a: {proxy_key: k1, channels: [c], limits: {concurrent: 1, rps: 3}, failover: true}
system: {open_stats: loopback, redis: '', secrets: {master_key: canary}}
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:3:57: warning: channels.c.tls.insecure: any certificate is accepted: whoever is in between can read the real key
    aiproxy.yaml:5:61: error: users.a.limits: unknown field `rps`; fields here are: requests_per_minute, tokens_per_minute, concurrent
    aiproxy.yaml:6:52: warning: system.secrets: accepted, but not enforced by this version
    ");
}

#[test]
fn sections_are_groups_of_fields() {
    insta::assert_snapshot!(problems("users: []\nchannels: 3\napi_keys: {}\nsystem:\n"), @r"
    aiproxy.yaml:1:8: error: users: expected a group of fields, found a list
    aiproxy.yaml:2:11: error: channels: expected a group of fields, found a whole number
    aiproxy.yaml:3:1: error: api_keys: this is a file of the older AIProxy; take it over by `aiproxy import`
    ");
    insta::assert_snapshot!(problems("just text"), @"aiproxy.yaml:1:1: error: a config starts with `users:`, `channels:` and so on, not with text");
    insta::assert_snapshot!(problems("users: {a: text, b: [1], c: {groups: {x: 1}}}"), @r"
    aiproxy.yaml:1:9: error: users.a: expected a group of fields, found text
    aiproxy.yaml:1:18: error: users.b: expected a group of fields, found a list
    aiproxy.yaml:1:26: warning: users.c: the user has no `proxy_key` and cannot call
    aiproxy.yaml:1:38: error: users.c.groups: expected a list, found a group of fields
    ");
}

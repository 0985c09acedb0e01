//! What a config means: the sample of the requirements, defaults, groups, keys, aliases, endpoints.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{lines, load_as, problems, snapshot};
use aiproxy_config::snapshot::{Kind, ModelRule, ProxyScheme, Status};

#[test]
fn the_sample_of_the_requirements_runs_unchanged() {
    let text = include_str!("../../../../examples/company.yaml");
    let loaded = load_as("aiproxy.yaml", text);
    assert_eq!(lines(&loaded), "");
    let snapshot = loaded.snapshot.unwrap();

    let key = snapshot.find_key("pk_user1_xxx").unwrap();
    assert_eq!((&*key.id, key.user, key.status, key.expires_at_ms), ("user1", 0, Status::Active, None));
    assert!(snapshot.find_key("pk_user1_xxy").is_none());
    let user = &snapshot.users[key.user];
    assert_eq!((&*user.id, &*user.name, &*user.department), ("user1", "张三", "技术部"));
    assert_eq!(&*user.channels, &[0, 1]);
    assert!(user.models.is_empty() && user.ip_allow.is_empty() && key.channels.is_none());

    let aliyun = &snapshot.channels[snapshot.channel_by_id["aliyun"]];
    assert_eq!((aliyun.kind, aliyun.status, &*aliyun.name), (Kind::Dashscope, Status::Active, "阿里云百炼"));
    assert_eq!(aliyun.credentials[0].api_key.expose(), "sk_aliyun_xxx");
    assert_eq!(&*aliyun.credentials[0].id, "default");
    let endpoint = &aliyun.endpoints[0];
    assert_eq!((endpoint.https, &*endpoint.host, endpoint.port), (true, "dashscope.aliyuncs.com", 443));
    assert_eq!((&*endpoint.authority, &*endpoint.path, endpoint.weight), ("dashscope.aliyuncs.com", "", 1));
    assert_eq!((aliyun.priority, aliyun.weight, aliyun.max_retries, aliyun.supports_websocket), (0, 1, 0, true));
    assert_eq!(aliyun.timeouts.first_byte, Duration::from_secs(300));
    assert_eq!(snapshot.channels[1].kind, Kind::Openai);

    let system = &snapshot.system;
    assert_eq!(system.config_reload_interval, Duration::from_secs(300));
    assert_eq!((&*system.log_level, system.max_connections), ("info", 1000));
    assert_eq!(system.listen, ["127.0.0.1:8001".parse::<SocketAddr>().unwrap()]);
    assert_eq!((system.body_limit, system.data_dir.to_str()), (1 << 30, Some("data")));
}

/// The files of predecessors.md 4.1: fields that are informational or have no effect do not break anything.
#[test]
fn the_older_files_are_understood() {
    let text = r#"
users:
  user001:
    name: "张三"
    department: "技术部"
    contact: "zhangsan@example.com"
    proxy_key: "pk_user001_abcdef123456"
    status: "active"
    channels: ["aliyun"]
    created_at: "2025-01-01T00:00:00Z"
    updated_at: 2025-01-01T00:00:00Z
  user002:
    name: "李四"
    email: lisi@example.com
    phone: "123"
    proxy_key: "pk_user002_abcdef123456"
    status: "disabled"
    channels: ["aliyun"]
channels:
  aliyun:
    api_key: "sk-aliyun-xxx"
    base_url: "https://dashscope.aliyuncs.com"
    timeout: 30
    max_retries: 3
    status: "active"
    priority: 1
system:
  rate_limit:
    requests_per_minute: 1000
    burst_size: 100
  monitoring:
    enabled: true
    metrics_port: 9090
"#;
    insta::assert_snapshot!(problems(text), @"aiproxy.yaml:32:5: warning: system.monitoring: accepted for older files; it has no effect");
    let snapshot = snapshot(text);
    assert_eq!(snapshot.users[1].status, Status::Disabled);
    let channel = &snapshot.channels[0];
    assert_eq!(
        (channel.timeouts.first_byte, channel.timeouts.idle),
        (Duration::from_secs(30), Duration::from_secs(30))
    );
    assert_eq!((channel.timeouts.connect, channel.timeouts.total), (Duration::from_secs(10), Duration::ZERO));
    assert_eq!((channel.max_retries, channel.priority), (3, 1));
    let global = snapshot.system.rate_limit.global.unwrap();
    assert_eq!((global.requests_per_second, global.burst), (1000.0 / 60.0, 100));
}

#[test]
fn a_missing_status_is_active_and_any_other_word_disables() {
    let snapshot = snapshot(
        "users: {a: {proxy_key: ka, channels: [c]}, b: {proxy_key: kb, status: inactive, channels: [c]}}
channels: {c: {base_url: 'http://h', api_key: k}, d: {base_url: 'http://h', status: 'off'}}",
    );
    assert_eq!((snapshot.users[0].status, snapshot.users[1].status), (Status::Active, Status::Disabled));
    assert_eq!((snapshot.channels[0].status, snapshot.channels[1].status), (Status::Active, Status::Disabled));
}

#[test]
fn groups_add_channels_networks_and_models() {
    let snapshot = snapshot(
        "
groups:
  one: {channels: [b, a], models: ['gpt-*'], ip_allow: [10.0.0.0/8]}
  two: {channels: [c], models: [qwen]}
users:
  member: {proxy_key: k1, channels: [a], groups: [one, two], ip_allow: [10.1.2.3/16, '::1']}
  choosy: {proxy_key: k2, groups: [one], models: [gpt-4o]}
channels:
  a: {base_url: 'http://h', api_key: x}
  b: {base_url: 'http://h', api_key: x}
  c: {base_url: 'http://h', api_key: x}
",
    );
    let member = &snapshot.users[0];
    assert_eq!(&*member.channels, &[0, 1, 2]);
    assert_eq!(member.models.iter().map(|model| &**model).collect::<Vec<_>>(), ["gpt-*", "qwen"]);
    let networks: Vec<Vec<String>> =
        member.ip_allow.iter().map(|list| list.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(networks, [vec!["10.1.0.0/16", "::1/128"], vec!["10.0.0.0/8"]]);
    assert_eq!(snapshot.users[1].models.iter().map(|model| &**model).collect::<Vec<_>>(), ["gpt-4o"]);
}

#[test]
fn a_user_may_hold_several_keys() {
    let snapshot = snapshot(
        "
users:
  shop:
    proxy_key: short
    proxy_keys:
      - {key: second}
      - {id: laptop, key: third, status: disabled, expires_at: '2030-01-01T08:00:00+08:00', channels: [b], models: [m]}
    channels: [a, b]
channels:
  a: {base_url: 'http://h', api_key: x}
  b: {base_url: 'http://h', api_key: x}
",
    );
    assert_eq!(&*snapshot.find_key("short").unwrap().id, "shop");
    assert_eq!(&*snapshot.find_key("second").unwrap().id, "shop-1");
    let third = snapshot.find_key("third").unwrap();
    assert_eq!((&*third.id, third.status, third.expires_at_ms), ("laptop", Status::Disabled, Some(1_893_456_000_000)));
    assert_eq!(third.channels.as_deref(), Some([1].as_slice()));
}

#[test]
fn models_are_names_patterns_and_aliases() {
    let snapshot = snapshot(
        "
channels:
  list: {base_url: 'http://h', api_key: x, models: [gpt-4o, 'gpt-*', {fast: gpt-4o-mini}]}
  map: {base_url: 'http://h', api_key: x, models: {fast: qwen-turbo, qwen-max: qwen-max, 'q*': 'q*'}}
",
    );
    assert_eq!(
        &*snapshot.channels[0].models,
        [
            ModelRule::Exact("gpt-4o".into()),
            ModelRule::Glob("gpt-*".into()),
            ModelRule::Alias { alias: "fast".into(), real: "gpt-4o-mini".into() },
        ]
    );
    assert_eq!(snapshot.channels[1].models[1], ModelRule::Exact("qwen-max".into()));
    assert_eq!(snapshot.channels[1].models[2], ModelRule::Glob("q*".into()));
}

#[test]
fn connections_are_shared_only_where_they_lead_to_the_same_place_the_same_way() {
    let snapshot = snapshot(
        "
channels:
  a: {base_url: 'https://h/v1', api_key: x}
  b: {base_url: 'https://H:443/v2/', api_key: y}
  c: {base_url: 'http://h:443', api_key: x}
  d: {base_url: 'https://h', api_key: x, proxy: 'socks5://u:${PASSWORD}@[::1]:1080'}
  e: {base_url: 'https://h', api_key: x, tls: {insecure: true}}
",
    );
    let keys: Vec<u64> = snapshot.channels.iter().map(|channel| channel.endpoints[0].pool_key).collect();
    assert_eq!(keys[0], keys[1]);
    for different in 2..5 {
        assert!(keys.iter().enumerate().all(|(index, key)| index == different || *key != keys[different]));
    }
    assert_eq!(keys[0], 9_557_568_256_533_085_703, "the same in every process and version");
    let proxy = snapshot.channels[3].endpoints[0].proxy.as_ref().unwrap();
    assert_eq!((proxy.scheme, &*proxy.host, proxy.port), (ProxyScheme::Socks5, "::1", 1080));
    assert_eq!(proxy.credential.as_ref().unwrap().1, "p@ss".into());
}

#[test]
fn the_kind_follows_from_the_host() {
    for (host, kind) in [
        ("dashscope-intl.aliyuncs.com", Kind::Dashscope),
        ("cn-beijing.maas.aliyuncs.com", Kind::Dashscope),
        ("api.openai.com", Kind::Openai),
        ("api.anthropic.com", Kind::Anthropic),
        ("generativelanguage.googleapis.com", Kind::Gemini),
        ("us-central1-aiplatform.googleapis.com", Kind::Vertex),
        ("aiplatform.googleapis.com", Kind::Vertex),
        ("company.openai.azure.com", Kind::Azure),
        ("bedrock-runtime.us-east-1.amazonaws.com", Kind::Bedrock),
        ("api.openai.com.example.com", Kind::Custom),
        ("api.deepseek.com", Kind::Custom),
    ] {
        let snapshot = snapshot(&format!("channels: {{c: {{base_url: 'https://{host}', api_key: x}}}}"));
        assert_eq!(snapshot.channels[0].kind, kind, "{host}");
    }
}

#[test]
fn every_way_of_writing_a_system_setting() {
    let snapshot = snapshot(
        "
system:
  listen: [':8001', '[::1]:8002', 'localhost:8003', 8004, '8005']
  admin: {listen: '10.0.0.1:1', token: a-long-enough-token}
  timeouts: {headers: 500ms, body: 1h30m, keep_alive: 0, write: 1.5}
  body_limit: 10MiB
  log: {console: false, file: {path: /var/log/x.jsonl, max_size: 1GB, keep: 3}}
  trusted_proxies: [127.0.0.1]
  data_dir: /srv/data
",
    );
    let system = &snapshot.system;
    let listen: Vec<String> = system.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["0.0.0.0:8001", "[::1]:8002", "127.0.0.1:8003", "127.0.0.1:8004", "127.0.0.1:8005"]);
    assert_eq!(system.admin_token.as_ref().unwrap().expose(), "a-long-enough-token");
    let timeouts = system.client_timeouts;
    assert_eq!((timeouts.headers, timeouts.body), (Duration::from_millis(500), Duration::from_secs(5400)));
    assert_eq!((timeouts.keep_alive, timeouts.write), (Duration::ZERO, Duration::from_millis(1500)));
    assert_eq!(system.body_limit, 10 << 20);
    let file = system.log.file.as_ref().unwrap();
    assert_eq!((file.path.to_str(), file.max_bytes, file.keep), (Some("/var/log/x.jsonl"), 1_000_000_000, 3));
    assert!(!system.log.console);
    assert_eq!(system.data_dir.to_str(), Some("/srv/data"));
}

#[test]
fn underscore_keys_are_comments_everywhere_and_merge_keys_work() {
    let text = "
_note: {anything: [1]}
_usual: &usual {department: IT, _x: 1, channels: [c]}
users:
  _comment: about users
  a: {<<: *usual, proxy_key: k, _why: because, department: Sales}
channels:
  c: {base_url: 'http://h', api_key: x, headers: {_note: y}}
system: {_note: z}
";
    assert_eq!(problems(text), "");
    let snapshot = snapshot(text);
    assert_eq!(snapshot.users.len(), 1);
    assert_eq!(&*snapshot.users[0].department, "Sales");
    assert_eq!(&*snapshot.users[0].channels, &[0]);
}

//! Where records are written: the database, files, webhooks, and what is wrong with them.

use std::time::Duration;

use aiproxy_config::snapshot::{Database, DatabaseKind, Log, Parquet, S3, Webhook};
use aiproxy_core::Secret;

use crate::support::{system, system_problems};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn the_database_is_known_by_its_url() {
    let database = |url: &str| system(&format!("data_dir: /srv/100% data?, database: '{url}'")).database;
    assert_eq!(system("").database, Database { url: None, kind: DatabaseKind::Sqlite });
    for (url, kind) in [
        ("postgres://aiproxy:word@db.example.com:5432/aiproxy?sslmode=require", DatabaseKind::Postgres),
        ("postgresql://db.example.com", DatabaseKind::Postgres),
        ("PostgreSQL://[::1]/aiproxy", DatabaseKind::Postgres),
        ("postgres://aiproxy:p%40ss@%2Frun%2Fpostgresql/aiproxy", DatabaseKind::Postgres),
        ("postgres:///aiproxy?host=/run/postgresql", DatabaseKind::Postgres),
        ("mysql://aiproxy:p@ss@127.0.0.1:3306/aiproxy", DatabaseKind::Mysql),
        ("mariadb://db/aiproxy", DatabaseKind::Mysql),
    ] {
        assert_eq!(database(url), Database { url: Some(Secret::new(url)), kind }, "{url}");
    }
    assert_eq!(database("mysql://u:${PASSWORD}@h/d").url, Some(Secret::new("mysql://u:p@ss@h/d")));
    for (written, meant) in [
        ("sqlite:/var/lib/a b.db", "sqlite:/var/lib/a b.db"),
        ("sqlite:///var/lib/x.db", "sqlite:/var/lib/x.db"),
        ("sqlite:x.db", "sqlite:/srv/100%25 data%3F/x.db"),
        ("sqlite://sub/x%3F.db", "sqlite:/srv/100%25 data%3F/sub/x%3F.db"),
    ] {
        let database = database(written);
        assert_eq!((database.url, database.kind), (Some(Secret::new(meant)), DatabaseKind::Sqlite), "{written}");
    }
}

#[test]
fn a_wrong_database_is_refused_without_being_repeated() {
    let of = |url: &str| {
        let lines = system_problems(&format!("database: '{url}'"));
        assert!(!lines.contains("canary"), "{lines}");
        let message = lines.strip_prefix("aiproxy.yaml:1:20: error: system.database: ").unwrap_or(&lines);
        message.trim_end().to_owned()
    };
    insta::assert_snapshot!(of("canary"), @"expected `postgres://user:password@host/name`, `mysql://…`, `mariadb://…` or `sqlite:/path`");
    insta::assert_snapshot!(of("oracle://u:canary@h/d"), @"expected `postgres://user:password@host/name`, `mysql://…`, `mariadb://…` or `sqlite:/path`");
    insta::assert_snapshot!(of("postgres:canary"), @"expected `postgres://user:password@host/name`, `mysql://…`, `mariadb://…` or `sqlite:/path`");
    insta::assert_snapshot!(of("postgres://u:canary@/d"), @"the host is missing");
    insta::assert_snapshot!(of("postgres://u:canary@h:port/d"), @"the port is a number from 1 to 65535");
    insta::assert_snapshot!(of("postgres://u:can/ary@h/d"), @"in a user name or password, `@`, `/`, `?`, `#` and `%` are written %40, %2F, %3F, %23 and %25");
    insta::assert_snapshot!(of("postgres://u:canary#1@h/d"), @"in a user name or password, `@`, `/`, `?`, `#` and `%` are written %40, %2F, %3F, %23 and %25");
    insta::assert_snapshot!(of("postgres://u:canary?1@h/d"), @"in a user name or password, `@`, `/`, `?`, `#` and `%` are written %40, %2F, %3F, %23 and %25");
    insta::assert_snapshot!(of("postgres://u:canary 1@h/d"), @"the URL has only visible ASCII characters; others are written as %XX");
    insta::assert_snapshot!(of("mysql://u:canary@h"), @"the name of the database is missing: `mysql://user:password@host/name`");
    insta::assert_snapshot!(of("mysql://u:canary@h/?ssl-mode=required"), @"the name of the database is missing: `mysql://user:password@host/name`");
    insta::assert_snapshot!(of("sqlite:"), @"after `sqlite:` comes the path of a file");
    insta::assert_snapshot!(of("sqlite::memory:"), @"a database in memory is lost at the next restart; write the path of a file");
    insta::assert_snapshot!(of("sqlite:/x.db?mode=memory"), @"after `sqlite:` comes a path and nothing else; `?` and `#` in it are written %3F and %23");
    insta::assert_snapshot!(of("${NOT_SET}"), @"the environment variable `NOT_SET` is not set");
    insta::assert_snapshot!(system_problems("database: {kind: sqlite}"), @"aiproxy.yaml:1:20: error: system.database: expected text, found a group of fields");
}

#[test]
fn records_go_to_the_terminal_and_the_database_by_default() {
    let log = system("").log;
    assert_eq!(log, Log { console: true, file: None, database: true, webhooks: Vec::new(), parquet: None });
    assert_eq!(system("log: {webhook: false, parquet: off, database: true}").log, log);
    assert_eq!(system("log: {webhook: [], parquet: false}").log, log);
    assert!(!system("log: {database: false}").log.database);
    let file = |text: &str| system(&format!("log: {{file: {text}}}")).log.file.unwrap();
    assert!(!file("x.jsonl").compress);
    assert!(file("{path: x.jsonl, compress: true}").compress);
}

#[test]
fn webhooks_are_a_url_or_more_or_several() {
    let webhooks = |text: &str| system(&format!("log: {{webhook: {text}}}")).log.webhooks;
    let default = |name: &str, url: &str| Webhook {
        name: name.into(),
        url: Secret::new(url),
        secret: None,
        batch: 500,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(10),
        bodies: false,
    };
    assert_eq!(webhooks("'https://h/x?token=y'"), [default("webhook", "https://h/x?token=y")]);
    assert_eq!(webhooks("'HTTP://u:${PASSWORD}@[::1]:8080'"), [default("webhook", "HTTP://u:p@ss@[::1]:8080")]);
    assert_eq!(webhooks("{url: 'http://h'}"), [default("webhook", "http://h")]);
    let several = webhooks(
        "['http://a', {url: 'http://b'}, {name: billing, url: 'http://c', secret: '${REAL_KEY}', batch: 1, interval: 0, \
         timeout: 5m, bodies: true}, 'http://d']",
    );
    let billing = Webhook {
        name: "billing".into(),
        url: Secret::new("http://c"),
        secret: Some(Secret::new("sk-real")),
        batch: 1,
        interval: Duration::ZERO,
        timeout: 5 * MINUTE,
        bodies: true,
    };
    let expected =
        [default("webhook", "http://a"), default("webhook-2", "http://b"), billing, default("webhook-4", "http://d")];
    assert_eq!(several, expected);
}

#[test]
fn webhooks_that_make_no_sense() {
    let of = |text: &str| {
        let lines = system_problems(&format!("log: {{webhook: {text}}}"));
        assert!(!lines.contains("canary"), "{lines}");
        lines
    };
    insta::assert_snapshot!(of("on"), @"aiproxy.yaml:1:25: error: system.log.webhook: write the URL of the receiver");
    insta::assert_snapshot!(of("5"), @"aiproxy.yaml:1:25: error: system.log.webhook: expected true or false or text or a group of fields or a list, found a whole number");
    insta::assert_snapshot!(of("ftp://u:canary@h"), @"aiproxy.yaml:1:25: error: system.log.webhook: a URL here starts with `https://` or `http://`");
    insta::assert_snapshot!(of("['https://u:canary@', 'http://h#canary', 'http://h/can ary', '${EMPTY}']"), @r"
    aiproxy.yaml:1:26: error: system.log.webhook[0]: the host is missing
    aiproxy.yaml:1:47: error: system.log.webhook[1]: a URL here has no fragment (`#…`)
    aiproxy.yaml:1:66: error: system.log.webhook[2]: a URL has only visible ASCII characters; others are written as %XX
    aiproxy.yaml:1:86: error: system.log.webhook[3]: is empty after its variable or file was filled in
    ");
    insta::assert_snapshot!(of("{secret: canary}"), @"aiproxy.yaml:1:25: error: system.log.webhook: `url` is missing");
    insta::assert_snapshot!(of("{url: 'http://h', secret: '', batch: 0, interval: 2h, timeout: 0, to: canary}"), @r"
    aiproxy.yaml:1:51: error: system.log.webhook.secret: is empty
    aiproxy.yaml:1:62: error: system.log.webhook.batch: must not be less than 1
    aiproxy.yaml:1:75: error: system.log.webhook.interval: must be between 0s and 1h
    aiproxy.yaml:1:88: error: system.log.webhook.timeout: must be between 100ms and 300s
    aiproxy.yaml:1:91: error: system.log.webhook: unknown field `to`; fields here are: name, url, secret, batch, interval, timeout, bodies
    ");
    insta::assert_snapshot!(of("{url: 'http://h', interval: 2h, timeout: 0}"), @r"
    aiproxy.yaml:1:53: error: system.log.webhook.interval: must be between 0s and 1h
    aiproxy.yaml:1:66: error: system.log.webhook.timeout: must be between 100ms and 300s
    ");
    let names = "['http://h', {name: webhook, url: 'http://h'}, {name: '', url: 'http://h'}, {name: a/b, url: 'http://h'}, \
                 {name: .., url: 'http://h'}, {name: parquet, url: 'http://h'}]";
    insta::assert_snapshot!(of(names), @r"
    aiproxy.yaml:1:45: error: system.log.webhook[1].name: the name `webhook` is used twice; give each receiver another
    aiproxy.yaml:1:79: error: system.log.webhook[2].name: has up to 64 letters, digits, `-`, `_` and `.`, and does not start with `.`
    aiproxy.yaml:1:108: error: system.log.webhook[3].name: has up to 64 letters, digits, `-`, `_` and `.`, and does not start with `.`
    aiproxy.yaml:1:138: error: system.log.webhook[4].name: has up to 64 letters, digits, `-`, `_` and `.`, and does not start with `.`
    aiproxy.yaml:1:167: error: system.log.webhook[5].name: `parquet` is the name of another place that records are written to
    ");
}

#[test]
fn parquet_files_go_to_a_directory_and_on_to_s3() {
    let parquet = |text: &str| system(&format!("log: {{parquet: {text}}}")).log.parquet.unwrap();
    let default = Parquet { directory: "parquet".into(), max_bytes: 128 << 20, interval: 10 * MINUTE, s3: None };
    assert_eq!(parquet("true"), default);
    assert_eq!(parquet("on"), default);
    assert_eq!(parquet("{}"), default);
    assert_eq!(parquet("/srv/lake"), Parquet { directory: "/srv/lake".into(), ..default.clone() });
    let written = parquet("{directory: lake, max_size: 1MiB, interval: 1d}");
    assert_eq!(written, Parquet { directory: "lake".into(), max_bytes: 1 << 20, interval: DAY, s3: None });

    let s3 = |text: &str| {
        let keys = "access_key_id: a, secret_access_key: '${REAL_KEY}'";
        parquet(&format!("{{s3: {{bucket: ai-records, {keys}, {text}}}}}")).s3.unwrap()
    };
    let amazon = S3 {
        endpoint: None,
        region: "eu-central-1".into(),
        bucket: "ai-records".into(),
        prefix: "".into(),
        access_key_id: Secret::new("a"),
        secret_access_key: Secret::new("sk-real"),
    };
    assert_eq!(s3("region: eu-central-1"), amazon);
    let own = S3 {
        endpoint: Some("http://minio:9000/base".into()),
        region: "us-east-1".into(),
        prefix: "aiproxy/日".into(),
        ..amazon
    };
    assert_eq!(s3("endpoint: 'http://minio:9000/base/', prefix: /aiproxy/日/"), own);
}

#[test]
fn parquet_files_that_make_no_sense() {
    // That S3 is not there yet is said besides.
    let is_error = |line: &&str| !line.contains("not enforced");
    let of = |text: &str| {
        let problems = system_problems(&format!("log: {{parquet: {text}}}"));
        problems.lines().filter(is_error).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(of("''"), @"aiproxy.yaml:1:25: error: system.log.parquet: the path is empty");
    insta::assert_snapshot!(of("1"), @"aiproxy.yaml:1:25: error: system.log.parquet: expected true or false or text or a group of fields, found a whole number");
    insta::assert_snapshot!(of("{directory: ' ', max_size: 1KiB, interval: 0}"), @r"
    aiproxy.yaml:1:37: error: system.log.parquet.directory: the path is empty
    aiproxy.yaml:1:52: error: system.log.parquet.max_size: must be between 1MiB and 4GiB
    aiproxy.yaml:1:68: error: system.log.parquet.interval: must be between 1s and 24h
    ");
    insta::assert_snapshot!(of("{s3: {bucket: b}}"), @r"
    aiproxy.yaml:1:30: error: system.log.parquet.s3: `access_key_id` is missing
    aiproxy.yaml:1:30: error: system.log.parquet.s3: `secret_access_key` is missing
    ");
    let keys = "access_key_id: '${NOT_SET}', secret_access_key: ''";
    insta::assert_snapshot!(of(&format!("{{s3: {{bucket: a/b, region: 'eu central', prefix: x/../y, {keys}}}}}")), @r"
    aiproxy.yaml:1:39: error: system.log.parquet.s3.bucket: a bucket's name has 3 or more letters, digits, `-`, `_` and `.`
    aiproxy.yaml:1:52: error: system.log.parquet.s3.region: a region's name has only letters, digits, `-`, `_` and `.`
    aiproxy.yaml:1:74: error: system.log.parquet.s3.prefix: a prefix has no control characters and no `..`
    aiproxy.yaml:1:97: error: system.log.parquet.s3.access_key_id: the environment variable `NOT_SET` is not set
    aiproxy.yaml:1:130: error: system.log.parquet.s3.secret_access_key: is empty
    ");
    let keys = "access_key_id: a, secret_access_key: b";
    insta::assert_snapshot!(of(&format!("{{s3: {{bucket: b, {keys}}}}}")), @r"
    aiproxy.yaml:1:30: error: system.log.parquet.s3: `region` is missing, e.g. `region: eu-central-1`
    aiproxy.yaml:1:39: error: system.log.parquet.s3.bucket: a bucket's name has 3 or more letters, digits, `-`, `_` and `.`
    ");
    insta::assert_snapshot!(of(&format!("{{s3: {{bucket: abc, endpoint: 'wss://h', {keys}}}}}")), @"aiproxy.yaml:1:54: error: system.log.parquet.s3.endpoint: a URL here starts with `https://` or `http://`");
    insta::assert_snapshot!(of(&format!("{{s3: {{bucket: abc, endpoint: 'http://u:canary@h', {keys}}}}}")), @"aiproxy.yaml:1:54: error: system.log.parquet.s3.endpoint: an endpoint has no user name, password or query");
}

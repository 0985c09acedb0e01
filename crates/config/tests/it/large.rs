//! A company with very many users: loading stays quick, and finds the one mistake.

use std::fmt::Write as _;

use crate::support::{lines, load_as};

/// `count` users with a key each, as a company's export would have them.
fn users(count: usize) -> String {
    let mut text = "channels:\n  c: {base_url: 'http://h', api_key: x}\nusers:\n".to_owned();
    for user in 0..count {
        writeln!(
            text,
            "  user{user}:\n    name: \"User {user}\"\n    department: \"Department {}\"\n    \
             proxy_key: pk_user{user}_0123456789abcdef\n    status: active\n    channels: [c]",
            user % 50
        )
        .unwrap();
    }
    text
}

#[test]
fn ten_thousand_users_load_quickly() {
    let text = users(10_000);
    let started = aiproxy_core::time::now();
    let loaded = load_as("aiproxy.yaml", &text);
    let took = started.elapsed();
    assert_eq!(lines(&loaded), "");
    assert_eq!(loaded.snapshot.unwrap().keys.len(), 10_000);
    assert!(took.as_secs() < 10, "{took:?} even without optimisation");
    println!("{took:?}");
}

#[test]
fn one_mistake_among_thousands_is_told_alone() {
    let text = users(2_000) + "  last: {proxy_key: pk_user7_0123456789abcdef, channels: [c]}\n";
    let said = lines(&load_as("aiproxy.yaml", &text));
    assert_eq!(
        said,
        "aiproxy.yaml:12004:21: error: users.last.proxy_key: the same key is written twice; first at line 49, column 16\n"
    );
}

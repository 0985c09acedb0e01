//! Broken or hostile files: the message has the position, and nothing hangs or grows.

use crate::support::{lines, load_as, problems};

#[test]
fn yaml_that_does_not_parse_has_a_position() {
    insta::assert_snapshot!(problems("users:\n  a: {proxy_key: x\nchannels: {}\n"), @"aiproxy.yaml:3:9: error: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'");
    insta::assert_snapshot!(problems("users:\n\ta: 1\n"), @"aiproxy.yaml:2:2: error: not valid YAML: tabs disallowed within this context (block indentation) (indent with spaces)");
    insta::assert_snapshot!(problems("users: {a: 'x\n"), @"aiproxy.yaml:1:12: error: not valid YAML: while scanning a quoted scalar, found unexpected end of stream");
    insta::assert_snapshot!(problems("users: *nobody\n"), @"aiproxy.yaml:1:8: error: not valid YAML: while parsing node, found unknown anchor (text that starts with `*` or `&` needs quotes)");
    insta::assert_snapshot!(problems("users: &a [*a]\n"), @"aiproxy.yaml:1:12: error: this alias stands inside the very value it refers to");
    insta::assert_snapshot!(problems("users: !include other.yaml\n"), @"aiproxy.yaml:1:8: error: tags (`!…`) mean nothing here; put the text in quotes if it starts with `!`");
    insta::assert_snapshot!(problems("users: {}\n---\nusers: {}\n"), @"aiproxy.yaml:2:1: error: a second document starts here (`---`); write one per file");
    insta::assert_snapshot!(problems("users:\n  ? [a, b]\n  : 1\n"), @"aiproxy.yaml:2:5: error: a field's name is plain text, not a list or a group");
}

#[test]
fn json_that_does_not_parse_has_a_position() {
    let json = |text| lines(&load_as("conf/a.json", text));
    insta::assert_snapshot!(json("{\n\t\"users\": {\n\t\t\"a\": {},\n\t}\n}"), @"conf/a.json:4:2: error: expected a field name in double quotes (and no comma after the last field)");
    insta::assert_snapshot!(json("{\"users\": {} \"channels\": {}}"), @"conf/a.json:1:14: error: expected `,` or `}`");
    insta::assert_snapshot!(json("{\"users\": {}}}"), @"conf/a.json:1:14: error: expected nothing more after the closing bracket");
    insta::assert_snapshot!(json("{\"users\": nul}"), @"conf/a.json:1:11: error: expected true, false or null; text stands in double quotes");
    insta::assert_snapshot!(json("{\"users\": \"a\nb\"}"), @"conf/a.json:1:11: error: this text has no closing double quote on its line");
    insta::assert_snapshot!(json("{\"users\": {\"a\": {\"name\": \"\\x\"}}}"), @r"conf/a.json:1:26: error: this text has a wrong escape (\…) or a control character");
    insta::assert_snapshot!(json("{"), @"conf/a.json:1:2: error: expected a field name in double quotes (and no comma after the last field)");
    insta::assert_snapshot!(json("[1, 2]"), @"conf/a.json:1:1: error: a config starts with `users:`, `channels:` and so on, not with a list");
}

#[test]
fn json_may_be_indented_by_tabs_and_hold_any_character() {
    let text = "{\n\t\"users\": {\n\t\t\"a\": {\"name\": \"\\ud83d\\ude00 \\u5f20\", \"proxy_key\": \"k\\/k\", \"channels\": [\"c\"]}\n\t},\n\t\"channels\": {\"c\": {\"base_url\": \"http://h\", \"api_key\": \"x\"}}\n}\n";
    let loaded = load_as("a.json", text);
    assert_eq!(lines(&loaded), "");
    let snapshot = loaded.snapshot.unwrap();
    assert_eq!(&*snapshot.users[0].name, "😀 张");
    assert!(snapshot.find_key("k/k").is_some());
}

#[test]
fn duplicate_keys_are_errors_that_name_both_places() {
    let text = "users:\n  a: {name: x}\n  b: {name: x, name: y}\n  a: {name: z}\n";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:2:3: warning: users.a: the user may use no channel; add `channels:` or `groups:`
    aiproxy.yaml:2:3: warning: users.a: the user has no `proxy_key` and cannot call
    aiproxy.yaml:3:3: warning: users.b: the user may use no channel; add `channels:` or `groups:`
    aiproxy.yaml:3:3: warning: users.b: the user has no `proxy_key` and cannot call
    aiproxy.yaml:3:16: error: `name` is written twice; first at line 3, column 7
    aiproxy.yaml:4:3: error: `a` is written twice; first at line 2, column 3
    ");
    insta::assert_snapshot!(lines(&load_as("a.json", "{\"users\": {},\n \"users\": {}}")), @"a.json:2:2: error: `users` is written twice; first at line 1, column 2");
}

#[test]
fn an_empty_config_says_how_to_start() {
    for text in ["", "\n", "# only a comment\n", "---\n", "\u{feff}"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(problems(text), @"aiproxy.yaml: error: the config is empty; `aiproxy demo` runs without any config; to write one, start from examples/minimal.yaml");
        }
    }
    assert_eq!(lines(&load_as("a.json", " ")).lines().count(), 1);
}

#[test]
fn an_alias_bomb_is_refused_quickly() {
    let mut text = "_a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let below = level - 1;
        text.push_str(&format!("_a{level}: &a{level} [{}]\n", vec![format!("*a{below}"); 10].join(",")));
    }
    insta::assert_snapshot!(problems(&text), @"aiproxy.yaml:5:35: error: anchors and aliases copy more than 100000 values");
}

#[test]
fn nesting_has_a_bound() {
    insta::assert_snapshot!(problems(&format!("users: {}{}", "[".repeat(200), "]".repeat(200))), @"aiproxy.yaml:1:40: error: nested more than 32 deep");
    let block: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    insta::assert_snapshot!(problems(&block), @"aiproxy.yaml:34:34: error: nested more than 32 deep");
    insta::assert_snapshot!(lines(&load_as("a.json", &"[".repeat(100_000))), @"a.json:1:34: error: nested more than 32 deep");
}

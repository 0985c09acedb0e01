//! What looks like a key whoever it belongs to, and members whose name says that they are secret.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::HIDDEN;

/// Names of members, fields and parameters whose value is a secret. Not `token`: it is a word of the model's.
const NAMES: &str = r"(?:[a-z0-9]+[_.-])*(?:api[_-]?keys?|apikey|secrets?|passw(?:or)?d|passphrase|authorization|(?:access|refresh|id|auth|bearer|session|security|api)[_-]?token|(?:secret|private|access|signing|encryption)[_-]?key(?:[_-]?id)?|client[_-]?secret|secret[_-]access[_-]key|credentials?)";

/// Keys of providers and clouds, and what carries them. All are read in one pass.
static KEYS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let shapes = [
        // OpenAI, Anthropic, DeepSeek, DashScope, OpenRouter and many more.
        r"\bsk-[A-Za-z0-9_-]{8,}",
        // Stripe's way of naming keys, which many follow.
        r"\b[psr]k_[A-Za-z0-9_-]{8,}",
        r"\bAIza[A-Za-z0-9_-]{20,}",
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
        r"\b(?:gh[opsur]_|github_pat_|glpat-|hf_|gsk_|xai-|xox[abeoprs]-|r8_|nvapi-|pplx-)[A-Za-z0-9_-]{12,}",
        // A JSON Web Token, signed or in cipher, or the beginning of one.
        r"\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){1,4}",
        // Its end may be missing; its lines may be one line with escapes. Never looks far ahead for an end.
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s:,.()\\]|-[A-Za-z0-9 ])*(?:-----END [A-Z0-9 ]{0,60}-----)?",
    ];
    compile(&format!("(?-u){}", shapes.join("|")))
});

/// `Bearer …`, also with a percent-encoded space.
static BEARER: LazyLock<Option<Regex>> =
    LazyLock::new(|| compile(r"(?i-u)(\bbearer(?:\s+|%20|\+))[a-z0-9._~+/=-]{8,}"));

/// `"api_key": "…"`, whatever the value. The end may be missing.
static MEMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compile(&format!(r#"(?s)("(?i-u:{NAMES})"\s*:\s*)(?:"(?:[^"\\]|\\.)*(?:"|\\?\z)|-?[0-9][0-9.eE+-]*)"#))
});

/// The same in JSON that is a text in JSON.
static INNER_MEMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let space = r"(?:\s|\\[nrt])*";
    let value = r#"\\"(?:[^"\\]|\\\\(?:\\["\\]|[^"\\]))*(?:\\"|\\*\z)|-?[0-9][0-9.eE+-]*"#;
    compile(&format!(r#"(?s)(\\"(?i-u:{NAMES})\\"{space}:{space})(?:{value})"#))
});

/// `api_key=…` in forms and queries, and `key=…` in queries.
static PARAMETER: LazyLock<Option<Regex>> =
    LazyLock::new(|| compile(&format!(r#"((?i-u:\b{NAMES}|[?&]key)=)[^&\s"'<>\\]+"#)));

static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| compile(&format!("(?i-u)^{NAMES}$")));

/// A shape is written above, and a test compiles them all.
fn compile(pattern: &str) -> Option<Regex> {
    let compiled = Regex::new(pattern);
    compiled.inspect_err(|error| tracing::error!(%error, "a shape of keys cannot be used")).ok()
}

fn all() -> [&'static Option<Regex>; 5] {
    [&MEMBER, &INNER_MEMBER, &PARAMETER, &BEARER, &KEYS]
}

/// Whether a field of this name holds a secret.
pub(in crate::capture) fn is_secret_name(name: &str) -> bool {
    NAME.as_ref().is_some_and(|regex| regex.is_match(name))
}

/// Replaces everything of these shapes. What precedes a value stays, and JSON stays JSON.
pub(super) fn hide(text: &mut String) {
    for regex in all().into_iter().flatten() {
        let hidden = regex.replace_all(text, |captures: &Captures<'_>| {
            let before = captures.get(1).map_or("", |before| before.as_str());
            let quote = match before.as_bytes() {
                [b'"', ..] => "\"",
                [b'\\', ..] => "\\\"",
                _ => "",
            };
            format!("{before}{quote}{HIDDEN}{quote}")
        });
        if let Cow::Owned(hidden) = hidden {
            *text = hidden;
        }
    }
}

/// Whether anything of these shapes is in `text`.
pub(super) fn are_in(text: &str) -> bool {
    all().into_iter().flatten().any(|regex| regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str) -> String {
        let mut text = text.to_string();
        hide(&mut text);
        text
    }

    #[test]
    fn every_shape_compiles() {
        assert!(all().into_iter().all(Option::is_some));
        assert!(NAME.is_some());
    }

    #[test]
    fn what_looks_like_a_key_is_hidden() {
        let hex = "0123456789abcdef";
        for key in [
            format!("sk-{hex}"),
            format!("sk-ant-api03-{hex}_x"),
            format!("pk_{hex}"),
            format!("sk_live_{hex}"),
            format!("AIza{hex}{hex}"),
            format!("AKIA{}", hex.to_uppercase()),
            format!("ghp_{hex}"),
            format!("eyJ{hex}.eyJ{hex}.{hex}"),
            format!("eyJ{hex}."),
            format!("-----BEGIN RSA PRIVATE KEY-----\n{hex}/+\n{hex}==\n-----END RSA PRIVATE KEY-----"),
            format!("-----BEGIN PRIVATE KEY-----\\n{hex}\\n-----END PRIVATE KEY-----"),
            format!("-----BEGIN PRIVATE KEY-----\n{hex}"),
        ] {
            assert_eq!(hidden(&key), "***");
            assert_eq!(hidden(&format!("my key: {key}")), "my key: ***");
            assert_eq!(hidden(&format!("\"{key}\"")), "\"***\"");
            assert!(are_in(&key));
        }
        assert_eq!(hidden("Authorization: Bearer abcdefgh.123"), "Authorization: Bearer ***");
    }

    #[test]
    fn members_whose_name_says_so_are_hidden_and_json_stays_json() {
        let text = r#"{"api_key": "a\"b", "X-Api-Key":"c","openai_api_key" : 123, "client_secret":"","b":{"password":"p\\"},"n":1}"#;
        let seen = hidden(text);
        assert_eq!(
            seen,
            r#"{"api_key": "***", "X-Api-Key":"***","openai_api_key" : "***", "client_secret":"***","b":{"password":"***"},"n":1}"#
        );
        let inner = serde_json::to_string(&serde_json::json!({"arguments": text})).unwrap();
        let seen: serde_json::Value = serde_json::from_str(&hidden(&inner)).unwrap();
        let seen: serde_json::Value = serde_json::from_str(seen["arguments"].as_str().unwrap()).unwrap();
        assert_eq!((&seen["api_key"], &seen["b"]["password"], &seen["n"]), (&"***".into(), &"***".into(), &1.into()));
        assert_eq!(hidden(r#"{"api_key": "cut of"#), r#"{"api_key": "***""#);
        assert_eq!(hidden("a=1&api_key=x%20y&b=2"), "a=1&api_key=***&b=2");
        assert_eq!(hidden("https://h/v1?key=abc"), "https://h/v1?key=***");
        for name in ["api_key", "OPENAI-API-KEY", "aws_secret_access_key", "password", "x-goog-api-key", "access_token"]
        {
            assert!(is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn words_are_left_alone() {
        for text in [
            r#"{"token":"Hello","max_tokens":100,"prompt_tokens":7,"key":"value","model":"m"}"#,
            r#"{"properties":{"password":{"type":"string"}}}"#,
            "a task-specific risk-benefit disk-1234567890 note; ask_something_else",
            "the bearer of it; eyJ; -----BEGIN CERTIFICATE-----",
        ] {
            assert_eq!(hidden(text), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_searched(text in "(\"|\\\\|:|=|api_key|sk-|eyJ|Bearer |-----BEGIN PRIVATE KEY-----|[a-z0-9]|\\PC)*") {
            let once = hidden(&text);
            proptest::prop_assert!(once.len() <= text.len() * 4 + 8);
        }
    }
}

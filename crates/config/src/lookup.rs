//! Questions asked of a snapshot on every call: whose key is this, does this name match, what is the model really
//! called.
//!
//! Pure and allocation-free, because they are on the path of each call.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::snapshot::{KeyDigest, ModelRule, ProxyKey, Snapshot};

/// SHA-256 of a secret: what [`Snapshot::keys`] is indexed by.
pub fn key_digest(secret: &str) -> KeyDigest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    bytes
}

impl Snapshot {
    /// The proxy key whose secret this is.
    ///
    /// The time taken tells nothing about how much of a wrong secret is right: only digests are compared.
    pub fn find_key(&self, secret: &str) -> Option<&Arc<ProxyKey>> {
        self.keys.get(&key_digest(secret))
    }
}

impl ModelRule {
    /// The name the upstream knows `asked` by, if this rule serves it.
    ///
    /// An alias is followed once: what it points at is the upstream's name, not a further alias.
    pub fn resolve<'name>(&'name self, asked: &'name str) -> Option<&'name str> {
        match self {
            Self::Exact(name) => (**name == *asked).then_some(asked),
            Self::Glob(pattern) => glob_match(pattern, asked).then_some(asked),
            Self::Alias { alias, real } => (**alias == *asked).then_some(real),
        }
    }
}

/// Whether `name` fits `pattern`, in which `*` stands for any text, the empty one too, and everything else for itself.
///
/// Linear in both lengths: each piece between stars is looked for once, from where the one before ended.
pub fn glob_match(pattern: &str, name: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(prefix) else {
        return false;
    };
    let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*').filter(|piece| !piece.is_empty()) {
        let Some(at) = name.find(piece) else {
            return false;
        };
        name = &name[at + piece.len()..];
    }
    name.ends_with(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_nothing_else_does() {
        for (pattern, name, matches) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "gpt-", true),
            ("gpt-*", "xgpt-4o", false),
            ("*", "", true),
            ("**", "anything", true),
            ("*-vl-*", "qwen-vl-max", true),
            ("*-vl-*", "qwen-max", false),
            ("a*bc*c", "abc", false),
            ("a*bc*c", "abcc", true),
            ("qwen?", "qwen3", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(glob_match(pattern, name), matches, "{pattern} ~ {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_linear_time() {
        let pattern = "*a".repeat(2_000) + "b";
        assert!(!glob_match(&pattern, &"a".repeat(200_000)));
    }

    #[test]
    fn an_alias_is_asked_by_its_name_and_served_by_the_real_one() {
        let alias = ModelRule::Alias { alias: "fast".into(), real: "qwen-turbo".into() };
        assert_eq!(alias.resolve("fast"), Some("qwen-turbo"));
        assert_eq!(alias.resolve("qwen-turbo"), None);
        assert_eq!(ModelRule::Glob("qwen-*".into()).resolve("qwen-max"), Some("qwen-max"));
        assert_eq!(ModelRule::Exact("qwen-max".into()).resolve("qwen-max"), Some("qwen-max"));
    }
}

//! Patterns of model names, in which `*` stands for any text.

/// A pattern, and how much of it is not a star: the more, the closer it fits.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    pattern: Box<str>,
    pub(super) literal: usize,
}

impl Glob {
    pub(super) fn new(pattern: &str) -> Self {
        Self { pattern: pattern.into(), literal: literal_length(pattern) }
    }

    /// Whether `name` fits. Linear in both lengths: each piece between stars is looked for once, from where the one
    /// before ended.
    pub(super) fn fits(&self, name: &str) -> bool {
        // Most patterns are of other makers: their first letter tells.
        if name.len() < self.literal || !shares_start(&self.pattern, name) {
            return false;
        }
        let Some((prefix, rest)) = self.pattern.split_once('*') else {
            return *self.pattern == *name;
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
}

/// How much of a pattern is not a star.
fn literal_length(pattern: &str) -> usize {
    pattern.bytes().filter(|byte| *byte != b'*').count()
}

fn shares_start(pattern: &str, name: &str) -> bool {
    match (pattern.as_bytes().first(), name.as_bytes().first()) {
        (Some(b'*'), _) => true,
        (first, other) => first == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_nothing_else_does() {
        for (pattern, name, fits) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o*", "gpt-4o-mini", true),
            ("gpt-4o*", "gpt-4o", true),
            ("gpt-4o*", "gpt-4", false),
            ("*", "", true),
            ("*-vl-*", "qwen-vl-max", true),
            ("*-vl-*", "qwen-max", false),
            ("a*bc*c", "abc", false),
            ("a*bc*c", "abcc", true),
            ("名*", "名字", true),
            ("", "x", false),
        ] {
            assert_eq!(Glob::new(pattern).fits(name), fits, "{pattern} ~ {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_linear_time() {
        let pattern = "*a".repeat(2_000) + "b";
        assert!(!Glob::new(&pattern).fits(&"a".repeat(200_000)));
    }
}

//! A model's name as a call writes it, and the names its price may stand under: without the path of whoever sells it,
//! and without the date of its snapshot. Allocates nothing.

/// The names to look for, the closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names<'name> {
    /// As asked for.
    pub(super) asked: &'name str,
    /// Without `openai/`, `models/`, `us.anthropic.`; else the same.
    pub(super) plain: &'name str,
    /// Both without the date; else the same.
    pub(super) asked_undated: &'name str,
    pub(super) plain_undated: &'name str,
}

impl<'name> Names<'name> {
    pub(super) fn of(asked: &'name str) -> Self {
        let plain = without_vendor(asked);
        let plain_undated = without_date(plain);
        // The date is at the end of both.
        let asked_undated = &asked[..asked.len() - (plain.len() - plain_undated.len())];
        Self { asked, plain, asked_undated, plain_undated }
    }
}

/// `models/gemini-2.5-pro`, `openai/gpt-4o` and Bedrock's `us.anthropic.claude-…` without what leads them.
fn without_vendor(name: &str) -> &str {
    let path = name.bytes().rposition(|byte| byte == b'/').map_or(0, |at| at + 1);
    let mut name = &name[path..];
    // A region or a maker is letters and a dot; a version (`gpt-4.1`, `qwen2.5`) has a digit before its dot.
    while let Some(end) = name.bytes().position(|byte| !byte.is_ascii_lowercase()) {
        let is_maker = end > 0 && end + 1 < name.len() && name.as_bytes()[end] == b'.';
        if !is_maker {
            break;
        }
        name = &name[end + 1..];
    }
    name
}

/// `gpt-4o-2024-08-06`, `claude-sonnet-4-5-20250929`, `claude-sonnet-4@20250514`, `qwen-max-0919`,
/// `gemini-2.0-flash-001`, `qwen-max-latest` and Bedrock's `…-20250929-v1:0` without what follows the model's name.
fn without_date(name: &str) -> &str {
    let name = without_revision(name);
    if let Some(own) = name.strip_suffix("-latest").filter(|own| !own.is_empty()) {
        return own;
    }
    let bytes = name.as_bytes();
    let ends = |pattern: &[u8]| ends_like(bytes, pattern);
    let two = |from_end: usize| {
        let at = bytes.len() - from_end;
        (bytes[at] - b'0') * 10 + (bytes[at + 1] - b'0')
    };
    let is_day =
        |month_from_end, day_from_end| (1..=12).contains(&two(month_from_end)) && (1..=31).contains(&two(day_from_end));
    let cut = if ends(b"-20dd-dd-dd") && is_day(5, 2) {
        11
    } else if (ends(b"-20dddddd") || ends(b"@20dddddd")) && is_day(4, 2) {
        9
    } else if ends(b"-dddd") && is_day(4, 2) {
        5
    } else if ends(b"-00d") || ends(b"@00d") {
        4
    } else {
        return name;
    };
    // What is cut is ASCII, so the rest ends between two characters.
    Some(&name[..name.len() - cut]).filter(|own| !own.is_empty()).unwrap_or(name)
}

/// Without Bedrock's `-v1:0`.
fn without_revision(name: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(colon) = name.bytes().rposition(|byte| byte == b':').filter(|at| is_number(&name[at + 1..])) else {
        return name;
    };
    let head = &name[..colon];
    match head.rsplit_once("-v") {
        Some((own, version)) if is_number(version) && !own.is_empty() => own,
        _ => name,
    }
}

/// Whether `bytes` ends as `pattern` says, in which `d` is any digit.
fn ends_like(bytes: &[u8], pattern: &[u8]) -> bool {
    let Some(at) = bytes.len().checked_sub(pattern.len()) else {
        return false;
    };
    bytes[at..].iter().zip(pattern).all(|(byte, like)| match like {
        b'd' => byte.is_ascii_digit(),
        like => byte == like,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_told_from_what_only_looks_like_one() {
        for (asked, expected) in [
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("claude-sonnet-4@20250514", "claude-sonnet-4"),
            ("claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet"),
            ("claude-opus-4-6-v1:0", "claude-opus-4-6"),
            ("qwen-max-2025-01-25", "qwen-max"),
            ("qwen-max-0919", "qwen-max"),
            ("gpt-4-0613", "gpt-4"),
            ("gemini-2.0-flash-001", "gemini-2.0-flash"),
            ("qwen-plus-latest", "qwen-plus"),
            ("gpt-4o", "gpt-4o"),
            ("gpt-4o-2024-13-06", "gpt-4o-2024-13-06"),
            ("mistral-large-2411", "mistral-large-2411"),
            ("llama-3-8192", "llama-3-8192"),
            ("model-9999", "model-9999"),
            ("-0919", "-0919"),
            ("-latest", "-latest"),
            ("-20250929-v1:0", "-20250929"),
            (":0", ":0"),
            ("", ""),
            ("名-2024-08-06", "名"),
        ] {
            assert_eq!(without_date(asked), expected, "{asked}");
        }
    }

    #[test]
    fn a_maker_before_the_name_is_told_from_a_version_in_it() {
        for (asked, expected) in [
            ("openai/gpt-4o", "gpt-4o"),
            ("models/gemini-2.5-pro", "gemini-2.5-pro"),
            ("publishers/anthropic/models/claude-sonnet-4", "claude-sonnet-4"),
            ("us.anthropic.claude-sonnet-4-v1:0", "claude-sonnet-4-v1:0"),
            ("gpt-4.1-mini", "gpt-4.1-mini"),
            ("qwen2.5-72b-instruct", "qwen2.5-72b-instruct"),
            ("name.", "name."),
            (".name", ".name"),
            ("models/", ""),
        ] {
            assert_eq!(without_vendor(asked), expected, "{asked}");
        }
        assert_eq!(
            Names::of("openai/gpt-4o-2024-08-06"),
            Names {
                asked: "openai/gpt-4o-2024-08-06",
                plain: "gpt-4o-2024-08-06",
                asked_undated: "openai/gpt-4o",
                plain_undated: "gpt-4o",
            }
        );
    }

    proptest::proptest! {
        #[test]
        fn no_name_panics(asked in "[-@:/.v0-9a-z名]{0,24}") {
            let names = Names::of(&asked);
            assert!(asked.starts_with(names.asked_undated) && names.plain.starts_with(names.plain_undated));
        }
    }
}

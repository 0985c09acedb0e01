//! Finding known secrets: as they are, percent-encoded, escaped as in JSON (once or more often), in base64, and any
//! mixture of the first three. What the end of the text cuts is found by its beginning.

use aiproxy_core::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::HIDDEN;

/// A shorter text is no secret: it would be hidden in the middle of words.
const SHORTEST: usize = 4;
/// From this length on, a secret is looked for in base64, too.
const SHORTEST_ENCODED: usize = 8;
/// How much of a secret at the end of a text is hidden; of a short one, half.
const TELLING: usize = 8;

/// Text that was escaped more often than this many backslashes tell is not looked into.
const MOST_BACKSLASHES: usize = 16;

/// The secrets of one call.
pub(super) struct Verbatim(Vec<Vec<char>>);

impl Verbatim {
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let mut needles: Vec<Vec<char>> = Vec::new();
        for secret in secrets.iter().map(Secret::expose).filter(|secret| secret.chars().count() >= SHORTEST) {
            needles.push(secret.chars().collect());
            if secret.len() >= SHORTEST_ENCODED {
                needles.extend(in_base64(secret.as_bytes()));
            }
        }
        // The longest first: one may be the beginning of another.
        needles.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        needles.dedup();
        Self(needles)
    }

    /// Replaces every secret.
    pub(super) fn hide(&self, text: &mut String) {
        for needle in &self.0 {
            let Some(first) = find(text.as_bytes(), 0, needle) else { continue };
            let mut hidden = String::with_capacity(text.len());
            let mut done = 0;
            let mut next = Some(first);
            while let Some((start, end)) = next {
                // Both ends are character boundaries: every form begins and ends with whole characters.
                hidden.push_str(text.get(done..start).unwrap_or_default());
                hidden.push_str(HIDDEN);
                done = end;
                next = find(text.as_bytes(), done, needle);
            }
            hidden.push_str(text.get(done..).unwrap_or_default());
            *text = hidden;
        }
    }

    /// Whether a secret is in `bytes`.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|needle| find(bytes, 0, needle).is_some())
    }
}

/// What base64 makes of `secret` inside of something longer: three texts, by where it begins, without the characters
/// that depend on what is around it.
fn in_base64(secret: &[u8]) -> Vec<Vec<char>> {
    let mut needles = Vec::with_capacity(6);
    for offset in 0..3 {
        let mut padded = vec![0; offset];
        padded.extend_from_slice(secret);
        let own = (offset * 8).div_ceil(6)..padded.len() * 8 / 6;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&padded);
            needles.extend(encoded.get(own.clone()).map(|own| own.chars().collect()));
        }
    }
    needles
}

/// Where `needle` stands in `text` at `from` or later.
fn find(text: &[u8], from: usize, needle: &[char]) -> Option<(usize, usize)> {
    let mut buffer = [0; 4];
    let first = needle.first()?.encode_utf8(&mut buffer).as_bytes()[0];
    let mut at = from;
    loop {
        at += memchr::memchr3(first, b'%', b'\\', text.get(at..)?)?;
        if let Some(end) = end_of(text, at, needle) {
            return Some((at, end));
        }
        at += 1;
    }
}

/// Where `needle` ends if it begins at `start`; the end of `text` if that cuts it after a telling part.
fn end_of(text: &[u8], start: usize, needle: &[char]) -> Option<usize> {
    let mut at = start;
    for (count, character) in needle.iter().enumerate() {
        match form(text, at, *character) {
            Form::Is(length) => at += length,
            Form::Cut if count >= TELLING.min((needle.len() / 2).max(SHORTEST)) => return Some(text.len()),
            Form::Cut | Form::Other => return None,
        }
    }
    Some(at)
}

/// What stands at one place of a text.
enum Form {
    /// The character that was asked for, in so many bytes.
    Is(usize),
    /// The text ends.
    Cut,
    /// Something else.
    Other,
}

fn form(text: &[u8], at: usize, character: char) -> Form {
    let rest = text.get(at..).unwrap_or_default();
    let mut buffer = [0; 4];
    let plain = character.encode_utf8(&mut buffer).as_bytes();
    if rest.starts_with(plain) && character != '\\' {
        return Form::Is(plain.len());
    }
    match rest {
        [] => return Form::Cut,
        [b'+', ..] if character == ' ' => return Form::Is(1),
        [b'%', ..] => {
            if let Some(length) = percent(rest, plain) {
                return Form::Is(length);
            }
        }
        [b'\\', ..] => {
            if let Some(length) = escaped(rest, plain, character) {
                return Form::Is(length);
            }
        }
        _ => return Form::Other,
    }
    // An escape may itself be cut.
    if rest.len() < 12 && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'\\')) {
        Form::Cut
    } else {
        Form::Other
    }
}

/// Length of `plain` written as `%41`, or as `%2541` if it was encoded twice.
fn percent(rest: &[u8], plain: &[u8]) -> Option<usize> {
    let mut at = 0;
    for byte in plain {
        if *rest.get(at)? != b'%' {
            return None;
        }
        at += 1;
        while *byte != b'%' && rest.get(at..)?.starts_with(b"25") {
            at += 2;
        }
        if hexadecimal(rest.get(at..at + 2)?)? != u32::from(*byte) {
            return None;
        }
        at += 2;
    }
    Some(at)
}

/// Length of a character written as `\u0041`, or as `\"`; with more backslashes if it was escaped again.
fn escaped(rest: &[u8], plain: &[u8], character: char) -> Option<usize> {
    let mut at = 0;
    let backslashes = |at: usize| {
        rest.get(at..).map_or(0, |rest| {
            // Each time something is escaped again there are about twice as many.
            rest.iter().take(MOST_BACKSLASHES).take_while(|byte| **byte == b'\\').count()
        })
    };
    let mut units = [0; 2];
    let units = character.encode_utf16(&mut units);
    let is_escape = units.iter().all(|unit| {
        let count = backslashes(at);
        at += count + 1;
        let is_u = count > 0 && rest.get(at - 1) == Some(&b'u');
        at += 4;
        is_u && rest.get(at - 4..at).and_then(hexadecimal) == Some(u32::from(*unit))
    });
    if is_escape {
        return Some(at);
    }
    let count = backslashes(0);
    match character {
        '\\' => Some(count),
        '"' | '/' | '\'' if rest.get(count..)?.starts_with(plain) => Some(count + 1),
        _ => None,
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "canary/Key+with \"odd\" signs=é";

    fn hidden(text: &str) -> String {
        let mut text = text.to_string();
        Verbatim::new(&[Secret::new(SECRET)]).hide(&mut text);
        text
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        assert_eq!(hidden(&format!("a {SECRET} b{SECRET}{SECRET}")), "a *** b******");
        let json = serde_json::to_string(SECRET).unwrap();
        assert_eq!(hidden(&json), "\"***\"");
        assert_eq!(hidden(&serde_json::to_string(&json).unwrap()), r#""\"***\"""#, "JSON in JSON");
        let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(hidden(&format!("key={percent}&b=1")), "key=***&b=1");
        assert_eq!(hidden(&format!("key={}&b=1", percent.replace('%', "%25"))), "key=***&b=1", "encoded twice");
        let usual =
            SECRET.replace('/', "%2f").replace('+', "%2b").replace(' ', "+").replace('"', "%22").replace('é', "%C3%A9");
        assert_eq!(hidden(&usual), "***");
        let escaped: String = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        assert_eq!(hidden(&format!("\"{escaped}\"")), "\"***\"");
        assert_eq!(hidden(&SECRET.replace('/', "\\/").replace('"', "\\\"")), "***");
    }

    #[test]
    fn a_secret_is_found_in_base64() {
        for around in ["", "a", "ab", "abc", "user:"] {
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                let encoded = engine.encode(format!("{around}{SECRET}{around}"));
                let hidden = hidden(&encoded);
                assert!(hidden.contains("***") && hidden.len() < around.len() * 3 + 12, "{around}: {hidden}");
            }
        }
    }

    #[test]
    fn of_a_cut_secret_no_telling_part_is_left() {
        let whole = format!("so {SECRET}");
        for end in (3..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let hidden = hidden(&whole[..end]);
            assert!(hidden == "so ***" || hidden.len() <= 3 + TELLING, "{hidden}");
        }
        assert_eq!(hidden("so canary%2fK%65y%2"), "so ***", "cut inside an escape");
        let mut text = "pk-on".to_string();
        Verbatim::new(&[Secret::new("pk-one-1")]).hide(&mut text);
        assert_eq!(text, "***");
    }

    #[test]
    fn what_is_too_short_to_be_a_secret_hides_nothing() {
        let mut text = "a box".to_string();
        Verbatim::new(&[Secret::new("x"), Secret::new("")]).hide(&mut text);
        assert_eq!(text, "a box");
    }

    #[test]
    fn a_secret_that_begins_another_leaves_nothing_of_it() {
        let mut text = "secret-1-longer secret-1".to_string();
        Verbatim::new(&[Secret::new("secret-1"), Secret::new("secret-1-longer")]).hide(&mut text);
        assert_eq!(text, "*** ***");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_torn(text in "(canary/|Key|\\\\|%|u00|[a-f0-9]|é|\\PC)*", secret in "\\PC{0,12}") {
            let mut text = text;
            let verbatim = Verbatim::new(&[Secret::new(SECRET), Secret::new(secret)]);
            verbatim.hide(&mut text);
            proptest::prop_assert!(!text.contains(SECRET));
            verbatim.is_in(text.as_bytes());
        }
    }
}

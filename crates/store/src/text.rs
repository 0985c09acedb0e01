//! Texts as every database takes them: not too long, and without the NUL that PostgreSQL has no place for.

use std::borrow::Cow;

/// Most characters of a name or id.
pub(crate) const NAME: usize = 255;
/// Most characters of a path.
pub(crate) const PATH: usize = 4096;
/// Most characters of an address.
pub(crate) const ADDRESS: usize = 64;
/// Most characters of a word of our own.
pub(crate) const WORD: usize = 32;

/// `text` without NULs, cut after `most` characters.
pub(crate) fn clean(text: &str, most: usize) -> Cow<'_, str> {
    // No text has more characters than bytes, so most need no counting.
    let end = if text.len() <= most { None } else { text.char_indices().nth(most) };
    without_nul(end.map_or(text, |(end, _)| &text[..end]))
}

/// `text` without NULs.
pub(crate) fn without_nul(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) { Cow::Owned(text.replace('\0', "")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_loses_its_nuls() {
        assert_eq!(clean("张三李四", 2), "张三");
        assert_eq!(clean("张三", 2), "张三");
        assert_eq!(clean("a\0b", 5), "ab");
        assert!(matches!(clean("abc", 3), Cow::Borrowed("abc")));
        assert_eq!(clean("abc", 0), "");
    }
}

//! The demo's token count: one token for every four characters (Unicode scalar values), rounded up.
//!
//! Input counts the characters of every text in the prompt (system, user, assistant and tool messages) added up; tool
//! declarations, images and JSON around the texts are free. Output counts the answer, or for a tool call its name
//! followed by its arguments as compact JSON; thoughts are counted apart and then added. Streams report the same.

/// The tokens of one text.
pub fn count(text: &str) -> u64 {
    for_characters(text.chars().count())
}

/// The tokens of so many characters.
pub fn for_characters(characters: usize) -> u64 {
    (characters as u64).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn four_characters_are_one_token_in_any_script() {
        assert_eq!(["", "a", "four", "fives", "你好世界", "你好世界！"].map(count), [0, 1, 1, 2, 1, 2]);
    }
}

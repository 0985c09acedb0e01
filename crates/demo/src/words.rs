//! What the demo says: deterministic, friendly, in the language it was asked in, and cut into stream-sized pieces.

const ECHO_CHARACTERS: usize = 80;
const LONG_PIECES: usize = 200;

/// The answer to `asked`.
pub(crate) fn reply_to(asked: &str) -> String {
    let echo = echo(asked);
    match (echo.is_empty(), is_chinese(asked)) {
        (true, _) => "Hello! This answer comes from the AIProxy demo upstream.".to_owned(),
        (false, true) => format!("你说的是：{}这条回答来自 AIProxy 演示上游。", ended(&echo, '。')),
        (false, false) => format!("You said: {} This answer comes from the AIProxy demo upstream.", ended(&echo, '.')),
    }
}

/// The answer after a tool has run.
pub(crate) fn reply_to_tool(result: &str, asked: &str) -> String {
    let echo = echo(result);
    match is_chinese(asked) {
        true => format!("工具返回：{}这条回答来自 AIProxy 演示上游。", ended(&echo, '。')),
        false => format!("The tool returned: {} This answer comes from the AIProxy demo upstream.", ended(&echo, '.')),
    }
}

/// What the demo thinks before it answers `asked`.
pub(crate) fn thought_about(asked: &str) -> String {
    match is_chinese(asked) {
        true => "用户想要一个回答，我会简短而友好。".to_owned(),
        false => "The user wants an answer. I will be brief and kind.".to_owned(),
    }
}

/// The answer of `demo-long`: it streams as 200 pieces.
pub(crate) fn long() -> String {
    (1..=LONG_PIECES).map(|number| format!("{number} ")).collect()
}

/// `text` cut after every space, and after at most four characters within Chinese. Joined again they are `text`.
pub(crate) fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for character in text.chars() {
        piece.push(character);
        if character.is_whitespace() || is_cjk(character) && piece.chars().count() >= 4 {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// `text` cut into fragments of eight characters, as tool arguments arrive.
pub(crate) fn fragments(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(8).map(|chunk| chunk.iter().collect()).collect()
}

/// True for Chinese ideographs and the punctuation that goes with them.
pub(crate) fn is_cjk(character: char) -> bool {
    matches!(character, '\u{3000}'..='\u{303f}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}')
}

fn is_chinese(text: &str) -> bool {
    text.chars().any(is_cjk)
}

/// The beginning of `text` on one line.
fn echo(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(ECHO_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// `text` with a full stop unless it already ends in punctuation.
fn ended(text: &str, stop: char) -> String {
    match text.chars().last() {
        Some('.' | '!' | '?' | '…' | '。' | '！' | '？') => text.to_owned(),
        _ => format!("{text}{stop}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_echoes_the_question_in_its_language() {
        assert_eq!(reply_to("hi\nthere"), "You said: hi there. This answer comes from the AIProxy demo upstream.");
        assert_eq!(reply_to("你好！"), "你说的是：你好！这条回答来自 AIProxy 演示上游。");
        assert!(reply_to(" ").starts_with("Hello!"));
        assert!(reply_to(&"x".repeat(500)).contains(&format!("{}… This", "x".repeat(80))));
    }

    #[test]
    fn pieces_join_to_the_whole() {
        let text = "Hello big world，你好世界这里是演示。 end";
        assert_eq!(pieces(text).concat(), text);
        assert!(pieces(text).len() > 5);
        assert_eq!(pieces(&long()).len(), 200);
        assert_eq!(fragments(text).concat(), text);
    }
}

//! Given a text whose tokens were counted with OpenAI's `o200k`, then the estimate is near; and what is no text does
//! not count.

use proptest::prelude::*;

use super::*;

/// Counted with the tokenizer itself, not with an estimate.
const COUNTED: [(u64, &str); 16] = [
    (10, "The quick brown fox jumps over the lazy dog."),
    (
        23,
        "Large language models read and write text in small pieces that are called tokens, and providers bill for each of them.",
    ),
    (24, "I'm sorry, but I can't help with that. Is there anything else you'd like to know about the history of Rome?"),
    (
        27,
        "## Summary\n\n- **Cause:** the connection pool was exhausted.\n- **Fix:** raise `max_connections` and restart the service.",
    ),
    (
        40,
        "fn main() {\n    let total: u64 = (1..=10).filter(|n| n % 2 == 0).sum();\n    println!(\"total = {total}\");\n}",
    ),
    (36, "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        yield a\n        a, b = b, a + b"),
    (23, "SELECT name, COUNT(*) FROM users WHERE created_at > '2024-01-01' GROUP BY name;"),
    (21, r#"{"location":{"city":"Paris","country":"FR"},"unit":"celsius","days":3}"#),
    (28, "The total for 2023 was 1,234,567.89 EUR, up 12.5% from 2022."),
    (14, "你好，很高兴认识你。请问今天天气怎么样？"),
    (19, "人工智能正在改变我们的生活方式，从智能手机到自动驾驶汽车，无处不在。"),
    (18, "请帮我写一封邮件，告诉客户项目将于下周一上线。"),
    (19, "こんにちは。今日はとても良い天気ですね。散歩に行きませんか。"),
    (20, "안녕하세요. 오늘은 날씨가 정말 좋네요. 같이 산책하러 갈까요?"),
    (18, "Привет! Сегодня очень хорошая погода, пойдём гулять в парк?"),
    (16, "Guten Tag! Können Sie mir bitte sagen, wie ich zum Bahnhof komme?"),
];

#[test]
fn estimates_are_near_the_tokenizers_count() {
    for (counted, text) in COUNTED {
        let estimated = text_tokens(text);
        let off = estimated as f64 / counted as f64 - 1.0;
        assert!(off.abs() <= 0.35, "{text}: {estimated} instead of {counted}");
    }
    let estimated: u64 = COUNTED.iter().map(|(_, text)| text_tokens(text)).sum();
    let counted: u64 = COUNTED.iter().map(|(counted, _)| counted).sum();
    let off = estimated as f64 / counted as f64 - 1.0;
    assert!(off.abs() <= 0.1, "all together: {estimated} instead of {counted}");
}

#[test]
fn nothing_is_nothing_and_anything_is_something() {
    assert_eq!(text_tokens(""), 0);
    assert_eq!(text_tokens("a"), 1);
    assert_eq!(text_tokens("。"), 1);
    assert_eq!(text_tokens(&"word ".repeat(100_000)) / 1000, 107, "about as many tokens as words");
}

#[test]
fn escapes_count_as_the_characters_they_stand_for() {
    let plain = "他说\"你好\"\n\tfn x() {} 😀 é Ωक가";
    let mut escaped = TextTally::default();
    let ascii: String = plain.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    escaped.add_raw(ascii.as_bytes());
    assert_eq!(escaped.tokens(), text_tokens(plain));
}

#[test]
fn a_prompt_is_its_strings_and_numbers() {
    let body = r#"{"model":"gpt-x","messages":[{"role":"user","content":"The quick brown fox jumps over the lazy dog."}],"temperature":0.5}"#;
    let tokens = prompt_tokens([body.as_bytes()]);
    // The text's 10, 4 for the message around it and 3 for the answer's beginning, as OpenAI's cookbook has it.
    assert!((12..=22).contains(&tokens), "{tokens}");
    let none = prompt_tokens([&br#"{"input":[[],[]]}"#[..]]);
    assert_eq!(prompt_tokens([&br#"{"input":[[1,2,3],[40,50]]}"#[..]]), none + 5, "tokens as numbers");
    assert_eq!(prompt_tokens([&b""[..]]), 0);
}

#[test]
fn pictures_in_a_prompt_count_as_a_fixed_amount() {
    let text = r#"{"type":"text","text":"What is this?"}"#;
    let data = "iVBORw0KGgoAAAANSUhEUgAA".repeat(10_000);
    let wrapped = "iVBORw0KGgoAAAANSUhEUgAA/BORw0KGgoAAAANSUhEUgAAiVBORw0KGgoAAAANSUhEUgAA+VBOR\\n".repeat(1000);
    let slashed = "iVBORw0KGgoAAAANSUhEUgAAiVBORw0KGgoAAAANSUhEUgAAiVBORw0KGgoAAAANSUhEUgAA\\/9j\\/4AAQ".repeat(1000);
    for picture in [
        format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}"#),
        r#"{"type":"image_url","image_url":{"url":"https://example.com/a/picture.png"}}"#.to_string(),
        r#"{"type":"input_image","image_url":"https://example.com/a/picture.png"}"#.to_string(),
        format!(r#"{{"type":"input_audio","input_audio":{{"data":"{data}","format":"wav"}}}}"#),
        format!(r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}"#),
        r#"{"type":"image","source":{"type":"url","url":"https://example.com/a/picture.png"}}"#.to_string(),
        format!(r#"{{"inlineData":{{"mimeType":"image/png","data":"{wrapped}"}}}}"#),
        format!(r#"{{"inline_data":{{"mime_type":"image/png","data":"{slashed}"}}}}"#),
        r#"{"image":"oss://bucket/a/picture.png"}"#.to_string(),
    ] {
        let tokens = prompt_tokens([format!(r#"{{"messages":[{{"content":[{text},{picture}]}}]}}"#).as_bytes()]);
        assert!((1005..1050).contains(&tokens), "{tokens}: {}", &picture[..60]);
    }
    let link = r#"{"annotations":[{"type":"url_citation","url":"https://example.com/a","title":"t"}]}"#;
    assert!(prompt_tokens([link.as_bytes()]) < 30, "a quoted link is text");
}

#[test]
fn data_inside_a_text_is_left_out_and_the_text_behind_it_counts() {
    let data = "QUJD".repeat(1000);
    let body = |middle: &str| format!(r#"{{"input":"Look at this: {middle} and tell me what it means, please."}}"#);
    let without = prompt_tokens([body("").as_bytes()]);
    let with = prompt_tokens([body(&data).as_bytes()]);
    assert!(with.abs_diff(without + MEDIA_TOKENS) <= 2, "{with} and {without}");
    let words = "word\\n".repeat(2000);
    assert!(prompt_tokens([body(&words).as_bytes()]) > 2000, "short words on lines of their own are no data");
}

#[test]
fn signatures_and_names_for_the_provider_do_not_count() {
    let plain = r#"{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"Hm."}]}]}"#;
    let data = "QUJD".repeat(1000);
    let signed = format!(
        r#"{{"model":"claude-x","metadata":{{"user_id":"a long name of a user"}},"messages":[{{"role":"assistant","content":[{{"type":"thinking","thinking":"Hm.","signature":"{data}"}}]}}]}}"#
    );
    let names = text_tokens("model") + text_tokens("metadata") + text_tokens("signature");
    assert!(prompt_tokens([signed.as_bytes()]) <= prompt_tokens([plain.as_bytes()]) + names);
}

#[test]
fn a_length_alone_gives_a_bounded_estimate() {
    assert_eq!(prompt_tokens_from_length(0), 0);
    assert_eq!(prompt_tokens_from_length(4003), 1000);
    assert_eq!(prompt_tokens_from_length(u64::MAX), MOST_TOKENS_FROM_LENGTH);
}

proptest! {
    #[test]
    fn a_text_weighs_the_same_however_it_is_escaped(text in "\\PC{0,80}[\n\t\"\\\\ ]{0,3}\\PC{0,20}") {
        let mut plain = TextTally::default();
        plain.add(text.as_bytes());
        let quoted = serde_json::Value::from(text.as_str()).to_string();
        let mut raw = TextTally::default();
        raw.add_raw(&quoted.as_bytes()[1..quoted.len() - 1]);
        prop_assert_eq!(plain.thousandths(), raw.thousandths());
    }

    #[test]
    fn a_prompt_weighs_the_same_wherever_it_is_cut(
        seed: u8,
        parts in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\\"", "\\u4f60", "\\", "\"content\":", "\"image_url\":", "\"url\":",
            "\"signature\":", "\"source\":", "\"input\" : ", "-1.5e3", "12", "hello world", "名", "\n",
            "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5",
            "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5",
        ]), 0..40),
    ) {
        crate::fuzzing::estimate(&[&[seed][..], parts.concat().as_bytes()].concat());
    }

    #[test]
    fn a_prompt_of_any_bytes_is_no_trouble(input in prop::collection::vec(any::<u8>(), 0..300)) {
        crate::fuzzing::estimate(&input);
    }
}

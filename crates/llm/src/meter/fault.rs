//! The error objects that providers put into a 200 or into a stream, in whatever shape. Decides nothing: whose fault it
//! is and whether to retry is judged elsewhere, on the code kept here.

use serde_json::Value;

/// How much of a provider's sentence is kept.
const LONGEST_TEXT: usize = 512;

/// An error that the provider reported inside a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterError {
    /// The machine code: OpenAI's and DashScope's `code`, Google's number.
    pub code: Option<String>,
    /// The class: OpenAI's and Anthropic's `type`, Google's `status`.
    pub kind: Option<String>,
    /// The sentence, cut to a few hundred characters.
    pub message: Option<String>,
}

impl MeterError {
    /// Reads the raw value of an `error` member. `null`, `""`, `{}` and `false` are no error, as the SDKs see it.
    pub(super) fn from_value(raw: &[u8]) -> Option<Self> {
        match serde_json::from_slice(raw) {
            Ok(Value::Null | Value::Bool(false)) => None,
            Ok(Value::String(message)) if message.is_empty() => None,
            Ok(Value::String(message)) => Some(Self { message: Some(cut(&message)), ..Self::default() }),
            Ok(Value::Object(members)) if members.is_empty() => None,
            Ok(Value::Object(members)) => {
                let find = |name: &str| members.get(name).and_then(text);
                Some(Self {
                    code: find("code"),
                    kind: find("type").or_else(|| find("status")),
                    message: find("message"),
                })
            }
            // Something stands where an error belongs, and it is not nothing.
            Ok(_) | Err(_) => Some(Self::default()),
        }
    }

    /// Reads raw `code` and `message` members that stand beside each other. An empty or missing code is no error.
    pub(super) fn from_members(code: Option<&[u8]>, message: Option<&[u8]>) -> Option<Self> {
        let read = |raw: &[u8]| serde_json::from_slice(raw).ok().as_ref().and_then(text);
        let code = read(code?).filter(|code| !code.is_empty())?;
        Some(Self { code: Some(code), kind: None, message: message.and_then(read) })
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(cut(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

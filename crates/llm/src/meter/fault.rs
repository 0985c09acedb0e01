//! The errors that providers report, in whatever shape: inside a 200, in a stream, or as the body of an error response.
//! It says what the report means for waiting; whose fault it is and whether to retry is judged elsewhere.

use serde_json::Value;

use crate::json_scan::{Captures, JsonScan, Path};

/// How much of a provider's sentence is kept.
const LONGEST_TEXT: usize = 512;

/// How much of an error response's body is read.
const LONGEST_BODY: usize = 64 * 1024;

const ERROR: usize = 0;
const CODE: usize = 1;
const MESSAGE: usize = 2;
const KIND: usize = 3;
const DETAIL: usize = 4;
const BODY: &[Path] = &[&["error"], &["code"], &["message"], &["type"], &["detail"]];

/// Codes and types that say that money or a fixed allowance is used up: lower case, letters and digits only.
const QUOTA_NAMES: &[&str] = &[
    "402",
    "accountdeactivated",
    "accountoverdueerror",
    "allocationquota",
    "allocationquotafreetieronly",
    "arrearage",
    "balanceexhausted",
    "billingerror",
    "billinghardlimitreached",
    "billingnotactive",
    "creditbalanceexhausted",
    "creditbalancetoolow",
    "creditexhausted",
    "creditsexhausted",
    "exceededcurrentquotaerror",
    "freetieronly",
    "insufficientbalance",
    "insufficientcredit",
    "insufficientcredits",
    "insufficientquota",
    "insufficientuserquota",
    "throttlingallocationquota",
    // Zhipu: the account is in arrears.
    "1113",
];

/// Beginnings of codes and types that speak of a rate, whatever else the sentence says.
const RATE_NAMES: &[&str] = &["ratelimit", "throttling"];

/// What the sentence says where the code does not: Anthropic's is `invalid_request_error`, DeepSeek's `unknown_error`.
const QUOTA_PHRASES: &[&str] = &[
    "balance exhausted",
    "balance is insufficient",
    "balance is not enough",
    "credit balance is too low",
    "credits are depleted",
    "credits exhausted",
    "insufficient balance",
    "insufficient credit",
    "out of credits",
    "reached your specified api usage limits",
    "余额不足",
    "欠费",
];

/// How Google names a limit on a day, in its sentence and in the name of the limit.
const DAY_PHRASES: &[&str] = &["perday", "per day"];

/// An error that the provider reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterError {
    /// The machine code: OpenAI's and DashScope's `code`, Google's number.
    pub code: Option<String>,
    /// The class: OpenAI's and Anthropic's `type`, Google's `status`.
    pub kind: Option<String>,
    /// The sentence, cut to a few hundred characters. Behind Google's stand the names of the limits that were reached.
    pub message: Option<String>,
}

impl MeterError {
    /// Reads the body of an error response, whichever provider it is from. `None` if it is not JSON, or says nothing.
    /// Of a body cut off, what stands before the cut is read.
    #[must_use]
    pub fn from_body(body: &[u8]) -> Option<Self> {
        let mut scan = JsonScan::new(BODY).per_element();
        let mut found = None;
        scan.feed_elements(body.get(..LONGEST_BODY).unwrap_or(body), |captures| {
            found = found.take().or_else(|| Self::from_captures(captures));
        });
        found.or_else(|| Self::from_captures(scan.captures()))
    }

    /// Whether it says that money or a fixed allowance is used up, so that waiting for seconds will not help. A plain
    /// limit on requests or tokens in a span of time is none.
    #[must_use]
    pub fn is_quota(&self) -> bool {
        let names: Vec<String> = [&self.code, &self.kind].into_iter().flatten().map(|name| squeeze(name)).collect();
        if names.iter().any(|name| QUOTA_NAMES.contains(&name.as_str())) {
            return true;
        }
        if names.iter().any(|name| RATE_NAMES.iter().any(|rate| name.starts_with(rate))) {
            return false;
        }
        let message = self.message.as_deref().unwrap_or_default().to_lowercase();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
        says(QUOTA_PHRASES) || names.iter().any(|name| name == "resourceexhausted") && says(DAY_PHRASES)
    }

    /// Reads the raw value of an `error` member. `null`, `""`, `{}` and `false` are no error, as the SDKs see it.
    pub(super) fn from_value(raw: &[u8]) -> Option<Self> {
        match serde_json::from_slice(raw) {
            Ok(Value::Null | Value::Bool(false)) => None,
            Ok(Value::String(message)) if message.is_empty() => None,
            Ok(Value::String(message)) => Some(Self { message: Some(cut(&message)), ..Self::default() }),
            Ok(Value::Object(members)) if members.is_empty() => None,
            Ok(Value::Object(members)) => {
                let find = |name: &str| members.get(name).and_then(text);
                let details = members.get("details");
                let message = find("message");
                Some(Self {
                    code: find("code").or_else(|| details?.get("error_code").and_then(text)),
                    kind: find("type").or_else(|| find("status")),
                    message: match details.and_then(reached_limits) {
                        Some(limits) => Some(format!("{} ({limits})", message.unwrap_or_default())),
                        None => message,
                    },
                })
            }
            // Something stands where an error belongs, and it is not nothing.
            Ok(_) | Err(_) => Some(Self::default()),
        }
    }

    /// Reads raw `code` and `message` members that stand beside each other. An empty or missing code is no error.
    pub(super) fn from_members(code: Option<&[u8]>, message: Option<&[u8]>) -> Option<Self> {
        let read = |raw: &[u8]| serde_json::from_slice(raw).ok().as_ref().and_then(text);
        Some(Self { code: Some(read(code?)?), kind: None, message: message.and_then(read) })
    }

    fn from_captures(captures: &Captures) -> Option<Self> {
        let read = |index| serde_json::from_slice::<Value>(captures.raw(index)?).ok();
        let beside = Self {
            code: read(CODE).as_ref().and_then(text),
            // Anthropic's and OpenAI's events say no more than that they are errors.
            kind: read(KIND).as_ref().and_then(text).filter(|kind| kind != "error"),
            message: [MESSAGE, DETAIL].into_iter().find_map(|index| sentence(&read(index)?)),
        };
        match captures.raw(ERROR).and_then(Self::from_value) {
            Some(error) => Some(Self {
                code: error.code.or(beside.code),
                kind: error.kind.or(beside.kind),
                message: error.message.or(beside.message),
            }),
            None => (beside.code.is_some() || beside.message.is_some()).then_some(beside),
        }
    }
}

/// The names of the limits in Google's details: only they tell a day's limit from a minute's.
fn reached_limits(details: &Value) -> Option<String> {
    let violations = details.as_array()?.iter().filter_map(|detail| detail.get("violations")?.as_array()).flatten();
    let names: Vec<&str> = violations.filter_map(|violation| violation.get("quotaId")?.as_str()).collect();
    (!names.is_empty()).then(|| cut(&names.join(", ")))
}

/// The first sentence in a value: itself, or what stands in the first element, or under a usual name.
fn sentence(value: &Value) -> Option<String> {
    match value {
        Value::Array(elements) => elements.first().and_then(sentence),
        Value::Object(members) => {
            ["message", "msg", "detail"].into_iter().find_map(|name| sentence(members.get(name)?))
        }
        value => text(value),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(cut(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

/// Names come as `snake_case`, `CamelCase` and with dots.
fn squeeze(name: &str) -> String {
    name.chars()
        .filter(|character| character.is_ascii_alphanumeric())
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

//! The headers around an answer: like the provider's, with some that a gateway must strip.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::call::Call;
use crate::route::Dialect;

/// Adds what the provider of `dialect` adds.
pub(crate) fn dress(headers: &mut HeaderMap, call: &Call<'_>, dialect: Dialect) {
    let constant: &[(&str, &str)] = match dialect {
        Dialect::OpenAi => &[
            ("openai-organization", "org-demo"),
            ("openai-processing-ms", "1"),
            ("openai-version", "2020-10-01"),
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("set-cookie", "__cf_bm=demo; HttpOnly"),
        ],
        Dialect::Azure => {
            &[("openai-organization", "org-demo"), ("x-ms-region", "Demo"), ("set-cookie", "__cf_bm=demo; HttpOnly")]
        }
        Dialect::Anthropic => &[
            ("anthropic-organization-id", "org-demo"),
            ("anthropic-ratelimit-requests-limit", "1000"),
            ("set-cookie", "__cf_bm=demo; HttpOnly"),
        ],
        Dialect::Gemini | Dialect::Vertex => {
            &[("server-timing", "gfet4t7; dur=1"), ("set-cookie", "NID=demo; HttpOnly")]
        }
        Dialect::DashScope => {
            &[("req-cost-time", "1"), ("x-dashscope-call-gateway", "true"), ("set-cookie", "acw_tc=demo; HttpOnly")]
        }
    };
    for (name, value) in constant {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert("server", HeaderValue::from_static("demo-upstream"));
    let (name, id) = match dialect {
        Dialect::OpenAi => ("x-request-id", call.id("req_")),
        Dialect::Anthropic => ("request-id", call.id("req_")),
        Dialect::Azure => ("apim-request-id", call.request.to_string()),
        Dialect::Gemini | Dialect::Vertex | Dialect::DashScope => ("x-request-id", call.request.to_string()),
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static(name), id);
    }
}

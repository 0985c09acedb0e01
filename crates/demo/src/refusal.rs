//! An error answer and how each dialect words it (`protocols.md` §3.1).

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};

use crate::reply::Reply;
use crate::route::Dialect;

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: u16,
    message: String,
    code: Option<&'static str>,
    param: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), code: None, param: None }
    }

    /// A machine code other than the one that the status implies.
    pub(crate) fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The request field at fault.
    pub(crate) fn param(self, param: &'static str) -> Self {
        Self { param: Some(param), ..self }
    }

    /// A required field of an OpenAI request is absent.
    pub(crate) fn missing(param: &'static str) -> Self {
        let refusal = Self::new(400, format!("Missing required parameter: '{param}'."));
        refusal.code("missing_required_parameter").param(param)
    }

    /// Nothing lives at this path.
    pub(crate) fn no_route(method: &str, path: &str, dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenAi => Self::new(404, format!("Invalid URL ({method} {path})")).code("unknown_url"),
            Dialect::Azure => Self::new(404, "Resource not found").code("404"),
            Dialect::Anthropic => Self::new(404, "Not Found"),
            Dialect::Gemini | Dialect::Vertex => Self::new(404, "Requested entity was not found."),
            Dialect::DashScope => Self::new(404, "url error, please check url!").code("InvalidParameter"),
        }
    }

    /// The model does not exist.
    pub(crate) fn no_model(model: &str, dialect: Dialect) -> Self {
        let openai = format!("The model `{model}` does not exist or you do not have access to it.");
        match dialect {
            Dialect::OpenAi => Self::new(404, openai).code("model_not_found"),
            Dialect::Azure => {
                Self::new(404, "The API deployment for this resource does not exist.").code("DeploymentNotFound")
            }
            Dialect::Anthropic => Self::new(404, format!("model: {model}")),
            Dialect::Gemini | Dialect::Vertex => Self::new(
                404,
                format!("models/{model} is not found for API version v1beta, or is not supported for this method."),
            ),
            Dialect::DashScope => Self::new(404, "Model not exist.").code("ModelNotFound"),
        }
    }

    /// What the provider says with this status when nothing more is known.
    pub(crate) fn genuine(status: u16, dialect: Dialect) -> Self {
        let message = match (dialect, status) {
            (Dialect::OpenAi, 401) => {
                "Incorrect API key provided: ****. You can find your API key at https://platform.openai.com/account/api-keys."
            }
            (Dialect::Azure, 401) => {
                "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource."
            }
            (Dialect::Anthropic, 401) => "invalid x-api-key",
            (Dialect::Gemini | Dialect::Vertex, 401) => {
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential."
            }
            (Dialect::DashScope, 401) => "Invalid API-key provided.",
            (Dialect::DashScope, 429) => "Requests rate limit exceeded, please try again later.",
            (Dialect::Gemini | Dialect::Vertex, 429) => "Resource has been exhausted (e.g. check quota).",
            (_, 429) => "Rate limit reached for requests. Please try again in 1s.",
            (Dialect::Anthropic, 529) => "Overloaded",
            (_, 503 | 529) => "The model is overloaded. Please try again later.",
            (Dialect::OpenAi | Dialect::Azure, 500..) => {
                "The server had an error while processing your request. Sorry about that!"
            }
            (_, 500..) => "An internal error has occurred. Please retry.",
            _ => "The demo upstream was asked to answer with this status.",
        };
        Self::new(status, message)
    }

    /// The error body of `dialect`.
    pub(crate) fn envelope(&self, dialect: Dialect, request_id: &str) -> Value {
        let Self { status, message, code, param } = self;
        match dialect {
            Dialect::OpenAi => {
                let code = code.or(openai_code(*status));
                json!({"error": {"message": message, "type": openai_type(*status), "param": param, "code": code}})
            }
            Dialect::Azure => {
                let code = code.map_or_else(|| status.to_string(), str::to_owned);
                json!({"error": {"code": code, "message": message}})
            }
            Dialect::Anthropic => {
                let mut error = json!({"type": anthropic_type(*status), "message": message});
                if let Some(code) = code {
                    error["details"] = json!({"error_code": code});
                }
                json!({"type": "error", "error": error, "request_id": format!("req_{}", request_id.replace('-', ""))})
            }
            Dialect::Gemini | Dialect::Vertex => {
                let mut error = json!({"code": status, "message": message, "status": google_status(*status)});
                if let Some(code) = code {
                    let detail = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code,
                        "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"}});
                    error["details"] = json!([detail]);
                }
                json!({"error": error})
            }
            Dialect::DashScope => {
                json!({"code": code.unwrap_or(dashscope_code(*status)), "message": message, "request_id": request_id})
            }
        }
    }

    /// The whole error answer.
    pub(crate) fn into_reply(self, dialect: Dialect, request_id: &str) -> Reply {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut reply = Reply::json(status, &self.envelope(dialect, request_id));
        if status == StatusCode::TOO_MANY_REQUESTS {
            reply.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        reply
    }

    /// The message alone, for events that carry it outside an envelope.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The status alone, for events that carry it outside an envelope.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }
}

fn openai_type(status: u16) -> &'static str {
    match status {
        429 => "requests",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn openai_code(status: u16) -> Option<&'static str> {
    match status {
        401 => Some("invalid_api_key"),
        429 => Some("rate_limit_exceeded"),
        _ => None,
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn google_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

fn dashscope_code(status: u16) -> &'static str {
    match status {
        401 => "InvalidApiKey",
        403 => "AccessDenied",
        404 => "ModelNotFound",
        408 | 504 => "RequestTimeOut",
        429 => "Throttling.RateQuota",
        503 | 529 => "ServiceUnavailable",
        500.. => "InternalError",
        _ => "InvalidParameter",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_words_a_rate_limit_its_own_way() {
        let envelope = |dialect| Refusal::genuine(429, dialect).envelope(dialect, "id");
        assert_eq!(envelope(Dialect::OpenAi)["error"]["code"], "rate_limit_exceeded");
        assert_eq!(envelope(Dialect::Azure)["error"]["code"], "429");
        assert_eq!(envelope(Dialect::Anthropic)["error"]["type"], "rate_limit_error");
        assert_eq!(envelope(Dialect::Gemini)["error"]["status"], "RESOURCE_EXHAUSTED");
        assert_eq!(envelope(Dialect::DashScope)["code"], "Throttling.RateQuota");
    }

    #[test]
    fn a_rate_limit_says_when_to_come_back() {
        let reply = Refusal::genuine(429, Dialect::OpenAi).into_reply(Dialect::OpenAi, "id");
        assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &HeaderValue::from_static("1")));
    }
}

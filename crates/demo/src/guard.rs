//! Who may pass: exactly one credential, where the provider expects it, and nothing that a gateway must keep to itself.

use http::header::AUTHORIZATION;

use crate::call::Call;
use crate::refusal::Refusal;
use crate::route::{Dialect, Route};

/// Headers that carry a credential.
const CARRIERS: [&str; 4] = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];
/// Query parameters that carry a credential.
const CARRIER_PARAMETERS: [&str; 6] = ["key", "api-key", "access_token", "token", "rai_hash", "Authorization"];
/// Headers that tell a provider about the caller or the gateway (R-105 and `protocols.md` §1.1).
const PRIVATE: [&str; 17] = [
    "cookie",
    "openai-organization",
    "openai-project",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "forwarded",
    "via",
    "referer",
    "origin",
    "proxy-authorization",
];
const OWN_PREFIX: &str = "x-aiproxy-";

/// Lets a request pass that carries `key` and nothing else of that kind.
pub(crate) fn check(call: &Call<'_>, route: &Route<'_>, key: &str) -> Result<(), Refusal> {
    no_leak(call)?;
    let bearer = call.headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let header = |name: &str| call.headers.get(name).map(|value| value.as_bytes());
    // Azure's v1 surface takes its keys from plain OpenAI clients too.
    let is_plain_azure = call.path.starts_with("/openai/v1/");
    let presented = match route.dialect {
        Dialect::OpenAi | Dialect::DashScope => bearer,
        Dialect::Azure => header("api-key").or(bearer.filter(|_| is_plain_azure)),
        Dialect::Anthropic => header("x-api-key").or(bearer),
        Dialect::Gemini => header("x-goog-api-key"),
        Dialect::Vertex => bearer.or(header("x-goog-api-key")),
    };
    match presented {
        Some(presented) if presented == key.as_bytes() => Ok(()),
        Some(_) => Err(wrong_key(route.dialect)),
        None => Err(no_key(route.dialect)),
    }
}

fn no_leak(call: &Call<'_>) -> Result<(), Refusal> {
    let in_headers: usize = CARRIERS.iter().map(|name| call.headers.get_all(*name).iter().count()).sum();
    let in_query = call.query.iter().filter(|(name, _)| CARRIER_PARAMETERS.contains(&name.as_str())).count();
    if in_headers + in_query > 1 {
        return Err(leak("more than one credential reached the upstream".to_owned()));
    }
    let is_private = |name: &&str| PRIVATE.contains(name) || name.starts_with(OWN_PREFIX);
    match call.headers.keys().map(|name| name.as_str()).find(is_private) {
        Some(name) => Err(leak(format!("the header {name} reached the upstream"))),
        None => Ok(()),
    }
}

fn leak(message: String) -> Refusal {
    Refusal::new(400, message).code("leaked_header")
}

fn wrong_key(dialect: Dialect) -> Refusal {
    match dialect {
        // Google answers 400, not 401, to an API key that it does not know.
        Dialect::Gemini => Refusal::new(400, "API key not valid. Please pass a valid API key.").code("API_KEY_INVALID"),
        _ => Refusal::genuine(401, dialect),
    }
}

fn no_key(dialect: Dialect) -> Refusal {
    match dialect {
        Dialect::OpenAi => Refusal::new(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        ),
        Dialect::Anthropic => Refusal::new(401, "x-api-key header is required"),
        Dialect::Gemini => Refusal::new(
            403,
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.",
        ),
        Dialect::DashScope => Refusal::new(401, "No API-key provided."),
        Dialect::Azure | Dialect::Vertex => Refusal::genuine(401, dialect),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{KEY, get};

    const CHAT: &str = "/v1/models";
    const GEMINI: &str = "/v1beta/models";
    const AZURE: &str = "/openai/models";

    #[test]
    fn the_key_counts_only_where_the_provider_expects_it() {
        let bearer = format!("Bearer {KEY}");
        let bearer = bearer.as_str();
        for (path, name, value, status) in [
            (CHAT, "authorization", bearer, 200),
            (CHAT, "authorization", "Bearer pk_user1", 401),
            (CHAT, "x-api-key", KEY, 401),
            (CHAT, "accept", "*/*", 401),
            (GEMINI, "x-goog-api-key", KEY, 200),
            (GEMINI, "x-goog-api-key", "pk_user1", 400),
            (GEMINI, "authorization", bearer, 403),
            (AZURE, "api-key", KEY, 200),
            (AZURE, "authorization", bearer, 401),
            ("/openai/v1/models", "authorization", bearer, 200),
            ("/api/v1/tasks", "authorization", bearer, 200),
            ("/api/v1/tasks", "authorization", "Bearer wrong", 401),
        ] {
            assert_eq!(get(path, &[(name, value)]).status, status, "{path} {name}: {value}");
        }
    }

    #[test]
    fn anthropic_takes_either_header_but_not_both() {
        let bearer = format!("Bearer {KEY}");
        let version = ("anthropic-version", "2023-06-01");
        assert_eq!(get(CHAT, &[version, ("x-api-key", KEY)]).status, 200);
        assert_eq!(get(CHAT, &[version, ("authorization", &bearer)]).status, 200);
        let answer = get(CHAT, &[version, ("authorization", &bearer), ("x-api-key", KEY)]);
        assert_eq!(
            (answer.status, answer.json()["error"]["details"]["error_code"].as_str()),
            (400, Some("leaked_header"))
        );
    }

    #[test]
    fn leaks_are_refused_even_with_the_right_key() {
        let bearer = format!("Bearer {KEY}");
        for name in ["x-forwarded-for", "cookie", "openai-organization", "x-aiproxy-channel", "via"] {
            let answer = get(CHAT, &[("authorization", &bearer), (name, "x")]);
            assert_eq!(
                (answer.status, answer.json()["error"]["code"].as_str()),
                (400, Some("leaked_header")),
                "{name}"
            );
        }
        assert_eq!(get("/v1/models?key=pk_user1", &[("authorization", &bearer)]).status, 400);
    }

    #[test]
    fn the_answer_to_a_wrong_key_is_the_providers_and_does_not_repeat_it() {
        let answer = get(CHAT, &[("authorization", "Bearer pk_secret")]);
        assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
        assert!(!answer.text.contains("pk_secret"));
        let answer = get(GEMINI, &[("x-goog-api-key", "pk_secret")]);
        assert_eq!(answer.json()["error"]["details"][0]["reason"], "API_KEY_INVALID");
        let answer = get("/api/v1/tasks", &[("authorization", "Bearer pk_secret")]);
        assert_eq!(answer.json()["code"], "InvalidApiKey");
    }
}

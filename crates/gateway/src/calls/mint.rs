//! Client secrets are made here: a server asks with its proxy key, and hands what it gets to a browser. The provider never
//! hears of it. The session is checked now, so that the server learns what is wrong with it, and again when it is used.

use std::time::Duration;

use aiproxy_core::time;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::RealtimeCall;
use super::secrets::ClientSecret;
use super::session::{SESSION_LIMIT, Session, asked_for};
use crate::flow::CHANNEL_HEADER;
use crate::refusal::Refusal;
use crate::route::Candidate;

/// How many calls a secret may begin, as the server that asks for it wishes.
const MAX_CALLS_HEADER: &str = "x-aiproxy-max-calls";
/// Largest request: a session, and what stands around it.
const BODY_LIMIT: usize = 4 * SESSION_LIMIT;
/// How long a secret is valid, in seconds, as OpenAI has it.
const SHORTEST: u64 = 10;
const LONGEST: u64 = 7200;
const DEFAULT: u64 = 600;

/// What kind of secret is asked for: each has its own shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `client_secrets`: the session is a member.
    Current { is_translation: bool },
    /// `sessions` and `transcription_sessions`: the request is the session.
    Legacy { is_transcription: bool },
}

impl Form {
    fn of(path: &str) -> Self {
        let mut segments = path.rsplit('/').filter(|segment| !segment.is_empty());
        match segments.next() {
            Some("sessions") => Self::Legacy { is_transcription: false },
            Some("transcription_sessions") => Self::Legacy { is_transcription: true },
            _ => Self::Current { is_translation: segments.next() == Some("translations") },
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Current { is_translation: true } => "translation",
            Self::Legacy { is_transcription: true } => "transcription",
            _ => "realtime",
        }
    }

    fn object(self, session: &Session) -> &'static str {
        match session.members().get("type").and_then(Value::as_str) {
            Some("transcription") => "realtime.transcription_session",
            Some("translation") => "realtime.translation_session",
            _ => "realtime.session",
        }
    }
}

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Wish {
    session: Session,
    lifetime: u64,
}

impl Wish {
    fn read(form: Form, body: &[u8]) -> Result<Self, Refusal> {
        // A body is not required, nor is anything in it.
        let body = if body.is_empty() { b"{}" } else { body };
        let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
            return Err(Refusal::invalid_request("The request body is not a JSON object."));
        };
        let (session, expires_after) = match form {
            Form::Current { .. } => {
                let session = match members.remove("session") {
                    None | Some(Value::Null) => Map::new(),
                    Some(Value::Object(session)) => session,
                    Some(_) => return Err(Refusal::invalid_request("Invalid type for 'session': expected an object.")),
                };
                (session, members.remove("expires_after"))
            }
            Form::Legacy { .. } => {
                let secret = members.shift_remove("client_secret");
                let expires_after = secret.and_then(|mut secret| secret.get_mut("expires_after").map(Value::take));
                (members, expires_after)
            }
        };
        let lifetime = lifetime(expires_after.as_ref())?;
        let mut session = Session::new(session)?;
        session.default_kind(form.kind());
        Ok(Self { session, lifetime })
    }
}

fn lifetime(expires_after: Option<&Value>) -> Result<u64, Refusal> {
    let Some(expires_after) = expires_after.filter(|value| !value.is_null()) else { return Ok(DEFAULT) };
    let Value::Object(expires_after) = expires_after else {
        return Err(Refusal::invalid_request("Invalid type for 'expires_after': expected an object."));
    };
    if expires_after.get("anchor").is_some_and(|anchor| anchor != "created_at") {
        let message = "Invalid value for 'expires_after.anchor'. Supported values are: 'created_at'.";
        return Err(Refusal::invalid_request(message));
    }
    let seconds = match expires_after.get("seconds") {
        None => return Ok(DEFAULT),
        Some(seconds) => seconds,
    };
    let wrong = |what: String| Err(Refusal::invalid_request(format!("Invalid 'expires_after.seconds': {what}")));
    match (seconds.as_u64(), seconds.as_i64()) {
        (Some(seconds @ SHORTEST..=LONGEST), _) => Ok(seconds),
        (Some(seconds), _) if seconds > LONGEST => {
            wrong(format!("integer above maximum value. Expected a value <= {LONGEST}, but got {seconds} instead."))
        }
        (Some(_), _) | (None, Some(_)) => {
            wrong(format!("integer below minimum value. Expected a value >= {SHORTEST}, but got {seconds} instead."))
        }
        (None, None) => wrong("expected an integer.".to_owned()),
    }
}

/// How many calls a secret may begin: as the config says, or as the server wishes if that is less. 0 is any number.
fn most_calls(headers: &HeaderMap, allowed: u32) -> Result<u32, Refusal> {
    let Some(wish) = headers.get(MAX_CALLS_HEADER) else { return Ok(allowed) };
    let wish = wish.to_str().ok().and_then(|text| text.trim().parse::<u32>().ok());
    match (wish, allowed) {
        (None, _) => Err(Refusal::invalid_request("Invalid X-AIProxy-Max-Calls: expected a number; 0 is any number.")),
        (Some(0), allowed) => Ok(allowed),
        (Some(wish), 0) => Ok(wish),
        (Some(wish), allowed) => Ok(wish.min(allowed)),
    }
}

impl RealtimeCall<'_> {
    /// The answer to a server that asks for a secret.
    pub(super) async fn mint(mut self, channels: Vec<Candidate<'_>>) -> Result<Bytes, Refusal> {
        // The answer holds the secret itself, which is kept nowhere.
        self.record.capture = None;
        self.client_body.copy_to(None);
        let form = Form::of(self.parts.uri.path());
        let realtime = self.serving.system.realtime;
        let most_calls = most_calls(&self.parts.headers, realtime.secret_max_calls)?;
        let body = self.read_body(BODY_LIMIT).await?;
        let Wish { session, lifetime } = Wish::read(form, &body)?;
        self.record.model_asked = asked_for(&session);
        // Aliases are resolved when a call is made, by the channel that it goes to.
        session.clone().permit(&self.caller, self.route, channels)?;
        let channel = self.parts.headers.get(CHANNEL_HEADER).and_then(|value| value.to_str().ok()).map(Into::into);
        let stored = session.write()?.bytes;
        let expires_at = time::unix_ms() / 1000 + lifetime;
        let secret = ClientSecret::new(self.key, channel, stored, Duration::from_secs(lifetime), most_calls);
        let text = self.worker.gateway.calls.secrets.add(secret, realtime.max_secrets)?;
        Ok(answer(form, &session, &text, expires_at))
    }
}

fn answer(form: Form, session: &Session, secret: &str, expires_at: u64) -> Bytes {
    let mut told = Map::new();
    told.insert("id".into(), format!("sess_{:024x}", fastrand::u128(..) >> 32).into());
    told.insert("object".into(), form.object(session).into());
    told.extend(session.members().clone());
    let secret = json!({ "value": secret, "expires_at": expires_at });
    let answer = match form {
        Form::Current { .. } => {
            json!({ "value": secret["value"], "expires_at": expires_at, "session": told })
        }
        Form::Legacy { .. } => {
            told.insert("client_secret".into(), secret);
            Value::Object(told)
        }
    };
    answer.to_string().into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const CURRENT: Form = Form::Current { is_translation: false };
    const LEGACY: Form = Form::Legacy { is_transcription: false };

    fn lifetime_of(expires_after: Value) -> Result<u64, String> {
        let body = json!({ "expires_after": expires_after, "session": {"model": "m"} }).to_string();
        Wish::read(CURRENT, body.as_bytes()).map(|wish| wish.lifetime).map_err(|refusal| refusal.message.into_owned())
    }

    #[test]
    fn the_path_tells_which_form_is_spoken() {
        assert_eq!(Form::of("/v1/realtime/client_secrets"), CURRENT);
        assert_eq!(Form::of("/v1/realtime/sessions/"), LEGACY);
        assert_eq!(Form::of("/v1/realtime/transcription_sessions").kind(), "transcription");
        assert_eq!(Form::of("/v1/realtime/translations/client_secrets").kind(), "translation");
    }

    #[test]
    fn a_secret_is_valid_for_ten_seconds_to_two_hours() {
        assert_eq!(lifetime_of(json!({"anchor": "created_at", "seconds": 10})), Ok(10));
        assert_eq!(lifetime_of(json!({"seconds": 7200})), Ok(7200));
        assert_eq!(lifetime_of(json!({"anchor": "created_at"})), Ok(600));
        assert_eq!(lifetime_of(Value::Null), Ok(600));
        let below =
            "Invalid 'expires_after.seconds': integer below minimum value. Expected a value >= 10, but got 9 instead.";
        assert_eq!(lifetime_of(json!({"seconds": 9})), Err(below.to_owned()));
        assert!(lifetime_of(json!({"seconds": 7201})).unwrap_err().contains("above maximum"));
        assert!(lifetime_of(json!({"seconds": -1})).unwrap_err().contains("below minimum"));
        for wrong in [json!({"seconds": 60.5}), json!({"seconds": "60"}), json!({"anchor": "now"}), json!(60)] {
            assert!(lifetime_of(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_session_is_a_member_or_the_request_itself() {
        let current = Wish::read(CURRENT, br#"{"session":{"type":"transcription"}}"#).unwrap();
        assert_eq!(current.session.members()["type"], "transcription");
        let body = br#"{"model":"m","voice":"verse","client_secret":{"expires_after":{"seconds":30}}}"#;
        let legacy = Wish::read(LEGACY, body).unwrap();
        assert_eq!((legacy.lifetime, legacy.session.model()), (30, Some("m")));
        assert_eq!(legacy.session.write().unwrap().bytes, r#"{"model":"m","voice":"verse","type":"realtime"}"#);
        assert_eq!(Wish::read(CURRENT, b"").unwrap().session.write().unwrap().bytes, r#"{"type":"realtime"}"#);
        for wrong in ["[]", "{", r#"{"session":[]}"#, r#"{"session":{"model":7}}"#] {
            assert_eq!(Wish::read(CURRENT, wrong.as_bytes()).unwrap_err().code, "invalid_request", "{wrong}");
        }
    }

    #[test]
    fn a_server_may_ask_for_fewer_calls_than_the_config_allows_but_not_for_more() {
        let asked = |header: Option<&'static str>, allowed| {
            let headers = header.map(|value| (MAX_CALLS_HEADER.parse().unwrap(), HeaderValue::from_static(value)));
            most_calls(&headers.into_iter().collect(), allowed).map_err(|refusal| refusal.code)
        };
        for (header, allowed, expected) in
            [(None, 0, 0), (None, 3, 3), (Some("1"), 0, 1), (Some("1"), 3, 1), (Some("9"), 3, 3), (Some("0"), 3, 3)]
        {
            assert_eq!(asked(header, allowed), Ok(expected), "{header:?} {allowed}");
        }
        for wrong in ["", "-1", "one", "4294967296"] {
            assert_eq!(asked(Some(wrong), 0), Err("invalid_request"), "{wrong}");
        }
    }

    #[test]
    fn each_form_has_its_answer() {
        let session = Wish::read(CURRENT, br#"{"session":{"model":"m"}}"#).unwrap().session;
        let current: Value = serde_json::from_slice(&answer(CURRENT, &session, "ek_test", 60)).unwrap();
        assert_eq!((&current["value"], &current["expires_at"]), (&json!("ek_test"), &json!(60)));
        assert_eq!((&current["session"]["model"], &current["session"]["type"]), (&json!("m"), &json!("realtime")));
        let legacy: Value = serde_json::from_slice(&answer(LEGACY, &session, "ek_test", 60)).unwrap();
        assert_eq!(legacy["client_secret"], json!({"value": "ek_test", "expires_at": 60}));
        assert_eq!((&legacy["object"], &legacy["model"]), (&json!("realtime.session"), &json!("m")));
        assert!(legacy["id"].as_str().unwrap().starts_with("sess_"));
    }
}

//! `POST /realtime/calls` and what can be done with a call, and the secrets for browsers (`protocols.md` §5).
//!
//! The demo hands out ephemeral secrets as the provider does, but takes none: whoever stands before it must use the
//! standard key.

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use serde_json::{Value, json};

use crate::call::Call;
use crate::magic::Magic;
use crate::realtime::RealtimeSession;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::route::{Dialect, Route};
use crate::webrtc::{Calls, NoCall};

const LARGEST_OFFER: usize = 64 * 1024;
const SDP: &str = "application/sdp";
/// For secrets of sessions that name no model.
const DEFAULT_MODEL: &str = "gpt-realtime";
/// How long a secret is good for, in seconds: by default, at least and at most.
const LIFETIME: (u64, RangeInclusive<u64>) = (600, 10..=7200);
/// How long the secret of a legacy session is good for, in seconds.
const LEGACY_LIFETIME: u64 = 60;

/// Answers a POST below `realtime/`; `None` where nothing is.
pub(super) fn answer(call: &Call<'_>, route: &Route<'_>, calls: &Calls) -> Option<Result<Reply, Refusal>> {
    match route.tail {
        "realtime/calls" => Some(create(call, route.dialect, calls)),
        "realtime/client_secrets" => Some(client_secret(call)),
        "realtime/sessions" => Some(legacy_session(call)),
        tail => control(tail, calls),
    }
}

fn create(call: &Call<'_>, dialect: Dialect, calls: &Calls) -> Result<Reply, Refusal> {
    let Asked { offer, session } = asked(call)?;
    if offer.len() > LARGEST_OFFER {
        return Err(bad_offer("it is too long"));
    }
    let model = session.as_ref().and_then(|session| session["model"].as_str()).or(call.parameter("model"));
    let model = model.ok_or(Refusal::missing("session.model"))?;
    let magic = Magic::of(model);
    if let Some(refusal) = magic.refusal(model, dialect) {
        return Err(refusal);
    }
    let answered = calls.answer(offer, model, session.as_ref()).map_err(|error| match error {
        NoCall::BadOffer(reason) => bad_offer(&reason),
        NoCall::Busy => Refusal::genuine(503, dialect),
    })?;
    let mut reply = Reply::whole(StatusCode::CREATED, SDP, answered.sdp);
    let location = HeaderValue::try_from(format!("{}/{}", call.path, answered.id));
    reply.headers.extend(location.ok().map(|location| (LOCATION, location)));
    Ok(magic.spoil(reply, dialect, &call.request.to_string()))
}

/// What a call is asked for with.
struct Asked<'a> {
    offer: &'a str,
    session: Option<Value>,
}

/// Reads a form with the parts `sdp` and `session`, or an offer alone.
fn asked<'a>(call: &'a Call<'_>) -> Result<Asked<'a>, Refusal> {
    let content_type = call.header("content-type").unwrap_or_default();
    if content_type.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(SDP)) {
        let offer = std::str::from_utf8(&call.body).map_err(|_| bad_offer("it is not UTF-8"))?;
        return Ok(Asked { offer, session: None });
    }
    let form = call.form()?;
    let offer = form.text("sdp").ok_or(Refusal::missing("sdp"))?;
    let bad_session = || Refusal::new(400, "The session must be a JSON object of type 'realtime'.").param("session");
    let session = match form.text("session").map(serde_json::from_str::<Value>) {
        None => None,
        Some(Ok(session)) if session.is_object() && session["type"].as_str().unwrap_or("realtime") == "realtime" => {
            Some(session)
        }
        Some(_) => return Err(bad_session()),
    };
    Ok(Asked { offer, session })
}

fn bad_offer(reason: &str) -> Refusal {
    Refusal::new(400, format!("The SDP offer cannot be answered: {reason}.")).code("invalid_offer").param("sdp")
}

/// `realtime/calls/{id}/{verb}`.
fn control(tail: &str, calls: &Calls) -> Option<Result<Reply, Refusal>> {
    let (id, verb) = tail.strip_prefix("realtime/calls/")?.split_once('/')?;
    let is_known = match verb {
        "hangup" => calls.hang_up(id),
        "accept" | "reject" | "refer" => calls.contains(id),
        _ => return None,
    };
    let mut done = Reply::whole(StatusCode::OK, "text/plain", "");
    done.headers.remove(CONTENT_TYPE);
    Some(if is_known { Ok(done) } else { Err(no_call(id)) })
}

/// There is no call of this id (any more), or nobody may attach to it (yet).
pub(crate) fn no_call(id: &str) -> Refusal {
    Refusal::new(404, format!("No session found for call_id: {id}")).code("call_id_not_found").param("call_id")
}

fn client_secret(call: &Call<'_>) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let lifetime = match &body["expires_after"]["seconds"] {
        Value::Null => LIFETIME.0,
        seconds => seconds.as_u64().filter(|seconds| LIFETIME.1.contains(seconds)).ok_or_else(|| {
            let message = "'expires_after.seconds' must be an integer between 10 and 7200.";
            Refusal::new(400, message).param("expires_after.seconds")
        })?,
    };
    let session = session(&body["session"]);
    let answer = json!({"value": call.id("ek_demo_"), "expires_at": call.now + lifetime, "session": session});
    Ok(Reply::ok(&answer))
}

/// The beta's form: the session itself with the secret inside.
fn legacy_session(call: &Call<'_>) -> Result<Reply, Refusal> {
    let mut session = session(call.json()?);
    let secret = json!({"value": call.id("ek_demo_"), "expires_at": call.now + LEGACY_LIFETIME});
    session["client_secret"] = secret;
    Ok(Reply::ok(&session))
}

/// The session as the provider completes it: the one that its first event would show.
fn session(asked: &Value) -> Value {
    let model = asked["model"].as_str().unwrap_or(DEFAULT_MODEL);
    let opening = RealtimeSession::new(model, asked.is_object().then_some(asked)).opening();
    let session = opening.into_iter().next().map(|mut event| event["session"].take()).unwrap_or_default();
    if session.is_object() { session } else { json!({"type": "realtime", "model": model}) }
}

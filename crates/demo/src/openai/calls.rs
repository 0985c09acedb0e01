//! `POST /realtime/calls` and what can be done with a call, and the secrets for browsers (`protocols.md` §5).
//!
//! The demo hands out ephemeral secrets as the provider does, but takes none: whoever stands before it must use the
//! standard key.

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aiproxy_core::tasks::Tasks;
    use http::Method;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    use crate::testing::{Answered, KEY, post, send, upstream};
    use crate::webrtc::caller::Caller;
    use crate::{DemoUpstream, Options};

    const WAIT: Duration = Duration::from_secs(30);
    const FORM: &str = "multipart/form-data; boundary=X";

    fn form(offer: &str, session: &Value) -> String {
        let part = |name, media_type, value: &str| {
            let head = format!("Content-Disposition: form-data; name=\"{name}\"\r\nContent-Type: {media_type}");
            format!("--X\r\n{head}\r\n\r\n{value}\r\n")
        };
        let session = part("session", "application/json", &session.to_string());
        format!("{}{session}--X--\r\n", part("sdp", "application/sdp", offer))
    }

    fn send_to(upstream: &DemoUpstream, path: &str, key: &str, media_type: &str, body: String) -> Answered {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", media_type)];
        send(upstream, Method::POST, path, &headers, body.into_bytes())
    }

    fn create(upstream: &DemoUpstream, session: &Value, offer: &str) -> Answered {
        send_to(upstream, "/v1/realtime/calls", KEY, FORM, form(offer, session))
    }

    #[tokio::test]
    async fn a_call_is_made_over_http_and_hung_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tasks = Tasks::new();
        let options = Options { api_key: KEY.to_owned(), pace: Duration::from_millis(1) };
        tasks.spawn(crate::serve(listener, options, stopped));
        let post = async |path: &str, body: &str| {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let length = body.len();
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\ncontent-type: {FORM}\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            socket.write_all(head.as_bytes()).await.unwrap();
            let mut text = String::new();
            tokio::time::timeout(WAIT, socket.read_to_string(&mut text)).await.unwrap().unwrap();
            text
        };

        let (mut caller, offer) = Caller::new().await;
        let session = json!({"type": "realtime", "model": "demo-realtime"});
        let text = post("/v1/realtime/calls", &form(&offer, &session)).await;
        let (head, answer) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 201 Created") && head.contains("content-type: application/sdp"), "{head}");
        let location = head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        assert!(location.starts_with("/v1/realtime/calls/rtc_demo_"), "{location}");
        caller.take_answer(answer);
        caller.event("session.created").await;
        assert!(post(&format!("{location}/hangup"), "").await.starts_with("HTTP/1.1 200"));
        caller.until(|caller| caller.is_closed).await;

        let (mut caller, offer) = Caller::new().await;
        let text = post("/v1/realtime/calls", &form(&offer, &session)).await;
        caller.take_answer(text.split_once("\r\n\r\n").unwrap().1);
        caller.event("session.created").await;
        stop.send(()).unwrap();
        caller.until(|caller| caller.is_closed).await;
        assert!(tasks.finished_within(WAIT).await);
    }

    #[tokio::test]
    async fn an_offer_alone_names_its_model_in_the_query() {
        let upstream = upstream();
        let (_, offer) = Caller::new().await;
        let send = |path| send_to(&upstream, path, KEY, "application/sdp; charset=utf-8", offer.clone());
        let answer = send("/v1/realtime/calls?model=demo-realtime");
        assert_eq!((answer.status, answer.header("content-type")), (201, "application/sdp"));
        assert!(answer.text.starts_with("v=0\r\n"));
        assert_eq!(send("/v1/realtime/calls").json()["error"]["param"], "session.model");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_call_is_said_in_the_envelope() {
        let upstream = upstream();
        let (_, offer) = Caller::new().await;
        let session = |model: &str| json!({"type": "realtime", "model": model});
        for (session, offer, status, code, param) in [
            (session("demo-realtime"), "v=0", 400, json!("invalid_offer"), json!("sdp")),
            (session("demo-realtime"), &offer.repeat(50), 400, json!("invalid_offer"), json!("sdp")),
            (json!({"type": "realtime"}), &offer, 400, json!("missing_required_parameter"), json!("session.model")),
            (json!({"type": "else", "model": "m"}), &offer, 400, Value::Null, json!("session")),
            (json!([]), &offer, 400, Value::Null, json!("session")),
            (session("demo-error-429"), &offer, 429, json!("rate_limit_exceeded"), Value::Null),
            (session("demo-missing"), &offer, 404, json!("model_not_found"), Value::Null),
        ] {
            let answer = create(&upstream, &session, offer);
            let error = &answer.json()["error"];
            assert_eq!((answer.status, &error["code"], &error["param"]), (status, &code, &param), "{session} {error}");
        }
        let answer = send_to(&upstream, "/v1/realtime/calls", KEY, "application/json", "{}".to_owned());
        assert_eq!(answer.status, 400);
    }

    #[tokio::test]
    async fn a_call_can_be_controlled_until_it_is_hung_up() {
        let upstream = upstream();
        let (_, offer) = Caller::new().await;
        let answer = create(&upstream, &json!({"type": "realtime", "model": "demo-realtime"}), &offer);
        let id = answer.header("location").rsplit('/').next().unwrap().to_owned();
        let control = |verb: &str| {
            let path = format!("/v1/realtime/calls/{id}/{verb}");
            send_to(&upstream, &path, KEY, "application/json", String::new())
        };
        assert_eq!(["accept", "refer", "reject"].map(|verb| control(verb).status), [200; 3]);
        let answer = control("hangup");
        assert_eq!((answer.status, answer.text.as_str(), answer.header("content-type")), (200, "", ""));
        for verb in ["hangup", "accept", "refer", "reject"] {
            let answer = control(verb);
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("call_id_not_found")), "{verb}");
        }
        assert_eq!(control("else").json()["error"]["code"], "unknown_url");
    }

    #[tokio::test]
    async fn secrets_are_given_and_never_taken() {
        let session = json!({"type": "realtime", "model": "demo-realtime", "instructions": "Be brief."});
        let asked = json!({"expires_after": {"anchor": "created_at", "seconds": 10}, "session": session});
        let answer = post("/v1/realtime/client_secrets", &asked).json();
        let secret = answer["value"].as_str().unwrap();
        let left = answer["expires_at"].as_u64().unwrap() - aiproxy_core::time::unix_ms() / 1000;
        assert!(secret.starts_with("ek_demo_") && (5..=10).contains(&left), "{answer}");
        assert_eq!((&answer["session"]["model"], &answer["session"]["type"]), (&session["model"], &session["type"]));
        assert_eq!(answer["session"]["instructions"], "Be brief.");
        let bad = post("/v1/realtime/client_secrets", &json!({"expires_after": {"seconds": 7201}}));
        assert_eq!((bad.status, &bad.json()["error"]["param"]), (400, &json!("expires_after.seconds")));

        let legacy = post("/v1/realtime/sessions", &session).json();
        assert!(legacy["client_secret"]["value"].as_str().is_some_and(|value| value.starts_with("ek_demo_")));
        assert_eq!(legacy["model"], "demo-realtime");

        let (_, offer) = Caller::new().await;
        let answer = send_to(&upstream(), "/v1/realtime/calls", secret, FORM, form(&offer, &session));
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    }
}

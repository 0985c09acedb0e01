//! The session that a call begins with: a JSON object that names models. What is sent on is written anew from what was
//! read, so that a member that stands twice means the same to the provider as it does here.

use std::ops::Range;

use aiproxy_llm::peek::PeekedBody;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::asked;
use crate::permit::Caller;
use crate::record::bounded;
use crate::refusal::Refusal;
use crate::route::{self, Candidate};

/// Largest session.
pub(super) const SESSION_LIMIT: usize = 64 * 1024;
/// Longer names are no models.
const LONGEST_NAME: usize = 512;
/// Where the model stands that writes down what is said; the second is where it stood in the beta.
const TRANSCRIPTION: [&[&str]; 2] = [&["audio", "input", "transcription"], &["input_audio_transcription"]];

/// A session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Session(Map<String, Value>);

/// A session as it is sent.
#[derive(Debug)]
pub(super) struct WrittenSession {
    pub(super) bytes: Bytes,
    /// Where the value of `model` stands, quotes included.
    model_span: Option<Range<usize>>,
}

impl Session {
    /// Reads a session; a refusal if it is no JSON object, too large, or names something as a model that is no name.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > SESSION_LIMIT {
            return Err(too_large());
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(members)) => Self::new(members),
            _ => Err(Refusal::invalid_request("The session is not a JSON object.")),
        }
    }

    /// The session with these members.
    pub(super) fn new(members: Map<String, Value>) -> Result<Self, Refusal> {
        let session = Self(members);
        let names = [session.0.get("model"), session.transcription().and_then(|one| one.get("model"))];
        let is_name = |value: &Value| match value {
            Value::String(name) => (1..=LONGEST_NAME).contains(&name.len()),
            other => other.is_null(),
        };
        if names.into_iter().flatten().all(is_name) {
            Ok(session)
        } else {
            Err(Refusal::invalid_request("Invalid 'session.model': expected the name of a model."))
        }
    }

    /// The model that does the work.
    pub(super) fn model(&self) -> Option<&str> {
        let model = self.0.get("model").and_then(Value::as_str);
        // A session that only writes down what is said has no other.
        model.or_else(|| self.transcription_model().filter(|_| self.kind() == Some("transcription")))
    }

    /// The model that writes down what is said, beside the other or alone.
    pub(super) fn transcription_model(&self) -> Option<&str> {
        self.transcription()?.get("model")?.as_str()
    }

    fn transcription(&self) -> Option<&Map<String, Value>> {
        TRANSCRIPTION.iter().find_map(|path| {
            let (first, rest) = path.split_first()?;
            rest.iter().try_fold(self.0.get(*first)?, |value, key| value.get(key))?.as_object()
        })
    }

    fn kind(&self) -> Option<&str> {
        self.0.get("type").and_then(Value::as_str)
    }

    /// Says what kind of session it is, if it does not say so itself.
    pub(super) fn default_kind(&mut self, kind: &str) {
        if self.kind().is_none() {
            self.0.insert("type".into(), kind.into());
        }
    }

    /// Names the model, if none is named.
    pub(super) fn default_model(&mut self, model: &str) {
        if self.model().is_none() {
            self.0.insert("model".into(), model.into());
        }
    }

    /// Gives the transcription another model.
    fn rename_transcription(&mut self, model: &str) {
        for path in TRANSCRIPTION {
            let Some((first, rest)) = path.split_first() else { continue };
            let found = rest.iter().try_fold(self.0.get_mut(*first), |value, key| Some(value?.get_mut(*key)));
            if let Some(Some(Value::Object(transcription))) = found {
                transcription.insert("model".into(), model.into());
                return;
            }
        }
    }

    /// Whether the caller may use every model that is named, and the channels that serve them. A transcription's alias is
    /// resolved at once: only channels that agree about it are left. Nothing is asked of a channel that only has to write
    /// down what is said.
    pub(super) fn permit<'snapshot>(
        &mut self,
        caller: &Caller<'_>,
        route: &aiproxy_llm::dialect::Route<'_>,
        channels: Vec<Candidate<'snapshot>>,
    ) -> Result<Vec<Candidate<'snapshot>>, Refusal> {
        asked::permit_model(caller, self.model(), route, route::depends_on_model(&channels))?;
        let mut channels = route::serving(channels, self.model()).map_err(crate::flow::no_route)?;
        if let Some(model) = self.transcription_model().map(str::to_owned) {
            asked::permit_model(caller, Some(&model), route, false)?;
            let real = channels.first().and_then(|first| route::real_model(first.channel, &model));
            channels.retain(|candidate| route::real_model(candidate.channel, &model) == real);
            if let Some(real) = real {
                self.rename_transcription(real);
            }
        }
        Ok(channels)
    }

    /// The members.
    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// As it is sent or stored; a refusal if that is too large.
    pub(super) fn write(&self) -> Result<WrittenSession, Refusal> {
        let unwritable = |_| Refusal::invalid_request("The session is not a JSON object.");
        let mut bytes = Vec::with_capacity(256);
        let mut model_span = None;
        bytes.push(b'{');
        for (name, value) in &self.0 {
            if bytes.len() > 1 {
                bytes.push(b',');
            }
            serde_json::to_writer(&mut bytes, name).map_err(unwritable)?;
            bytes.push(b':');
            let start = bytes.len();
            serde_json::to_writer(&mut bytes, value).map_err(unwritable)?;
            if name == "model" && value.is_string() {
                model_span = Some(start..bytes.len());
            }
        }
        bytes.push(b'}');
        if bytes.len() > SESSION_LIMIT {
            return Err(too_large());
        }
        Ok(WrittenSession { bytes: bytes.into(), model_span })
    }
}

impl WrittenSession {
    /// What a body shows that has this session at `offset`: where an alias is to be resolved.
    pub(super) fn peeked(&self, offset: usize) -> PeekedBody {
        let model_span = self.model_span.as_ref().map(|span| offset + span.start..offset + span.end);
        PeekedBody { model_span, complete: true, ..PeekedBody::default() }
    }
}

fn too_large() -> Refusal {
    Refusal::invalid_request(format!("The session is larger than {SESSION_LIMIT} bytes."))
}

/// What a record says of the model that was asked for.
pub(super) fn asked_for(session: &Session) -> Option<Box<str>> {
    session.model().map(bounded)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn session(value: &Value) -> Session {
        Session::read(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_models_are_found_where_each_kind_of_session_has_them() {
        let both =
            session(&json!({"type": "realtime", "model": "m", "audio": {"input": {"transcription": {"model": "t"}}}}));
        assert_eq!((both.model(), both.transcription_model()), (Some("m"), Some("t")));
        let beta = session(&json!({"input_audio_transcription": {"model": "t"}}));
        assert_eq!((beta.model(), beta.transcription_model()), (None, Some("t")));
        let only = session(&json!({"type": "transcription", "audio": {"input": {"transcription": {"model": "t"}}}}));
        assert_eq!((only.model(), only.transcription_model()), (Some("t"), Some("t")));
        let none = session(&json!({"model": null, "audio": {"input": {"transcription": null}}}));
        assert_eq!((none.model(), none.transcription_model()), (None, None));
    }

    #[test]
    fn what_is_no_session_is_refused() {
        for wrong in ["", "[]", "\"x\"", "{", r#"{"model":1}"#, r#"{"model":""}"#, r#"{"model":["m"]}"#] {
            assert_eq!(Session::read(wrong.as_bytes()).unwrap_err().code, "invalid_request", "{wrong}");
        }
        let hidden = r#"{"audio":{"input":{"transcription":{"model":{}}}}}"#;
        assert_eq!(Session::read(hidden.as_bytes()).unwrap_err().code, "invalid_request");
        let large = json!({"instructions": "x".repeat(SESSION_LIMIT)}).to_string();
        assert!(Session::read(large.as_bytes()).unwrap_err().message.contains("larger"));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(Session::read(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_member_that_stands_twice_is_sent_once() {
        let session = Session::read(br#"{"model":"allowed","x":1,"mod\u0065l":"real"}"#).unwrap();
        assert_eq!(session.model(), Some("real"));
        assert_eq!(session.write().unwrap().bytes, r#"{"model":"real","x":1}"#);
    }

    #[test]
    fn the_place_of_the_model_is_told_for_whoever_resolves_an_alias() {
        let mut session = session(&json!({"instructions": "model", "voice": "é"}));
        session.default_kind("realtime");
        session.default_model("a\"b");
        session.default_model("other");
        session.default_kind("other");
        let written = session.write().unwrap();
        assert_eq!(
            written.bytes,
            r#"{"instructions":"model","voice":"é","type":"realtime","model":"a\"b"}"#.as_bytes()
        );
        let span = written.peeked(10).model_span.unwrap();
        assert_eq!(&written.bytes[span.start - 10..span.end - 10], br#""a\"b""#);
    }

    #[test]
    fn a_transcription_is_renamed_where_it_stands() {
        let mut session = session(&json!({"audio": {"input": {"transcription": {"language": "en", "model": "t"}}}}));
        session.rename_transcription("real");
        assert_eq!(session.transcription_model(), Some("real"));
        assert_eq!(session.0["audio"]["input"]["transcription"]["language"], "en");
    }
}

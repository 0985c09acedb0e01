//! What is sent to one target: the caller's request with the documented rewrites. Made anew for each attempt, because
//! each channel has its own paths, headers and names of models; the body's bytes are shared, never copied.

use std::borrow::Cow;

use aiproxy_config::snapshot::Snapshot;
use aiproxy_llm::dialect::{Operation, Route};
use aiproxy_llm::peek::{apply_edits, form_model_edit, model_edit, usage_injection};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::client_body::ClientBody;
use crate::request_body::{Peeked, PreparedBody};
use crate::request_head::{BodyFraming, RequestHead, UpgradeLines};
use crate::route::Target;
use crate::upstream::exchange::push_piece;
use crate::upstream_path::{upstream_path, websocket_path};

/// What is encoded of a model's name in a path: everything that would end its segment.
const MODEL_IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'/').add(b'?').add(b'#').add(b'%').add(b':');

/// What is encoded of a model's name in a query.
const MODEL_IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'&').add(b'#').add(b'%').add(b'+');

/// A caller's request, ready to be written for any target.
pub(crate) struct Outgoing<'call> {
    pub(crate) parts: &'call Parts,
    /// The path as the caller wrote it.
    pub(crate) path: &'call str,
    /// The query without credentials.
    pub(crate) query: Option<Cow<'call, str>>,
    pub(crate) route: &'call Route<'call>,
    pub(crate) prepared: PreparedBody,
    /// Whether the upstream is asked for usage that the caller did not ask for.
    pub(crate) asks_for_usage: bool,
    /// Whether the answer may be looked into before it is passed on, and so must come without content coding.
    pub(crate) looks_inside: bool,
    /// Our side of the handshake, if a socket is asked for.
    pub(crate) upgrade: Option<UpgradeLines>,
}

impl Outgoing<'_> {
    /// Whether `prepared` is a streamed chat that does not ask for its usage.
    pub(crate) fn lacks_usage(snapshot: &Snapshot, route: &Route<'_>, prepared: &PreparedBody) -> bool {
        let Peeked::Json(body) = &prepared.peeked else { return false };
        snapshot.system.usage_injection
            && route.operation == Operation::ChatCompletions
            && prepared.whole
            && usage_injection(body).is_some()
    }

    /// The request for `target`, head first, and whether the rest of the body goes behind it in chunked coding.
    pub(crate) fn request(&self, target: &Target<'_>, rest: &ClientBody) -> (Vec<Bytes>, bool) {
        let edited = self.edited(target.real_model);
        let pieces = edited.as_deref().unwrap_or(&self.prepared.pieces);
        let asked_path = with_real_model(self.path, self.route.model_in_path, target.real_model);
        let path = match self.upgrade {
            None => upstream_path(target.channel, target.endpoint, self.route.dialect, &asked_path),
            Some(_) => websocket_path(target.channel, target.endpoint, self.route.dialect, &asked_path),
        };
        let query = with_real_model_in_query(self.query.as_deref(), target.real_model);
        let head = RequestHead {
            method: &self.parts.method,
            path: &path,
            query: query.as_deref(),
            headers: &self.parts.headers,
            dialect: self.route.dialect,
            framing: framing(&self.parts.method, &self.parts.headers, self.prepared.whole, pieces, rest),
            identity: self.upgrade.is_none()
                && (self.asks_for_usage || self.looks_inside || target.real_model.is_some()),
            upgrade: self.upgrade.as_ref(),
        };
        let chunked = head.framing == BodyFraming::Chunked;
        let mut request = Vec::with_capacity(pieces.len() + 1);
        request.push(head.write(target.channel, target.credential, target.endpoint));
        pieces.iter().for_each(|piece| push_piece(&mut request, piece.clone(), chunked));
        (request, chunked)
    }

    /// The body with usage asked for and an alias resolved; `None` if it stays as it is.
    fn edited(&self, real_model: Option<&str>) -> Option<Vec<Bytes>> {
        let mut edits = Vec::new();
        match &self.prepared.peeked {
            Peeked::Json(body) => {
                if self.asks_for_usage {
                    edits.extend(usage_injection(body));
                }
                edits.extend(real_model.and_then(|real| model_edit(body, real)));
            }
            Peeked::Form(form) => edits.extend(real_model.and_then(|real| form_model_edit(form, real))),
            Peeked::Nothing => {}
        }
        (!edits.is_empty()).then(|| apply_edits(&edits, &self.prepared.pieces))
    }
}

/// The path with an alias in it resolved (Gemini, Azure and Bedrock name the model there).
fn with_real_model<'path>(path: &'path str, alias: Option<&str>, real_model: Option<&str>) -> Cow<'path, str> {
    let (Some(alias), Some(real)) = (alias, real_model) else { return path.into() };
    let encoded = utf8_percent_encode(real, MODEL_IN_PATH).to_string();
    // From the end: the model is the last segment that can look like this.
    match path.rfind(alias) {
        Some(start) => format!("{}{encoded}{}", &path[..start], &path[start + alias.len()..]).into(),
        None => path.into(),
    }
}

/// The query with an alias in it resolved (Realtime names the model there, Azure calls it `deployment`).
fn with_real_model_in_query<'query>(query: Option<&'query str>, real_model: Option<&str>) -> Option<Cow<'query, str>> {
    let query = query?;
    let Some(real) = real_model else { return Some(query.into()) };
    let names_model = |pair: &str| {
        let name = percent_decode_str(pair.split_once('=').map_or("", |(name, _)| name)).decode_utf8_lossy();
        ["model", "deployment"].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    if !query.split('&').any(names_model) {
        return Some(query.into());
    }
    let encoded = utf8_percent_encode(real, MODEL_IN_QUERY).to_string();
    let renamed = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if names_model(pair) => format!("{name}={encoded}"),
        _ => pair.to_string(),
    });
    Some(renamed.collect::<Vec<_>>().join("&").into())
}

fn framing(method: &Method, headers: &HeaderMap, whole: bool, pieces: &[Bytes], body: &ClientBody) -> BodyFraming {
    let held: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    if !whole {
        return body.declared_length().map_or(BodyFraming::Chunked, |rest| BodyFraming::Length(held + rest));
    }
    let expects_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    let announced = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    if held == 0 && !expects_body && !announced { BodyFraming::None } else { BodyFraming::Length(held) }
}

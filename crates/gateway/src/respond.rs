//! The way back: an upstream's response head becomes the caller's, and its body an [`Egress`].

use std::sync::Arc;

use aiproxy_llm::dialect::Route;
use aiproxy_llm::meter::{HideUsageChunk, Meter, MeterKind, RenameModel};
use aiproxy_llm::work::WorkIds;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header};

use crate::answer::{Answer, Rest};
use crate::capture;
use crate::egress::{Egress, EgressParts, GatewayBody, StreamErrors};
use crate::failover::Accepted;
use crate::headers;
use crate::health::{Claim, Mark};
use crate::metering::{Coding, Metering};
use crate::record::{End, OpenRecord, Record, bounded};
use crate::state::Worker;
use crate::upstream::pool::Connection;
use crate::upstream::response_head::Framing;

/// The answer of an upstream, and what the way back needs to know.
pub(crate) struct Answered {
    pub(crate) accepted: Box<Accepted>,
    /// Whether usage was asked for that the caller did not ask for.
    pub(crate) asks_for_usage: bool,
    /// Whether what the call makes exists in one of several accounts.
    pub(crate) remembers_work: bool,
}

/// Turns the upstream's response head into the caller's; the body follows by itself.
pub(crate) fn upstreams(
    worker: Arc<Worker>,
    route: &Route<'_>,
    answered: Answered,
    mut record: OpenRecord,
) -> Response<GatewayBody> {
    let Answered { accepted, asks_for_usage, remembers_work } = answered;
    let Accepted { answer: Answer { head, held, rest }, timer, authority, has_alias, claim, .. } = *accepted;
    let coding = Coding::of(head.headers.get(header::CONTENT_ENCODING));
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = MeterKind::of(route.operation, content_type);
    let is_sse = kind == MeterKind::Sse;
    let is_readable = head.status.is_success() && kind != MeterKind::Other && head.framing != Framing::Empty;
    let is_editable = is_readable && coding == Coding::Identity;
    let metering =
        if is_readable { Metering::boxed(Meter::new(route.dialect, route.operation, kind), coding) } else { None };
    let hide_usage_chunk = (asks_for_usage && is_sse && is_editable).then(HideUsageChunk::new);
    let asked = record.model_asked.as_deref().filter(|_| has_alias && is_editable);
    let rename_model = asked.and_then(|asked| RenameModel::new(route.dialect, route.operation, kind, asked));
    let stream_errors = (is_sse && coding == Coding::Identity)
        .then_some(StreamErrors { dialect: route.dialect, operation: route.operation });
    let work_ids = if remembers_work && is_editable { WorkIds::of(route, record.method.as_str(), kind) } else { None };

    // Of sound and pictures nobody can tell the tokens.
    record.is_estimable &= metering.is_some();
    record.status = head.status.as_u16();
    record.protocol = if is_sse { "sse" } else { "http" };
    record.upstream_request_id = head
        .headers
        .get("x-request-id")
        .or_else(|| head.headers.get("request-id"))
        .and_then(|value| value.to_str().ok())
        .map(bounded);

    capture::response_begins(&mut record, &head.headers);
    let mut returned = headers::returned(head.headers, &authority);
    let changes_length = hide_usage_chunk.is_some() || rename_model.is_some();
    if head.framing == Framing::Chunked || changes_length {
        returned.remove(header::CONTENT_LENGTH);
    }
    if is_sse {
        returned.insert(headers::X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        returned.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    }
    tell_of_call(&mut returned, &record);
    if head.framing == Framing::Empty {
        if record.method != Method::HEAD {
            returned.remove(header::CONTENT_LENGTH);
        }
        let connection = match rest {
            Rest::Ended(connection) => connection,
            Rest::Open(_) => None,
        };
        return without_body(&worker, head.status, returned, connection, claim, record);
    }
    let length = match head.framing {
        Framing::Length(length) if !changes_length => Some(length),
        _ => None,
    };
    let parts = EgressParts {
        held,
        rest,
        length,
        metering,
        hide_usage_chunk,
        rename_model,
        work_ids,
        stream_errors,
        timer,
        worker,
        claim,
        record,
    };
    let mut response = Response::new(GatewayBody::passing(Egress::new(parts)));
    *response.status_mut() = head.status;
    *response.headers_mut() = returned;
    response
}

/// Writes into the head of an upstream's answer what the gateway has to say of the call.
pub(crate) fn tell_of_call(headers: &mut HeaderMap, record: &Record) {
    if let Ok(id) = HeaderValue::from_str(record.id.encode(&mut [0; 36])) {
        headers.insert(headers::X_REQUEST_ID, id);
    }
    if let Some(warning) = record.quota_warning.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(headers::X_AIPROXY_QUOTA_WARNING, warning);
    }
}

/// An answer made here.
pub(crate) fn ours(body: Bytes, mut record: OpenRecord) -> Response<GatewayBody> {
    record.status = 200;
    record.end = End::Complete;
    record.response_bytes = body.len() as u64;
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(record.id.encode(&mut [0; 36])) {
        headers.insert(headers::X_REQUEST_ID, id);
    }
    let mut response = Response::new(GatewayBody::fixed(body, Some(record)));
    *response.headers_mut() = headers;
    response
}

/// The answer is complete with its head: the connection goes back at once.
fn without_body(
    worker: &Worker,
    status: http::StatusCode,
    headers: HeaderMap,
    connection: Option<Connection>,
    claim: Option<Claim>,
    mut record: OpenRecord,
) -> Response<GatewayBody> {
    if let Some(claim) = claim {
        record.report(claim, Mark::Healthy);
    }
    if let Some(connection) = connection {
        worker.pool.put(connection);
    }
    record.end = End::Complete;
    let mut response = Response::new(GatewayBody::fixed(Bytes::new(), Some(record)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

//! The response body on its way to the client: read from the upstream when the client's side asks for more, metered as
//! it passes, never gathered.
//!
//! The record travels in here. It is closed before the last byte goes out, so that a call whose end a client saw is in
//! the ledger; or when the body is dropped, because the client left or the upstream broke off.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aiproxy_llm::dialect::{Dialect, Operation};
use aiproxy_llm::error::{GatewayError, stream_error};
use aiproxy_llm::meter::{HideUsageChunk, RenameModel};
use aiproxy_llm::usage::UsageSource;
use aiproxy_llm::work::WorkIds;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::answer::Rest;
use crate::capture;
use crate::drain::{self, Place};
use crate::health::{Claim, Mark};
use crate::metering::Metering;
use crate::record::{End, OpenRecord, bounded};
use crate::state::Worker;
use crate::timer::CallTimer;
use crate::upstream::error::Phase;
use crate::upstream::response_body::{Piece, ResponseBody};
use crate::verdict::{Outcome, Terms, verdict};

/// The body of every response.
pub enum GatewayBody {
    /// Made here, whole; empty once it was taken.
    Fixed(Bytes),
    /// Made elsewhere, while it is sent.
    Streamed(mpsc::Receiver<io::Result<Bytes>>),
    /// Passing through from an upstream.
    Passing(Passing),
}

/// A body passing through, until its client leaves.
pub struct Passing(Option<Box<Egress>>);

impl GatewayBody {
    /// A body made here. It ends the call of `record`, if it belongs to one.
    pub fn fixed(data: Bytes, record: Option<OpenRecord>) -> Self {
        if let Some(mut record) = record {
            capture::response_made_here(&mut record, &data);
        }
        Self::Fixed(data)
    }

    /// A body that passes through.
    pub(crate) fn passing(egress: Egress) -> Self {
        Self::Passing(Passing(Some(Box::new(egress))))
    }
}

/// How an error is told to a client in the middle of an event stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamErrors {
    /// The caller's dialect.
    pub dialect: Dialect,
    /// The caller's operation.
    pub operation: Operation,
}

/// A body passing through.
pub struct Egress {
    upstream: Option<ResponseBody>,
    length: Option<u64>,
    metering: Option<Box<Metering>>,
    edits: Option<Box<Edits>>,
    /// What is stored of it is what the upstream sent: with the usage that the client does not see.
    stores_unedited: bool,
    work_ids: Option<Box<WorkIds>>,
    stream_errors: Option<StreamErrors>,
    ready: VecDeque<Bytes>,
    ended: bool,
    failed: Option<io::Error>,
    /// Whether hyper had a chance to flush before the error is given out.
    flushed: bool,
    timer: CallTimer,
    worker: Arc<Worker>,
    /// Reported at the end.
    claim: Option<Claim>,
    /// What the meter says about the upstream, if it saw an error.
    told: Option<Mark>,
    record: OpenRecord,
    is_closed: bool,
}

/// What is changed in a body on its way.
struct Edits {
    hide_usage_chunk: Option<HideUsageChunk>,
    rename_model: Option<RenameModel>,
    /// Where the first filter puts what may pass; empty between two reads.
    staged: Vec<Bytes>,
    /// The same for the second.
    renamed: Vec<Bytes>,
}

impl Edits {
    fn push(&mut self, data: Bytes, ready: &mut VecDeque<Bytes>) {
        match &mut self.hide_usage_chunk {
            Some(hide) => hide.push(data, &mut self.staged),
            None => self.staged.push(data),
        }
        self.pass_on(ready);
    }

    fn finish(mut self, ready: &mut VecDeque<Bytes>) {
        if let Some(mut hide) = self.hide_usage_chunk.take() {
            hide.finish(&mut self.staged);
        }
        self.pass_on(ready);
        if let Some(mut rename) = self.rename_model.take() {
            rename.finish(&mut self.renamed);
            ready.extend(self.renamed.drain(..));
        }
    }

    fn pass_on(&mut self, ready: &mut VecDeque<Bytes>) {
        match &mut self.rename_model {
            None => ready.extend(self.staged.drain(..)),
            Some(rename) => {
                self.staged.drain(..).for_each(|data| rename.push(data, &mut self.renamed));
                ready.extend(self.renamed.drain(..));
            }
        }
    }
}

/// What an [`Egress`] is made of.
pub(crate) struct EgressParts {
    /// What was read of the body already.
    pub held: Vec<Bytes>,
    /// The body as it comes.
    pub rest: Rest,
    /// Its length, if the response head says it and nothing is taken out.
    pub length: Option<u64>,
    /// Reads usage.
    pub metering: Option<Box<Metering>>,
    /// Takes the usage chunk out that the caller did not ask for.
    pub hide_usage_chunk: Option<HideUsageChunk>,
    /// Puts the name of the model in that the caller asked for.
    pub rename_model: Option<RenameModel>,
    /// Finds the ids of what this call made.
    pub work_ids: Option<WorkIds>,
    /// Set for event streams that errors can be written into.
    pub stream_errors: Option<StreamErrors>,
    /// Idle and total deadlines.
    pub timer: CallTimer,
    /// Takes the connection back.
    pub worker: Arc<Worker>,
    /// Told how the body ended.
    pub claim: Option<Claim>,
    /// The call's record.
    pub record: OpenRecord,
}

impl Egress {
    /// Starts the idle deadline.
    pub(crate) fn new(mut parts: EgressParts) -> Self {
        parts.timer.enter(Phase::Idle);
        let stores_unedited = parts.hide_usage_chunk.is_some();
        let has_edits = parts.hide_usage_chunk.is_some() || parts.rename_model.is_some();
        let (hide_usage_chunk, rename_model) = (parts.hide_usage_chunk, parts.rename_model);
        let edits = Edits { hide_usage_chunk, rename_model, staged: Vec::new(), renamed: Vec::new() };
        let mut egress = Self {
            upstream: None,
            length: parts.length,
            metering: parts.metering,
            stores_unedited,
            edits: has_edits.then(|| Box::new(edits)),
            work_ids: parts.work_ids.map(Box::new),
            stream_errors: parts.stream_errors,
            ready: VecDeque::new(),
            ended: false,
            failed: None,
            flushed: false,
            timer: parts.timer,
            worker: parts.worker,
            claim: parts.claim,
            told: None,
            record: parts.record,
            is_closed: false,
        };
        parts.held.into_iter().for_each(|data| egress.pass(data));
        match parts.rest {
            Rest::Open(upstream) => egress.upstream = Some(upstream),
            Rest::Ended(connection) => {
                if let Some(connection) = connection {
                    egress.worker.pool.put(connection);
                }
                egress.complete();
            }
        }
        egress
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                self.record.response_bytes += data.len() as u64;
                if let Some(capture) = self.record.capture.as_ref().filter(|_| !self.stores_unedited) {
                    capture.response(&data);
                }
                if self.ready.is_empty() && self.is_over() {
                    if !self.ended {
                        // The client was told that this is all.
                        self.record.end = End::Complete;
                    }
                    self.close();
                }
                return Poll::Ready(Some(Ok(data)));
            }
            if self.failed.is_some() {
                // The connection is cut by this error. What came before must have left by then: let hyper flush.
                if !self.flushed {
                    self.flushed = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.close();
                return Poll::Ready(self.failed.take().map(Err));
            }
            let Some(upstream) = &mut self.upstream else {
                self.close();
                return Poll::Ready(None);
            };
            match upstream.poll_piece(context) {
                Poll::Ready(Ok(Piece::Data(data))) => {
                    self.timer.enter(Phase::Idle);
                    self.pass(data);
                }
                Poll::Ready(Ok(Piece::Last(data, connection))) => {
                    self.pass(data);
                    self.upstream = None;
                    if let Some(connection) = connection {
                        self.worker.pool.put(connection);
                    }
                    self.complete();
                }
                Poll::Ready(Err(error)) => self.break_off(End::UpstreamError, "upstream_invalid", error),
                Poll::Pending => match self.timer.poll(context) {
                    Poll::Ready(phase) => {
                        let error = io::Error::new(io::ErrorKind::TimedOut, format!("{} timeout", phase.as_str()));
                        self.break_off(End::Timeout, "upstream_timeout", error);
                    }
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    /// Reads a piece that nobody gets, for its usage. False if it was the last.
    pub(crate) fn poll_unseen(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(false) };
        let piece = match upstream.poll_piece(context) {
            Poll::Ready(Ok(piece)) => piece,
            Poll::Ready(Err(_)) => return Poll::Ready(false),
            Poll::Pending => return self.timer.poll(context).map(|_| false),
        };
        self.timer.enter(Phase::Idle);
        let (data, is_last) = match piece {
            Piece::Data(data) => (data, false),
            Piece::Last(data, connection) => {
                if let Some(connection) = connection {
                    self.worker.pool.put(connection);
                }
                (data, true)
            }
        };
        self.look_at(&data);
        if is_last {
            self.upstream = None;
        }
        Poll::Ready(!is_last)
    }

    /// Closes the call with this end.
    pub(crate) fn leave(&mut self, end: End) {
        if !self.is_closed {
            self.record.end = end;
        }
        self.close();
    }

    /// Whether the client left before the end, and the rest may tell what was used.
    fn is_abandoned(&self) -> bool {
        !self.is_closed && !self.ended && self.upstream.is_some() && self.metering.is_some()
    }

    fn look_at(&mut self, data: &Bytes) {
        if let Some(metering) = &mut self.metering {
            metering.feed(data);
        }
        if let Some(ids) = &mut self.work_ids {
            let known = ids.ids().len();
            ids.feed(data);
            // At once: a client may ask for what a stream makes while that still runs.
            if ids.ids().len() > known {
                self.worker.gateway.works.remember(ids.ids(), &self.record);
            }
        }
    }

    fn pass(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.look_at(&data);
        if let Some(capture) = self.record.capture.as_ref().filter(|_| self.stores_unedited) {
            capture.response(&data);
        }
        match &mut self.edits {
            None => self.ready.push_back(data),
            Some(edits) => edits.push(data, &mut self.ready),
        }
    }

    fn complete(&mut self) {
        self.release_held_back();
        self.ended = true;
        self.record.end = End::Complete;
    }

    fn release_held_back(&mut self) {
        if let Some(edits) = self.edits.take() {
            edits.finish(&mut self.ready);
        }
    }

    /// The upstream broke off after the response began. Nothing is sent again: an event stream ends with an error
    /// event that the caller's SDK raises; any other body is cut, so that nobody takes it for whole.
    fn break_off(&mut self, end: End, code: &'static str, error: io::Error) {
        self.upstream = None;
        self.ended = true;
        self.record.end = end;
        self.record.error_code = Some(code);
        let why = bounded(&error.to_string());
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.why = Some(why);
        }
        match self.stream_errors {
            None => self.failed = Some(error),
            Some(StreamErrors { dialect, operation }) => {
                self.release_held_back();
                let (status, message) = match end {
                    End::Timeout => (504, "The upstream stopped sending (idle timeout)."),
                    _ => (502, "The upstream broke off in the middle of the answer."),
                };
                let id = self.record.id;
                let mut buffer = [0; 36];
                let error = GatewayError { status, code, message, request_id: id.encode(&mut buffer) };
                let event = stream_error(dialect, operation, error);
                if let Some(capture) = self.record.capture.as_ref().filter(|_| self.stores_unedited) {
                    capture.response(b"\n\n");
                    capture.response(&event);
                }
                // The upstream may have stopped inside an event: a blank line ends whatever was begun.
                self.ready.push_back(Bytes::from_static(b"\n\n"));
                self.ready.push_back(Bytes::from(event));
            }
        }
    }
}

impl Egress {
    /// Whether the client has everything with the bytes given out so far: the body has ended, or the event has passed
    /// that tells the client so.
    fn is_over(&self) -> bool {
        let is_stream = self.stream_errors.is_some();
        let is_terminated = || self.metering.as_ref().is_some_and(|metering| metering.is_terminated());
        self.failed.is_none() && (self.ended || is_stream && is_terminated())
    }

    /// Closes the call, once. What the upstream still does is of interest only for its health.
    fn close(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        if let Some(metering) = self.metering.take() {
            self.told = self.read_meter(metering);
        }
        if let Some(ids) = self.work_ids.take() {
            let ids = ids.finish();
            self.worker.gateway.works.remember(&ids, &self.record);
        }
        self.record.close();
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.close();
        let Some(claim) = self.claim.take() else { return };
        let mark = self.told.take().unwrap_or(match self.record.end {
            End::Complete => Mark::Healthy,
            End::UpstreamError | End::Timeout => Mark::Failure { hint: None },
            End::ClientClosed | End::Shutdown => Mark::Unknown,
        });
        self.record.report(claim, mark);
    }
}

impl Egress {
    /// Takes over what the meter saw. What it says about the upstream, if it saw an error.
    fn read_meter(&mut self, metering: Box<Metering>) -> Option<Mark> {
        let metered = metering.finish();
        if let Some(model) = metered.model {
            self.record.model_served = Some(bounded(&model));
        }
        self.record.usage_is_whole = metered.finished;
        if let Some(usage) = metered.usage {
            self.record.usage = Some(usage);
            self.record.usage_source = UsageSource::Provider;
        }
        self.record.usage_flaw = metered.flaws.first().map(|flaw| flaw.as_str());
        self.record.delivered_tokens = metered.delivered.output_tokens;
        let error = metered.error?;
        let mark = verdict(&Outcome::ErrorInSuccess(&error), Terms::default()).mark;
        // The bytes arrived whole, but what they say is that the upstream failed. Its words stay out of the record:
        // they may quote the prompt.
        if self.record.end == End::Complete {
            self.record.end = End::UpstreamError;
        }
        let why = error.code.or(error.kind).unwrap_or_else(|| "an error in a 200".to_string());
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.why.get_or_insert_with(|| bounded(&why));
        }
        Some(mark)
    }
}

impl Drop for Passing {
    /// What is left of an answer whose client is gone is read on, where that is asked for.
    fn drop(&mut self) {
        let Some(egress) = self.0.take_if(|egress| egress.is_abandoned()) else { return };
        let system = &egress.record.snapshot.system;
        let timeout = system.drain.timeout;
        if let Some(place) = Place::take(&egress.worker.gateway, system) {
            let tasks = egress.worker.tasks.clone();
            tasks.spawn(drain::read_on(egress, place, timeout));
        }
    }
}

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Fixed(data) if data.is_empty() => Poll::Ready(None),
            Self::Fixed(data) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(data))))),
            Self::Streamed(pieces) => pieces.poll_recv(context).map(|next| next.map(|piece| piece.map(Frame::data))),
            Self::Passing(Passing(Some(egress))) => {
                egress.poll_next(context).map(|next| next.map(|result| result.map(Frame::data)))
            }
            Self::Passing(Passing(None)) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Fixed(data) => data.is_empty(),
            Self::Streamed(_) => false,
            Self::Passing(Passing(None)) => true,
            Self::Passing(Passing(Some(egress))) => egress.ended && egress.ready.is_empty() && egress.failed.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Fixed(data) => SizeHint::with_exact(data.len() as u64),
            Self::Streamed(_) => SizeHint::new(),
            Self::Passing(Passing(egress)) => {
                let length = egress.as_ref().and_then(|egress| egress.length);
                length.map_or_else(SizeHint::new, SizeHint::with_exact)
            }
        }
    }
}

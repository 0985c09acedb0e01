//! What a socket is used for: which models its messages name, what it has used, and how it is told that it must end.
//!
//! No sockets here. The relay feeds it what passes and asks what to do with messages that name a model.

use std::sync::Arc;

use aiproxy_config::snapshot::{KeyDigest, ModelRule};
use aiproxy_core::time::Instant;
use aiproxy_llm::dialect::{Dialect, Operation};
use aiproxy_llm::error::GatewayError;
use aiproxy_llm::realtime::{
    ClientReader, ModelRole, Protocol, SessionMeter, Stance, Work, error_messages, read_client_message, rename,
};
use aiproxy_llm::websocket::Kind;

use crate::permit::Caller;
use crate::record::{Checkpoints, End, OpenRecord, bounded};
use crate::refusal::Refusal;
use crate::route;
use crate::serving::Serving;
use crate::state::Worker;

/// A socket's business.
pub(super) struct Session {
    worker: Arc<Worker>,
    pub(super) record: OpenRecord,
    key: KeyDigest,
    protocol: Protocol,
    dialect: Dialect,
    reader: Option<Box<ClientReader>>,
    meter: Option<Box<SessionMeter>>,
    checkpoints: Checkpoints,
    has_end: bool,
}

/// What becomes of a message that was held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is passed on as it came.
    Pass,
    /// This is sent instead.
    Send(Vec<u8>),
    /// It is not passed on. The client is told, and may go on.
    Refuse(Vec<String>),
    /// It is not passed on, and the socket ends: its dialect has no other way to say so.
    End(Refusal),
}

impl Session {
    /// A socket that was just opened. `is_metered`: not where something else counts what it uses.
    pub(super) fn new(
        worker: Arc<Worker>,
        record: OpenRecord,
        key: KeyDigest,
        operation: Operation,
        is_metered: bool,
    ) -> Self {
        let protocol = Protocol::of(operation);
        let asked = record.real_model.as_deref().or(record.model_asked.as_deref());
        let meter = (is_metered && protocol.is_read()).then(|| Box::new(SessionMeter::new(protocol, asked)));
        let reader = protocol.is_read().then(|| Box::new(ClientReader::new(protocol)));
        let dialect = record.dialect;
        Self {
            worker,
            record,
            key,
            protocol,
            dialect,
            reader,
            meter,
            checkpoints: Checkpoints::default(),
            has_end: false,
        }
    }

    /// Whether messages of this kind are looked at before they go upstream.
    pub(super) fn looks_at(&self, kind: Kind) -> bool {
        self.reader.is_some() && (kind == Kind::Text || self.protocol.reads_binary())
    }

    /// Looks at the next bytes of a client's message.
    pub(super) fn client_bytes(&mut self, bytes: &[u8]) -> Stance {
        self.reader.as_mut().map_or(Stance::Free, |reader| reader.feed(bytes))
    }

    /// A client's message has ended.
    pub(super) fn client_message_ended(&mut self) -> Stance {
        self.reader.as_mut().map_or(Stance::Free, |reader| reader.end())
    }

    /// Looks at the next bytes of an upstream's message.
    pub(super) fn upstream_bytes(&mut self, kind: Kind, bytes: &[u8]) {
        if let Some(meter) = &mut self.meter {
            meter.feed(kind, bytes);
        }
    }

    /// An upstream's message has ended: what it told of usage counts from now on.
    pub(super) fn upstream_message_ended(&mut self) {
        let Some(meter) = &mut self.meter else { return };
        if meter.end() {
            self.record.progress(meter.used());
            self.checkpoints.changed();
        }
    }

    /// Keeps the state on disk if it has changed and was not kept just now. When to ask again, if that is left to do.
    pub(super) fn keep(&mut self) -> Option<Instant> {
        if self.checkpoints.is_due() {
            self.take_over();
            self.record.checkpoint();
        }
        self.checkpoints.later()
    }

    /// Whether something is being made that will tell what it used.
    pub(super) fn has_open_work(&self) -> bool {
        self.meter.as_ref().is_some_and(|meter| meter.has_open_work())
    }

    /// What ends work that is going on.
    pub(super) fn cancel(&self) -> Vec<String> {
        self.meter.as_ref().map(|meter| meter.cancel()).unwrap_or_default()
    }

    /// What the client is told in messages of its dialect.
    pub(super) fn messages(&self, refusal: &Refusal) -> Vec<String> {
        let tasks = self.meter.as_ref().map(|meter| meter.open_tasks()).unwrap_or_default();
        self.messages_for(refusal, tasks)
    }

    fn messages_for(&self, refusal: &Refusal, tasks: &[String]) -> Vec<String> {
        let mut buffer = [0; 36];
        let error = GatewayError {
            status: refusal.status.as_u16(),
            code: refusal.code,
            message: &refusal.message,
            request_id: self.record.id.encode(&mut buffer),
        };
        error_messages(self.protocol, self.dialect, error, tasks)
    }

    /// Notes how the socket ends. The first reason counts.
    pub(super) fn ends(&mut self, end: End, code: Option<&'static str>) {
        if !std::mem::replace(&mut self.has_end, true) {
            self.record.end = end;
            self.record.error_code = code;
        }
    }

    /// Decides about a held message: may the key use what it names, and what does the channel call that?
    pub(super) fn decide(&mut self, text: &[u8]) -> Decision {
        let message = match read_client_message(self.protocol, text) {
            Ok(message) => message,
            Err(_) => {
                let message = "This message names what it asks for twice, or cannot be read as JSON.";
                return self.refuse(Refusal::invalid_request(message), &[]);
            }
        };
        let serving = self.worker.gateway.snapshot();
        let mut renames = Vec::with_capacity(message.models.len());
        for named in &message.models {
            match self.permit(&serving, &named.name, named.role == ModelRole::Main) {
                Ok(real) => renames.push(real),
                Err(refusal) => {
                    let task = match &message.work {
                        Some(Work::Begin { id: Some(id) }) => std::slice::from_ref(id),
                        _ => &[],
                    };
                    return self.refuse(refusal, task);
                }
            }
        }
        let main = message.models.iter().zip(&renames).find(|(named, _)| named.role == ModelRole::Main);
        let served = main.map(|(named, real)| real.as_deref().unwrap_or(&named.name).to_owned());
        if let Some((named, _)) = main
            && self.record.model_asked.is_none()
        {
            self.record.model_asked = Some(bounded(&named.name));
        }
        if let Some(meter) = &mut self.meter {
            meter.client_message(&message, served.as_deref());
        }
        if renames.iter().all(Option::is_none) {
            return Decision::Pass;
        }
        let names: Vec<Option<&str>> = renames.iter().map(Option::as_deref).collect();
        Decision::Send(rename(text, &message.models, &names))
    }

    fn refuse(&mut self, refusal: Refusal, task: &[String]) -> Decision {
        tracing::info!(request.id = %self.record.id, code = refusal.code, "a message was not passed on");
        let messages = self.messages_for(&refusal, task);
        if messages.is_empty() { Decision::End(refusal) } else { Decision::Refuse(messages) }
    }

    /// Whether it matters which models are named: the key is limited to some, or the channel serves or renames some.
    pub(super) fn is_restricted(&self) -> bool {
        let serving = self.worker.gateway.snapshot();
        let Some(key) = serving.keys.get(&self.key) else { return true };
        let id = self.record.channel_id().unwrap_or_default();
        let channel = serving.channel_by_id.get(id).and_then(|index| serving.channels.get(*index));
        Caller::of(&serving, key).is_limited_to_models() || channel.is_none_or(|channel| !channel.models.is_empty())
    }

    /// Whether the key may use `model` now, and what the channel calls it, where that is another name. The model that does the
    /// work must be one that the channel serves; one that only writes down what was said is the key's affair.
    fn permit(&self, serving: &Serving, model: &str, is_main: bool) -> Result<Option<String>, Refusal> {
        let key = serving.keys.get(&self.key).ok_or_else(Refusal::invalid_credential)?;
        if !Caller::of(serving, key).may_use(model) {
            return Err(Refusal::model_not_allowed(model));
        }
        let id = self.record.channel_id().unwrap_or_default();
        let channel = serving.channel_by_id.get(id).and_then(|index| serving.channels.get(*index));
        let channel = channel.ok_or_else(Refusal::no_channel)?;
        if is_main && !channel.models.is_empty() && !channel.models.iter().any(|rule| route::serves(rule, model)) {
            // What the channel itself calls it is what an SDK repeats from the session's own events.
            let is_real = |rule: &ModelRule| matches!(rule, ModelRule::Alias { real, .. } if **real == *model);
            return if channel.models.iter().any(is_real) { Ok(None) } else { Err(Refusal::model_not_served(model)) };
        }
        Ok(route::real_model(channel, model).map(str::to_owned))
    }

    /// Writes what the meter knows into the record.
    fn take_over(&mut self) {
        let Some(meter) = &self.meter else { return };
        if let Some(model) = meter.model() {
            self.record.model_served = Some(bounded(model));
        }
        self.record.usage_flaw = meter.flaw().map(|flaw| flaw.as_str());
        self.record.progress(meter.used());
    }
}

impl Drop for Session {
    /// However the socket ends, what it used is in its record.
    fn drop(&mut self) {
        self.take_over();
        self.record.close();
    }
}

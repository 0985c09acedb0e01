//! Reads what an upstream says on a realtime socket, and sums up what it reports as used: by response, task, turn or
//! session, each under the model that served it. It changes nothing, and of a message it keeps only the values that
//! count. It knows nothing of prices or of who pays.
//!
//! A message of OpenAI's family is known by its `type`, which stands at its beginning: behind an uninteresting one, as
//! of a piece of sound, no byte is looked at.

mod dashscope;
mod gemini;
mod openai;
mod scans;
mod totals;
mod units;

use crate::json_scan::{ScanStatus, decode_string};
use crate::meter::MeterError;
use crate::usage::{Usage, UsageFlaw};
use crate::websocket::Kind;

use super::values::kept_name;
use super::{ClientMessage, ModelRole, Protocol, Work};

use gemini::Turns;
use openai::Responses;
use scans::{Scans, plain_type};
use totals::Totals;
use units::Units;

/// What was used of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelUsage {
    /// The model as the provider names it, else as it was asked for. `None` if neither is known.
    pub model: Option<String>,
    /// The provider's own numbers, added up.
    pub usage: Usage,
    /// What it was used for. A model that was used for both is listed twice.
    pub role: ModelRole,
}

/// The meter of one socket.
#[derive(Clone, Debug)]
pub struct SessionMeter {
    protocol: Protocol,
    models: Models,
    totals: Totals,
    work: Open,
    error: Option<MeterError>,
    message: Message,
    /// Made with the first message that is looked into.
    scans: Option<Box<Scans>>,
}

/// The models that serve the session.
#[derive(Clone, Debug, Default)]
struct Models {
    asked: Option<String>,
    said: Option<String>,
    transcription: Option<String>,
}

impl Models {
    fn main(&self) -> Option<&str> {
        self.said.as_deref().or(self.asked.as_deref())
    }

    fn transcription(&self) -> Option<&str> {
        self.transcription.as_deref().or(self.main())
    }
}

/// What is being done, in the way of each protocol.
#[derive(Clone, Debug)]
enum Open {
    Responses(Box<Responses>),
    Tasks(Box<Units>),
    Turns(Box<Turns>),
    Unread,
}

/// What is known of the current message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// None has begun.
    None,
    /// Its type is not known yet.
    Sniffed,
    /// Its values are collected.
    Read(Event),
    /// Nothing in it counts.
    Ignored,
}

/// A message that counts, by what is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Every message is looked into, because no type says what it is.
    Any,
    /// Tells which models serve.
    Session,
    /// The same, of a session that begins.
    Started,
    Created,
    Done,
    Transcribed,
    /// Tells how long the session has lasted.
    Lasted,
    /// Holds another event.
    Wrapped,
    Error,
}

impl SessionMeter {
    /// A meter for a socket of `protocol` on which `model` was asked for in the handshake, if it was.
    #[must_use]
    pub fn new(protocol: Protocol, model: Option<&str>) -> Self {
        let work = match protocol {
            Protocol::Realtime | Protocol::Responses | Protocol::Live => Open::Responses(Box::default()),
            Protocol::DashscopeInference => Open::Tasks(Box::default()),
            Protocol::GeminiLive => Open::Turns(Box::default()),
            Protocol::Unread => Open::Unread,
        };
        Self {
            protocol,
            models: Models { asked: model.map(kept_name), ..Models::default() },
            totals: Totals::default(),
            work,
            error: None,
            message: Message::None,
            scans: None,
        }
    }

    /// A held client message was sent on. `served` is the upstream's name for the model that it asks for; of a message
    /// that names a main model and one for transcription, that of the main one. `None`: its own words stand.
    pub fn client_message(&mut self, message: &ClientMessage, served: Option<&str>) {
        let named =
            |role| message.models.iter().rev().find(|model| model.role == role).map(|model| model.name.as_str());
        let (main, transcription) = (named(ModelRole::Main), named(ModelRole::Transcription));
        if let Some(name) = main {
            self.models.asked = Some(kept_name(served.unwrap_or(name)));
        }
        if let Some(name) = transcription {
            let name = if main.is_none() { served.unwrap_or(name) } else { name };
            self.models.transcription = Some(kept_name(name));
        }
        if let (Open::Tasks(tasks), Some(Work::Begin { id })) = (&mut self.work, &message.work) {
            let model = main.and(self.models.asked.clone());
            tasks.begin(id.as_deref().unwrap_or_default(), model, &mut self.totals);
        }
    }

    /// Takes the next bytes of the current upstream message, split anywhere.
    pub fn feed(&mut self, kind: Kind, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.message == Message::None {
            self.message = self.begin(kind, bytes);
        }
        let mut rest = bytes;
        while self.message == Message::Sniffed && !rest.is_empty() {
            rest = self.sniff(rest);
        }
        if let (Message::Read(_), Some(scans)) = (self.message, &mut self.scans) {
            scans.values.feed(rest);
            if let Some(shape) = &mut scans.shape {
                shape.feed(rest);
            }
        }
    }

    /// What can be told from the first bytes of a message.
    fn begin(&mut self, kind: Kind, bytes: &[u8]) -> Message {
        let message = match &self.work {
            Open::Unread => Message::Ignored,
            Open::Tasks(_) if kind == Kind::Binary => Message::Ignored,
            Open::Tasks(_) | Open::Turns(_) => Message::Read(Event::Any),
            Open::Responses(_) => plain_type(bytes).map_or(Message::Sniffed, |name| self.message_of(name)),
        };
        if message != Message::Ignored {
            let protocol = self.protocol;
            self.scans.get_or_insert_with(|| Box::new(Scans::new(protocol))).reset();
        }
        message
    }

    /// Takes one piece of a message whose type is not known yet. The piece ends with a quote, so that the scanner never
    /// runs past the first type into a second one; returns what is left.
    fn sniff<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let length = memchr::memchr(b'"', bytes).map_or(bytes.len(), |quote| quote + 1);
        let (piece, rest) = bytes.split_at(length);
        let Some(scans) = &mut self.scans else { return rest };
        scans.values.feed(piece);
        if scans.values.status() == ScanStatus::Broken || scans.values.is_array() {
            self.message = Message::Ignored;
        } else if scans.values.captures().get(openai::TYPE).is_some() {
            let name = scans.values.captures().raw(openai::TYPE).and_then(decode_string).unwrap_or_default();
            self.message = self.message_of(name.as_bytes());
        }
        rest
    }

    fn message_of(&self, name: &[u8]) -> Message {
        openai::event(self.protocol, name).map_or(Message::Ignored, Message::Read)
    }

    /// The message has ended; the next bytes belong to another. True if what was used has changed.
    pub fn end(&mut self) -> bool {
        let message = std::mem::replace(&mut self.message, Message::None);
        let Message::Read(event) = message else { return false };
        let Some(scans) = self.scans.take() else { return false };
        self.totals.begin();
        if scans.values.status() == ScanStatus::Complete {
            self.observe(event, &scans);
        } else if scans.values.root_offset().is_some() {
            self.totals.note(UsageFlaw::Unreadable);
        }
        if !scans.is_large() {
            self.scans = Some(scans);
        }
        self.totals.has_changed()
    }

    fn observe(&mut self, event: Event, scans: &Scans) {
        let Self { protocol, models, totals, work, error, .. } = self;
        let captures = scans.values.captures();
        let told = match work {
            Open::Responses(responses) => {
                openai::observe_models(event, captures, models);
                responses.observe(*protocol, event, captures, models, totals);
                openai::error(event, captures)
            }
            Open::Tasks(tasks) => dashscope::observe(captures, tasks, models, totals),
            Open::Turns(turns) => match &scans.shape {
                Some(shape) => gemini::observe(captures, shape.captures(), turns, models, totals),
                None => None,
            },
            Open::Unread => None,
        };
        if told.is_some() {
            *error = told;
        }
    }

    /// All that was used so far, by model and role. What is still being done is there with its latest numbers.
    #[must_use]
    pub fn used(&self) -> &[ModelUsage] {
        self.totals.used()
    }

    /// The model that the provider says serves the session or served its latest response, else the one last asked for.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.models.main()
    }

    /// A response, a task or a turn is being made.
    #[must_use]
    pub fn has_open_work(&self) -> bool {
        match &self.work {
            Open::Responses(responses) => !responses.open().is_empty(),
            Open::Tasks(tasks) => !tasks.open().is_empty(),
            Open::Turns(turns) => turns.is_open(),
            Open::Unread => false,
        }
    }

    /// The ids of DashScope's running tasks, oldest first; at most 64. Empty for every other protocol.
    #[must_use]
    pub fn open_tasks(&self) -> &[String] {
        match &self.work {
            Open::Tasks(tasks) => tasks.open(),
            _ => &[],
        }
    }

    /// The first thing that was wrong with a report.
    #[must_use]
    pub fn flaw(&self) -> Option<UsageFlaw> {
        self.totals.flaw()
    }

    /// Texts to send to the upstream so that running work ends early and still tells its usage. Empty where nothing
    /// runs, or where the protocol has no such message.
    #[must_use]
    pub fn cancel(&self) -> Vec<String> {
        match &self.work {
            Open::Responses(responses) if self.protocol == Protocol::Realtime => openai::cancel(responses.open()),
            Open::Tasks(tasks) => dashscope::cancel(tasks.open()),
            _ => Vec::new(),
        }
    }

    /// The last error that the upstream told in a message, for the record. It need not have ended the session.
    #[must_use]
    pub fn error(&self) -> Option<&MeterError> {
        self.error.as_ref()
    }

    /// The model that writes down what the user says, as the session named it last.
    #[must_use]
    pub fn transcription_model(&self) -> Option<&str> {
        self.models.transcription.as_deref()
    }

    /// How many responses, transcriptions, tasks, turns or timed sessions have reported usage.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.totals.turns()
    }
}

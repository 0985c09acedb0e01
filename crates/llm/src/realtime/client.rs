//! Tells of each client message, while it arrives, whether it may name a model. Only those that may are held back; sound
//! and everything else streams on at once. It does not read the names: a held message is read when it is whole.
//!
//! What decides is a key at a known place: `type` for OpenAI, `header.action` for DashScope, the name of the only member
//! for Gemini. Were it to come twice, the upstream might obey the other one. So a message is looked through to its end,
//! and one with two of them is a contradiction; the same goes for text that is not JSON behind its first `{`, because
//! some servers read more than JSON (`NaN`, comments) and would find there what is not found here.

use crate::json_scan::{JsonScan, Path, ScanStatus, decode_string};

use super::Protocol;

/// Longer than any value that decides, written in escapes throughout.
const LONGEST_DECISION: usize = 256;

const TYPE: &[Path] = &[&["type"]];
const ACTION: &[Path] = &[&["header", "action"], &["header"]];
const MEMBERS: &[Path] = &[
    &["setup"],
    &["clientContent"],
    &["client_content"],
    &["realtimeInput"],
    &["realtime_input"],
    &["toolResponse"],
    &["tool_response"],
];
const MOST_PATHS: usize = MEMBERS.len();

/// Messages whose `type` allows them to name a model.
const NAMING_TYPES: [&str; 4] = ["response.create", "session.start", "session.update", "transcription_session.update"];
const NAMING_ACTION: &str = "run-task";

/// What is to be done with the current message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// Not known yet: more bytes are needed, and what has come must wait.
    Undecided,
    /// It names no model and may pass.
    Free,
    /// It may name a model: it must be whole before it passes, and be read with [`super::read_client_message`].
    Held,
    /// Different servers would read it differently: it must not reach the upstream, and what of it has passed must not
    /// be completed.
    Contradiction,
}

/// Reads the client's messages one after another.
#[derive(Clone, Debug)]
pub struct ClientReader {
    protocol: Protocol,
    stance: Stance,
    /// Made with the first message that needs it; a few hundred bytes.
    look: Option<Box<Look>>,
}

/// The message so far.
#[derive(Clone, Debug)]
struct Look {
    scan: JsonScan,
    /// Where the first value at each path stands.
    first: [Option<usize>; MOST_PATHS],
}

impl ClientReader {
    /// A reader of the messages that a client of `protocol` sends.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, stance: Stance::Undecided, look: None }
    }

    /// Takes the next bytes of the current message, unmasked, split anywhere, and says what to do with it. Once
    /// [`Stance::Free`] it stays so, unless it becomes a [`Stance::Contradiction`].
    pub fn feed(&mut self, bytes: &[u8]) -> Stance {
        let paths = match self.protocol {
            Protocol::Realtime | Protocol::Responses | Protocol::Live => TYPE,
            Protocol::DashscopeInference => ACTION,
            Protocol::GeminiLive => MEMBERS,
            Protocol::Unread => return Stance::Free,
        };
        let look = self.look.get_or_insert_with(|| {
            let scan = JsonScan::new(paths).with_capture_limit(LONGEST_DECISION);
            Box::new(Look { scan, first: [None; MOST_PATHS] })
        });
        let mut rest = bytes;
        // A key has two quotes: in a piece that ends at the first one, no two values can begin.
        while !rest.is_empty() && self.stance != Stance::Contradiction {
            let length = memchr::memchr(b'"', rest).map_or(rest.len(), |quote| quote + 1);
            let (piece, behind) = rest.split_at(length);
            rest = behind;
            look.scan.feed(piece);
            self.stance = look.next_stance(self.protocol, self.stance);
            if look.is_over() {
                break;
            }
        }
        self.stance
    }

    /// The message has ended; the next bytes belong to another. A message that is still undecided is no JSON object, or
    /// has nothing in it that decides: no server would know what to do with it, and it is [`Stance::Free`].
    pub fn end(&mut self) -> Stance {
        if let Some(look) = &mut self.look {
            look.scan.reset();
            look.first = [None; MOST_PATHS];
        }
        match std::mem::replace(&mut self.stance, Stance::Undecided) {
            Stance::Undecided => Stance::Free,
            stance => stance,
        }
    }
}

impl Look {
    /// No object, so that nothing of it can decide.
    fn is_over(&self) -> bool {
        self.scan.is_array() || self.scan.status() == ScanStatus::Broken
    }

    fn next_stance(&mut self, protocol: Protocol, stance: Stance) -> Stance {
        if self.is_over() {
            let is_object = self.scan.root_offset().is_some() && !self.scan.is_array();
            return if is_object { Stance::Contradiction } else { Stance::Free };
        }
        if self.has_second() {
            return Stance::Contradiction;
        }
        match stance {
            Stance::Undecided => self.decide(protocol),
            // Gemini: content came first and was let go, and now a setup begins.
            Stance::Free if protocol == Protocol::GeminiLive && self.scan.captures().so_far(0).is_some() => {
                Stance::Contradiction
            }
            stance => stance,
        }
    }

    /// Whether a second value has come where one was before.
    fn has_second(&mut self) -> bool {
        let captures = self.scan.captures();
        self.first.iter_mut().enumerate().any(|(index, first)| {
            let Some(capture) = captures.get(index) else { return false };
            *first.get_or_insert(capture.span.start) != capture.span.start
        })
    }

    fn decide(&self, protocol: Protocol) -> Stance {
        let captures = self.scan.captures();
        let says = |names: &[&str]| {
            let value = captures.raw(0).and_then(decode_string);
            if value.is_some_and(|value| names.contains(&value.as_str())) { Stance::Held } else { Stance::Free }
        };
        match protocol {
            Protocol::GeminiLive if captures.so_far(0).is_some() => Stance::Held,
            Protocol::GeminiLive if (1..MEMBERS.len()).any(|index| captures.so_far(index).is_some()) => Stance::Free,
            Protocol::GeminiLive => Stance::Undecided,
            Protocol::DashscopeInference if captures.get(0).is_some() => says(&[NAMING_ACTION]),
            Protocol::DashscopeInference if captures.get(1).is_some() => Stance::Free,
            Protocol::DashscopeInference => Stance::Undecided,
            _ if captures.get(0).is_some() => says(&NAMING_TYPES),
            _ => Stance::Undecided,
        }
    }
}

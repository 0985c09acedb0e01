//! What becomes of bytes that came from one peer: frames pass on to the other, control frames are taken out.
//!
//! A client's message that may name a model is held until that is known; everything else passes at once, byte for byte.

use std::cell::RefCell;
use std::task::Context;

use aiproxy_llm::realtime::Stance;
use aiproxy_llm::websocket::{Close, Control, Decoder, Kind, Opcode, Payload, Piece, Utf8Check, Violation};
use tokio::io::{AsyncRead, AsyncWrite};

use super::leg::Leg;
use super::session::{Decision, Session};
use crate::refusal::Refusal;

/// The longest message that is held to be looked at.
const HELD_LIMIT: usize = 1024 * 1024;
/// Policy violation, and a message too big to be handled (RFC 6455 §7.4.1).
const POLICY: u16 = 1008;
const TOO_BIG: u16 = 1009;

thread_local! {
    /// Where masked text is read.
    static UNMASKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a read brought besides frames that passed.
#[derive(Default)]
pub(super) struct Outcome {
    /// Answers to pings.
    pub(super) pongs: Vec<Box<[u8]>>,
    /// What the sender is told.
    pub(super) messages: Vec<String>,
    /// Its goodbye.
    pub(super) close: Option<Option<Close>>,
    /// Why nothing more may come from it.
    pub(super) stop: Option<Stop>,
}

/// Why reading from a peer cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It broke the rules of framing.
    Violation(Violation),
    /// Its message cannot be checked: the close code, and why.
    Unchecked(u16, &'static str),
    /// What it asked for is refused, and its dialect knows no other way to say so.
    Refused(Refusal),
}

impl Outcome {
    /// A control frame.
    fn control(&mut self, control: Control) {
        match control {
            Control::Ping(payload) => self.pongs.push(payload),
            Control::Pong(_) => {}
            Control::Close(close) => self.close = Some(close),
        }
    }
}

/// Takes bytes of an upstream: they go to the client, and the session sees them.
pub(super) fn from_upstream<C: AsyncRead + AsyncWrite + Unpin>(
    context: &mut Context<'_>,
    decoder: &mut Decoder,
    bytes: &[u8],
    client: &mut Leg<C>,
    session: &mut Session,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rest = bytes;
    // What was not passed on yet begins here.
    let mut from = 0;
    loop {
        let before = bytes.len() - rest.len();
        match decoder.next(&mut rest) {
            Ok(Some(Piece::Head(head))) => {
                if client.waits_for_frame_end() {
                    // Between two frames of this read: where much comes at once, no read may end there for long.
                    client.pass(context, &bytes[from..before]);
                    from = before;
                    client.stands(false, !head.starts_message());
                }
                client.pass(context, &head.wire()[..head.carried()]);
                if head.ends_frame() && head.ends_message() {
                    session.upstream_message_ended();
                }
            }
            Ok(Some(Piece::Payload(payload))) => {
                session.upstream_bytes(payload.kind, payload.wire);
                if payload.ends_frame && payload.ends_message {
                    session.upstream_message_ended();
                }
            }
            Ok(Some(Piece::Control(control))) => {
                client.pass(context, &bytes[from..before]);
                from = bytes.len() - rest.len();
                outcome.control(control);
            }
            Ok(None) => {
                client.pass(context, &bytes[from..before]);
                break;
            }
            Err(violation) => {
                client.pass(context, &bytes[from..before]);
                outcome.stop = Some(Stop::Violation(violation));
                break;
            }
        }
    }
    client.stands(!decoder.is_between_frames(), !decoder.is_between_messages());
    outcome
}

/// The client's current message.
#[derive(Default)]
pub(super) struct Incoming {
    kind: Option<Kind>,
    /// Whether it is looked at.
    is_seen: bool,
    /// Whether it is held still.
    is_held: bool,
    /// Frames held, as they came.
    wire: Vec<u8>,
    /// What they say.
    text: Vec<u8>,
    utf8: Utf8Check,
}

/// Takes bytes of a client: they go to the upstream, unless they may not.
pub(super) fn from_client<U: AsyncRead + AsyncWrite + Unpin>(
    context: &mut Context<'_>,
    decoder: &mut Decoder,
    bytes: &[u8],
    upstream: &mut Leg<U>,
    session: &mut Session,
    incoming: &mut Incoming,
) -> Outcome {
    let mut pump = ClientPump { bytes, from: 0, upstream, session, incoming, outcome: Outcome::default() };
    let mut rest = bytes;
    let mut is_cut = false;
    loop {
        let before = bytes.len() - rest.len();
        let piece = match decoder.next(&mut rest) {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                pump.pass_to(context, before);
                break;
            }
            Err(violation) => {
                pump.pass_to(context, before);
                pump.outcome.stop = Some(Stop::Violation(violation));
                break;
            }
        };
        let after = bytes.len() - rest.len();
        let taken = match piece {
            Piece::Head(head) => {
                if head.starts_message() || (pump.upstream.waits_for_frame_end() && !pump.incoming.is_held) {
                    pump.pass_to(context, before);
                    pump.upstream.stands(false, !head.starts_message());
                }
                if head.starts_message() {
                    pump.incoming.begin(head.kind(), pump.session.looks_at(head.kind()));
                }
                pump.pass(context, &head.wire()[..head.carried()]);
                if head.ends_frame() && head.ends_message() { pump.message_ended(context, after) } else { Ok(()) }
            }
            Piece::Payload(payload) => pump.payload(context, &payload).and_then(|()| {
                let is_end = payload.ends_frame && payload.ends_message;
                if is_end { pump.message_ended(context, after) } else { Ok(()) }
            }),
            Piece::Control(control) => {
                pump.pass_to(context, before);
                pump.from = after;
                pump.outcome.control(control);
                Ok(())
            }
        };
        if let Err(stop) = taken {
            // What was passed on of this message stays without its end: nobody can act on it.
            if !pump.incoming.is_held {
                pump.pass_to(context, before);
            }
            // What is refused was whole, and nothing of it was passed on.
            is_cut = !matches!(stop, Stop::Refused(_));
            pump.outcome.stop = Some(stop);
            break;
        }
    }
    let ClientPump { outcome, .. } = pump;
    if incoming.is_held {
        // Nothing of it was passed on, and all before it was whole.
        upstream.stands(false, false);
    } else if is_cut {
        // What the upstream has may end inside of a frame.
        upstream.stands(true, true);
    } else {
        upstream.stands(!decoder.is_between_frames(), !decoder.is_between_messages());
    }
    outcome
}

struct ClientPump<'read, U> {
    bytes: &'read [u8],
    /// What was not passed on yet begins here.
    from: usize,
    upstream: &'read mut Leg<U>,
    session: &'read mut Session,
    incoming: &'read mut Incoming,
    outcome: Outcome,
}

impl<U: AsyncRead + AsyncWrite + Unpin> ClientPump<'_, U> {
    /// Passes on what came up to `end`, or holds it.
    fn pass_to(&mut self, context: &mut Context<'_>, end: usize) {
        let wire = &self.bytes[self.from..end];
        self.from = end;
        self.pass(context, wire);
    }

    fn pass(&mut self, context: &mut Context<'_>, wire: &[u8]) {
        if self.incoming.is_held {
            self.incoming.wire.extend_from_slice(wire);
        } else {
            self.upstream.pass(context, wire);
        }
    }

    fn payload(&mut self, context: &mut Context<'_>, payload: &Payload<'_>) -> Result<(), Stop> {
        if payload.kind == Kind::Binary && !self.incoming.is_seen {
            return Ok(());
        }
        UNMASKED.with_borrow_mut(|scratch| {
            let text = payload.unmask_into(scratch);
            if payload.kind == Kind::Text && !self.incoming.utf8.feed(text) {
                return Err(Stop::Violation(Violation::NotUtf8));
            }
            if !self.incoming.is_seen {
                return Ok(());
            }
            match self.session.client_bytes(text) {
                Stance::Contradiction => Err(contradiction()),
                Stance::Free => {
                    self.release(context);
                    Ok(())
                }
                Stance::Undecided | Stance::Held => self.hold(context, text),
            }
        })
    }

    /// The message has ended with what came up to `end`.
    fn message_ended(&mut self, context: &mut Context<'_>, end: usize) -> Result<(), Stop> {
        if self.incoming.kind == Some(Kind::Text) && !self.incoming.utf8.is_whole() {
            return Err(Stop::Violation(Violation::NotUtf8));
        }
        if !self.incoming.is_seen {
            return Ok(());
        }
        let stance = self.session.client_message_ended();
        match stance {
            Stance::Contradiction => return Err(contradiction()),
            Stance::Held if self.incoming.is_held => {}
            _ => {
                self.release(context);
                return Ok(());
            }
        }
        match self.session.decide(&self.incoming.text) {
            Decision::Pass => self.release(context),
            Decision::Send(message) => {
                self.drop_held(end);
                let opcode = if self.incoming.kind == Some(Kind::Binary) { Opcode::Binary } else { Opcode::Text };
                self.upstream.stands(false, false);
                self.upstream.replace(opcode, &message);
            }
            Decision::Refuse(messages) => {
                self.drop_held(end);
                self.outcome.messages.extend(messages);
            }
            Decision::End(refusal) => return Err(Stop::Refused(refusal)),
        }
        Ok(())
    }

    /// Holds more of the message. A longer one than that passes where every model may be named, and ends the socket where
    /// it would have to be checked.
    fn hold(&mut self, context: &mut Context<'_>, text: &[u8]) -> Result<(), Stop> {
        if !self.incoming.is_held {
            return Ok(());
        }
        if self.incoming.text.len() + text.len() <= HELD_LIMIT {
            self.incoming.text.extend_from_slice(text);
            return Ok(());
        }
        if self.session.is_restricted() {
            return Err(Stop::Unchecked(TOO_BIG, "The message is too large to be checked for its model (1 MiB)."));
        }
        self.release(context);
        Ok(())
    }

    /// What was held of the message goes on its way, and the rest follows as it comes.
    fn release(&mut self, context: &mut Context<'_>) {
        if std::mem::replace(&mut self.incoming.is_held, false) {
            self.incoming.text = Vec::new();
            let wire = std::mem::take(&mut self.incoming.wire);
            self.upstream.pass(context, &wire);
        }
    }

    /// What was held goes nowhere.
    fn drop_held(&mut self, end: usize) {
        self.from = end;
        self.incoming.is_held = false;
        self.incoming.wire = Vec::new();
        self.incoming.text = Vec::new();
    }
}

impl Incoming {
    fn begin(&mut self, kind: Kind, is_seen: bool) {
        self.kind = Some(kind);
        self.is_seen = is_seen;
        self.is_held = is_seen;
        self.utf8.reset();
    }
}

fn contradiction() -> Stop {
    Stop::Unchecked(POLICY, "The message says twice what it is.")
}

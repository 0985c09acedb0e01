//! One direction of one socket, taken apart. It keeps a head that is cut and a control frame that is cut, and counts;
//! the payload of data frames never passes through it.

use super::control::Control;
use super::head::{Head, HeadBytes};
use super::payload::Payload;
use super::{Kind, Opcode, Piece, Sender, Violation};

/// A message in more fragments than this is a flood if they are small.
const MANY_FRAGMENTS: u64 = 16_384;

/// Fragments are small if they are below this on average, in bytes.
const SMALL_FRAGMENT: u64 = 64;

/// Takes the frames of one side apart (RFC 6455 §5), cut anywhere. It is about a hundred bytes, and allocates only for
/// the payload of a control frame.
#[derive(Clone, Debug)]
pub struct Decoder {
    sender: Sender,
    /// What the message that is open consists of; nothing between messages.
    message: Option<Kind>,
    state: State,
    head: HeadBytes,
    message_limit: u64,
    /// The bytes and frames of the open message, counted as their heads announce them.
    message_length: u64,
    fragments: u64,
    /// What has come of a control frame's payload, still masked.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before or inside a head.
    Head,
    /// Inside the payload of a data frame.
    Payload { kind: Kind, ends_message: bool, mask: Option<[u8; 4]>, offset: u64, length: u64 },
    /// Inside the payload of a control frame.
    Control { opcode: Opcode, mask: Option<[u8; 4]>, length: usize },
    /// Behind a close frame: what follows has no meaning (RFC 6455 §1.4, §5.5.1).
    Closed,
    /// Behind a violation, which is told again.
    Broken(Violation),
}

impl Decoder {
    /// A decoder for the frames of `sender` that refuses messages longer than `message_limit` bytes, the payloads of all
    /// fragments together.
    #[must_use]
    pub const fn new(sender: Sender, message_limit: u64) -> Self {
        Self {
            sender,
            message: None,
            state: State::Head,
            head: HeadBytes::new(),
            message_limit,
            message_length: 0,
            fragments: 0,
            control: Vec::new(),
        }
    }

    /// The next piece of `bytes`, which is advanced past it; nothing if more bytes are needed, and all of `bytes` was
    /// taken then. Behind a close frame all bytes are taken and dropped.
    ///
    /// # Errors
    ///
    /// What the sender did wrong, as soon as it shows: a length at the head, before any payload. It is told again from
    /// then on, and what is left of `bytes` has no meaning.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Violation> {
        let next = match self.state {
            State::Head => self.next_head(bytes),
            State::Payload { kind, ends_message, mask, offset, length } => {
                if bytes.is_empty() {
                    return Ok(None);
                }
                let left = length.saturating_sub(offset);
                let size = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let (wire, rest) = bytes.split_at(size);
                *bytes = rest;
                let end = offset.saturating_add(size as u64);
                let ends_frame = end >= length;
                if ends_frame {
                    self.end_frame(ends_message);
                } else {
                    self.state = State::Payload { kind, ends_message, mask, offset: end, length };
                }
                Ok(Some(Piece::Payload(Payload { wire, offset, mask, kind, ends_frame, ends_message })))
            }
            State::Control { opcode, mask, length } => self.next_control(opcode, mask, length, bytes),
            State::Closed => {
                *bytes = &[];
                Ok(None)
            }
            State::Broken(violation) => Err(violation),
        };
        if let Err(violation) = &next {
            self.state = State::Broken(*violation);
        }
        next
    }

    /// Between two frames: of none a part has been handed out and the rest not. A head or a control frame that is cut
    /// has not been handed out, so a frame of another origin may be sent now (RFC 6455 §5.4).
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        !matches!(self.state, State::Payload { .. })
    }

    /// Between two messages: between two frames, and no fragmented message is open.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.message.is_none()
    }

    fn next_head<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Violation> {
        let carried = self.head.size();
        if !self.head.fill(bytes, self.sender, self.message.is_some())? {
            return Ok(None);
        }
        let head = std::mem::replace(&mut self.head, HeadBytes::new());
        let (mask, length) = (head.mask(), head.length());
        let opcode = head.opcode().ok_or(Violation::ReservedOpcode)?;
        let kind = match opcode {
            Opcode::Text => Kind::Text,
            Opcode::Binary => Kind::Binary,
            Opcode::Continuation => self.message.ok_or(Violation::UnexpectedContinuation)?,
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                let length = usize::try_from(length).map_err(|_| Violation::ControlTooLong)?;
                return self.next_control(opcode, mask, length, bytes);
            }
        };
        if opcode != Opcode::Continuation {
            (self.message_length, self.fragments) = (0, 0);
        }
        self.count(length)?;
        self.message = Some(kind);
        let ends_message = head.is_final();
        if length == 0 {
            self.end_frame(ends_message);
        } else {
            self.state = State::Payload { kind, ends_message, mask, offset: 0, length };
        }
        Ok(Some(Piece::Head(Head::new(head, carried, kind))))
    }

    fn count(&mut self, length: u64) -> Result<(), Violation> {
        self.message_length = self.message_length.saturating_add(length);
        self.fragments = self.fragments.saturating_add(1);
        if self.message_length > self.message_limit {
            return Err(Violation::MessageTooBig);
        }
        if self.fragments > MANY_FRAGMENTS && self.message_length / self.fragments < SMALL_FRAGMENT {
            return Err(Violation::TooManyFragments);
        }
        Ok(())
    }

    fn end_frame(&mut self, ends_message: bool) {
        self.state = State::Head;
        if ends_message {
            self.message = None;
        }
    }

    fn next_control<'a>(
        &mut self,
        opcode: Opcode,
        mask: Option<[u8; 4]>,
        length: usize,
        bytes: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, Violation> {
        let missing = length.saturating_sub(self.control.len());
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        *bytes = rest;
        if taken.len() < missing {
            if !taken.is_empty() {
                self.control.reserve_exact(missing);
                self.control.extend_from_slice(taken);
            }
            self.state = State::Control { opcode, mask, length };
            return Ok(None);
        }
        let mut payload = std::mem::take(&mut self.control);
        payload.reserve_exact(missing);
        payload.extend_from_slice(taken);
        let control = Control::read(opcode, payload, mask)?;
        self.state = if matches!(control, Control::Close(_)) { State::Closed } else { State::Head };
        Ok(Some(Piece::Control(control)))
    }
}

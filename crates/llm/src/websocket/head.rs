//! The head of a frame: 2 to 14 bytes before the payload (RFC 6455 §5.2). It is judged byte by byte as it comes, so that
//! a head which cannot be valid is refused at once and the same way wherever it is cut.

use super::{Kind, Opcode, Sender, Violation};

/// Two bytes, eight of length, four of mask.
const LONGEST: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// The length stands in the next two bytes.
const TWO_BYTES: u8 = 126;
/// The length stands in the next eight bytes.
const EIGHT_BYTES: u8 = 127;

/// The head of a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    bytes: HeadBytes,
    carried: u8,
    kind: Kind,
}

impl Head {
    pub(super) const fn new(bytes: HeadBytes, carried: u8, kind: Kind) -> Self {
        Self { bytes, carried, kind }
    }

    /// Its 2 to 14 bytes exactly as they came.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        self.bytes.wire()
    }

    /// How many of these bytes came in an earlier `bytes` of [`super::Decoder::next`], from its first byte on. The
    /// others stand in the present `bytes`, directly before what is left of them.
    #[must_use]
    pub fn carried(&self) -> usize {
        usize::from(self.carried)
    }

    /// What the message is, also if this frame is a continuation.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// It is the first or only frame of its message.
    #[must_use]
    pub fn starts_message(&self) -> bool {
        self.bytes.opcode() != Some(Opcode::Continuation)
    }

    /// It is the last or only frame of its message: FIN is set.
    #[must_use]
    pub fn ends_message(&self) -> bool {
        self.bytes.is_final()
    }

    /// It is the whole frame: no payload follows.
    #[must_use]
    pub fn ends_frame(&self) -> bool {
        self.length() == 0
    }

    /// How many bytes of payload follow.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.bytes.length()
    }

    /// The key the payload is masked with, if it is.
    #[must_use]
    pub fn mask(&self) -> Option<[u8; 4]> {
        self.bytes.mask()
    }
}

/// The bytes of the head of any frame, from the first that came to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadBytes {
    bytes: [u8; LONGEST],
    size: u8,
}

impl HeadBytes {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; LONGEST], size: 0 }
    }

    /// Takes what is missing from `bytes`; true if the head is whole then. `in_message` tells that a fragmented message
    /// is open.
    pub(super) fn fill(&mut self, bytes: &mut &[u8], sender: Sender, in_message: bool) -> Result<bool, Violation> {
        loop {
            let size = usize::from(self.size);
            let missing = self.needed(sender, in_message)?.saturating_sub(size);
            if missing == 0 {
                return Ok(true);
            }
            let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
            if taken.is_empty() {
                return Ok(false);
            }
            for (place, byte) in self.bytes.iter_mut().skip(size).zip(taken) {
                *place = *byte;
                self.size += 1;
            }
            *bytes = rest;
        }
    }

    /// How long the head is as far as can be told by now, if nothing is wrong with it so far.
    fn needed(&self, sender: Sender, in_message: bool) -> Result<usize, Violation> {
        let Some(first) = self.wire().first() else { return Ok(2) };
        if first & RESERVED != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::from_bits(*first).ok_or(Violation::ReservedOpcode)?;
        match opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong if first & FIN == 0 => {
                return Err(Violation::ControlFragmented);
            }
            Opcode::Continuation if !in_message => return Err(Violation::UnexpectedContinuation),
            Opcode::Text | Opcode::Binary if in_message => return Err(Violation::InterruptedMessage),
            _ => {}
        }

        let Some(second) = self.wire().get(1) else { return Ok(2) };
        let key = match (sender, second & MASKED != 0) {
            (Sender::Client, true) => 4,
            (Sender::Server, false) => 0,
            (Sender::Client, false) => return Err(Violation::Unmasked),
            (Sender::Server, true) => return Err(Violation::Masked),
        };
        // The longest length of each form that the next shorter one could have told as well.
        let (extended, too_short) = match second & LENGTH {
            TWO_BYTES => (2, 125),
            EIGHT_BYTES => (8, u64::from(u16::MAX)),
            _ => return Ok(2 + key),
        };
        if opcode.is_control() {
            return Err(Violation::ControlTooLong);
        }
        if self.wire().len() >= 2 + extended && !(too_short + 1..1 << 63).contains(&self.length()) {
            return Err(Violation::LengthTooBig);
        }
        Ok(2 + extended + key)
    }

    fn wire(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.size)).unwrap_or_default()
    }

    pub(super) const fn size(&self) -> u8 {
        self.size
    }

    pub(super) fn opcode(&self) -> Option<Opcode> {
        Opcode::from_bits(self.bytes[0])
    }

    pub(super) const fn is_final(&self) -> bool {
        self.bytes[0] & FIN != 0
    }

    pub(super) const fn length(&self) -> u64 {
        let [_, second, a, b, c, d, e, f, g, h, ..] = self.bytes;
        match second & LENGTH {
            TWO_BYTES => u16::from_be_bytes([a, b]) as u64,
            EIGHT_BYTES => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => short as u64,
        }
    }

    pub(super) fn mask(&self) -> Option<[u8; 4]> {
        if self.bytes[1] & MASKED == 0 {
            return None;
        }
        self.wire().last_chunk().copied()
    }
}

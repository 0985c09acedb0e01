//! WebSocket framing as RFC 6455 has it, read in passing: heads and payloads are handed over where they stand, with the
//! bytes they had on the wire, so that a caller can pass a frame on without masking it anew or waiting for its end. Only
//! control frames are put together, for they are answered, not passed on. Extensions are not negotiated, so reserved
//! bits are refused. It knows no sockets and no handshake, and not what the messages mean.

mod control;
mod decoder;
mod encode;
mod head;
mod payload;
mod utf8;
mod violation;

#[cfg(test)]
mod tests;

pub use control::{Close, Control};
pub use decoder::Decoder;
pub use encode::{encode, encode_close};
pub use head::Head;
pub use payload::Payload;
pub use utf8::Utf8Check;
pub use violation::Violation;

/// The longest payload of a control frame (RFC 6455 §5.5).
const LONGEST_CONTROL: usize = 125;

/// Whose frames these are. A client must mask its frames and a server must not (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The side that opened the connection: its frames are masked.
    Client,
    /// The side that accepted it: its frames are not masked.
    Server,
}

/// What a frame is (RFC 6455 §5.2, §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of the message that was begun (`0x0`).
    Continuation,
    /// The first or only fragment of a text message (`0x1`).
    Text,
    /// The first or only fragment of a binary message (`0x2`).
    Binary,
    /// The end of the connection (`0x8`).
    Close,
    /// Asks for a pong with the same payload (`0x9`).
    Ping,
    /// The answer to a ping, or sent unasked (`0xA`).
    Pong,
}

impl Opcode {
    /// The opcode in the low four bits of a frame's first byte; nothing if it is a reserved one.
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits & 0x0F {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What a message is, whichever of its fragments one looks at (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, which may be cut inside a character at the end of a fragment or a piece.
    Text,
    /// Any bytes.
    Binary,
}

/// What the [`Decoder`] hands over next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The head of a data frame, as soon as it is whole and found valid.
    Head(Head),
    /// A part of the payload of the data frame whose head came last, never empty. A frame without payload has none:
    /// see [`Head::ends_frame`].
    Payload(Payload<'a>),
    /// A whole control frame, unmasked. It may stand between the fragments of a message (RFC 6455 §5.4).
    Control(Control),
}

//! What a peer can do wrong on the wire, with the close code that tells it so.

use std::fmt;

/// Why a connection cannot go on. The peer is told [`Self::close_code`] and [`Self::as_str`] in a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// RSV1, RSV2 or RSV3 is set, and no extension was negotiated (RFC 6455 §5.2).
    ReservedBits,
    /// Opcode 3–7 or 11–15 (RFC 6455 §5.2).
    ReservedOpcode,
    /// A frame of a client without mask (RFC 6455 §5.1).
    Unmasked,
    /// A frame of a server with mask (RFC 6455 §5.1).
    Masked,
    /// A control frame with more than 125 bytes (RFC 6455 §5.5).
    ControlTooLong,
    /// A control frame without FIN (RFC 6455 §5.5).
    ControlFragmented,
    /// A continuation where no message was begun (RFC 6455 §5.4).
    UnexpectedContinuation,
    /// A new message inside a fragmented one (RFC 6455 §5.4).
    InterruptedMessage,
    /// A length of 2^63 or more, or one that is not written in the fewest bytes (RFC 6455 §5.2).
    LengthTooBig,
    /// More bytes in a message, all its fragments together, than the limit (RFC 6455 §7.4.1, §10.4).
    MessageTooBig,
    /// A close frame with one byte, or with a code that may not be sent (RFC 6455 §5.5.1, §7.4).
    BadClose,
    /// A text message or the reason of a close frame is not UTF-8 (RFC 6455 §8.1). The decoder finds the latter; the
    /// former is found by who reads the text, with a [`super::Utf8Check`].
    NotUtf8,
    /// A message in so many fragments of so few bytes that it can only be meant to keep us busy (RFC 6455 §10.4).
    TooManyFragments,
}

impl Violation {
    /// The code of the close frame that answers it (RFC 6455 §7.4.1).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            Self::TooManyFragments => 1008,
            Self::MessageTooBig => 1009,
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::Unmasked
            | Self::Masked
            | Self::ControlTooLong
            | Self::ControlFragmented
            | Self::UnexpectedContinuation
            | Self::InterruptedMessage
            | Self::LengthTooBig
            | Self::BadClose => 1002,
        }
    }

    /// A sentence short enough for the reason of a close frame: fewer than 120 bytes, ASCII only.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReservedBits => "Reserved bits are set, but no extension was negotiated.",
            Self::ReservedOpcode => "The opcode is reserved.",
            Self::Unmasked => "The frames of a client must be masked.",
            Self::Masked => "The frames of a server must not be masked.",
            Self::ControlTooLong => "A control frame is longer than 125 bytes.",
            Self::ControlFragmented => "A control frame is fragmented.",
            Self::UnexpectedContinuation => "A continuation frame came, but no message was begun.",
            Self::InterruptedMessage => "A new message was begun inside a fragmented one.",
            Self::LengthTooBig => "The length of a frame is 2^63 or more, or not written in the fewest bytes.",
            Self::MessageTooBig => "The message is longer than allowed.",
            Self::BadClose => "The close frame has one byte only, or a code that may not be sent.",
            Self::NotUtf8 => "The text is not UTF-8.",
            Self::TooManyFragments => "The message is cut into too many small fragments.",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::error::Error for Violation {}

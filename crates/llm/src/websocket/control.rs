//! Control frames (RFC 6455 §5.5): whole, unmasked and checked.

use super::payload::apply_mask;
use super::{Opcode, Violation};

/// A whole control frame, without its mask. The payloads are at most 125 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// To be answered with a pong of the same payload (RFC 6455 §5.5.2).
    Ping(Box<[u8]>),
    /// The answer to a ping, or a sign of life that nobody asked for (RFC 6455 §5.5.3).
    Pong(Box<[u8]>),
    /// The last frame of its sender (RFC 6455 §5.5.1). Nothing inside if its payload is empty.
    Close(Option<Close>),
}

/// Why a connection ends (RFC 6455 §5.5.1, §7.1.5, §7.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code. One that was received is 1000–1003, 1007–1014 or 3000–4999: the others may not be sent (RFC 6455 §7.4,
    /// and the registry of §11.7 for 1012–1014).
    pub code: u16,
    /// The reason, for people; often empty.
    pub reason: Box<str>,
}

impl Control {
    /// The control frame with this payload as it was on the wire.
    pub(super) fn read(opcode: Opcode, mut payload: Vec<u8>, mask: Option<[u8; 4]>) -> Result<Self, Violation> {
        if let Some(mask) = mask {
            apply_mask(&mut payload, mask, 0);
        }
        match opcode {
            Opcode::Ping => Ok(Self::Ping(payload.into_boxed_slice())),
            Opcode::Pong => Ok(Self::Pong(payload.into_boxed_slice())),
            Opcode::Close => Close::read(&payload).map(Self::Close),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => Err(Violation::ReservedOpcode),
        }
    }
}

impl Close {
    fn read(payload: &[u8]) -> Result<Option<Self>, Violation> {
        if payload.is_empty() {
            return Ok(None);
        }
        let (code, reason) = payload.split_first_chunk().ok_or(Violation::BadClose)?;
        let code = u16::from_be_bytes(*code);
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(Violation::BadClose);
        }
        let reason = std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
        Ok(Some(Self { code, reason: reason.into() }))
    }
}

//! Writes frames of our own, each a whole message or a control frame, with the length in the fewest bytes.

use super::payload::apply_mask;
use super::{Close, LONGEST_CONTROL, Opcode};

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Appends one whole frame with FIN set (RFC 6455 §5.2), masked with `mask` if one is given: a client's frames must be,
/// with a key nobody can foretell (§10.3), a server's must not. Of a control frame's payload at most 125 bytes are
/// written (§5.5).
pub fn encode(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let payload = match payload.get(..LONGEST_CONTROL) {
        Some(beginning) if opcode.is_control() => beginning,
        _ => payload,
    };
    out.reserve(payload.len() + 14);
    out.push(FINAL | opcode.bits());
    let masked = if mask.is_some() { MASKED } else { 0 };
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..=125), _) => out.push(masked | length),
        (_, Ok(length)) => {
            out.push(masked | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |mask| mask.as_slice()));
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(mask), Some(written)) = (mask, out.get_mut(start..)) {
        apply_mask(written, mask, 0);
    }
}

/// Appends a close frame (RFC 6455 §5.5.1), empty without `close`. A reason of more than 123 bytes is cut between two
/// characters. The code is written as it stands: it must not be 1005, 1006 or 1015, which are never sent (§7.4.1).
pub fn encode_close(close: Option<&Close>, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    if let Some(Close { code, reason }) = close {
        let end = reason.floor_char_boundary(LONGEST_CONTROL - 2);
        payload.reserve_exact(2 + end);
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    }
    encode(Opcode::Close, &payload, mask, out);
}

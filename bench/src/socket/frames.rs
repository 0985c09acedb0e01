//! Whole frames out of bytes, found by their lengths (RFC 6455 §5.2). As elsewhere here: what it does not expect is an
//! error. Written apart from the gateway's own decoder, so that the two check each other.

use aiproxy_llm::websocket::{Kind, Opcode, Payload};
use anyhow::{Context, Result, bail, ensure};

/// The longest head.
const HEAD: usize = 14;
const MASKED: u8 = 0x80;

/// A buffer with room for one frame, and what has come of it.
pub(crate) struct Frames {
    buffer: Vec<u8>,
    filled: usize,
    /// The last frame taken out, which the next one replaces.
    payload: Vec<u8>,
    /// Whether the other side masks.
    masked: bool,
}

impl Frames {
    /// For frames with payloads of up to `longest` bytes.
    pub(crate) fn new(longest: usize, masked: bool) -> Self {
        Self { buffer: vec![0; longest + HEAD], filled: 0, payload: Vec::new(), masked }
    }

    /// Takes bytes that came with a handshake.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let space = self.space().get_mut(..bytes.len()).context("more than one frame behind a handshake")?;
        space.copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// Where the next bytes are read to; [`Self::add`] tells how many came.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    pub(crate) fn add(&mut self, read: usize) -> Result<()> {
        ensure!(read > 0, "the socket's connection was closed");
        self.filled += read;
        Ok(())
    }

    /// The next frame, unmasked, if it is whole.
    pub(crate) fn next(&mut self) -> Result<Option<(Opcode, &[u8])>> {
        let [first, second, rest @ ..] = &self.buffer[..self.filled] else { return Ok(None) };
        ensure!(
            (second & MASKED != 0) == self.masked,
            "a frame that is masked and should not be, or the other way round"
        );
        let (length_bytes, length) = match (second & !MASKED, rest) {
            (126, [high, low, ..]) => (2, usize::from(u16::from_be_bytes([*high, *low]))),
            (126, _) => return Ok(None),
            (127, _) => bail!("a frame of more than 64 KiB"),
            (length, _) => (0, usize::from(length)),
        };
        let mask_bytes = if self.masked { 4 } else { 0 };
        let head = 2 + length_bytes + mask_bytes;
        let end = head + length;
        ensure!(end <= self.buffer.len(), "a frame of {length} bytes");
        if self.filled < end {
            return Ok(None);
        }
        let opcode = opcode(*first)?;
        let mask = self.buffer[head - mask_bytes..head].first_chunk().copied();
        let wire = &self.buffer[head..end];
        self.payload.clear();
        if !wire.is_empty() {
            let piece = Payload { wire, offset: 0, mask, kind: Kind::Binary, ends_frame: true, ends_message: true };
            if std::ptr::eq(piece.unmask_into(&mut self.payload), wire) {
                self.payload.extend_from_slice(wire);
            }
        }
        self.buffer.copy_within(end..self.filled, 0);
        self.filled -= end;
        Ok(Some((opcode, &self.payload)))
    }
}

/// Of a frame that is a whole message, without extensions.
fn opcode(first: u8) -> Result<Opcode> {
    match first {
        0x81 => Ok(Opcode::Text),
        0x82 => Ok(Opcode::Binary),
        0x88 => Ok(Opcode::Close),
        _ => bail!("a frame that begins with {first:#04x}"),
    }
}

#[cfg(test)]
mod tests {
    use aiproxy_llm::websocket::encode;

    use super::*;

    #[test]
    fn frames_cut_anywhere_come_out_whole() {
        for mask in [None, Some([1, 2, 3, 4])] {
            let messages =
                [(Opcode::Text, b"Hello".to_vec()), (Opcode::Binary, vec![7; 300]), (Opcode::Close, Vec::new())];
            let mut wire = Vec::new();
            messages.iter().for_each(|(opcode, payload)| encode(*opcode, payload, mask, &mut wire));
            for cut in 1..wire.len() {
                let mut frames = Frames::new(400, mask.is_some());
                let mut found = Vec::new();
                for piece in [&wire[..cut], &wire[cut..]] {
                    frames.put(piece).unwrap();
                    while let Some((opcode, payload)) = frames.next().unwrap() {
                        found.push((opcode, payload.to_vec()));
                    }
                }
                assert_eq!(found, messages, "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_not_expected_is_an_error() {
        let next = |bytes: &[u8], masked| {
            let mut frames = Frames::new(200, masked);
            frames.put(bytes).unwrap();
            frames.next().map(|frame| frame.is_some())
        };
        assert!(next(b"\x81\x01a", false).unwrap());
        assert!(next(b"\x81\x01a", true).is_err(), "not masked");
        assert!(next(b"\x01\x01a", false).is_err(), "a fragment");
        assert!(next(b"\xC1\x01a", false).is_err(), "compressed");
        assert!(next(b"\x82\x7e\x01\x00", false).is_err(), "longer than the buffer");
        assert!(Frames::new(10, false).add(0).is_err(), "the end");
    }
}

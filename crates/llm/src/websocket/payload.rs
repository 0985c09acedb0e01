//! A piece of a data frame's payload where it stands, and the mask over it (RFC 6455 §5.3).

use super::Kind;

/// A piece of the payload of a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Its bytes as they came, masked if the frame is; never empty.
    pub wire: &'a [u8],
    /// How many bytes of the frame's payload came before it. The mask goes on from there.
    pub offset: u64,
    /// The key of the frame, if it is masked.
    pub mask: Option<[u8; 4]>,
    /// What the message is, also if this frame is a continuation.
    pub kind: Kind,
    /// The frame's payload ends with it.
    pub ends_frame: bool,
    /// The frame is the last of its message: with `ends_frame`, the message ends with this piece.
    pub ends_message: bool,
}

impl<'a> Payload<'a> {
    /// The bytes that were meant: those on the wire where they stand if the frame is not masked, else `scratch`, whose
    /// former content is gone then.
    pub fn unmask_into<'b>(&self, scratch: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        match self.mask {
            // A key of zeros is a mask in name only.
            None | Some([0, 0, 0, 0]) => self.wire,
            Some(mask) => {
                scratch.clear();
                scratch.extend_from_slice(self.wire);
                apply_mask(scratch, mask, self.offset);
                scratch
            }
        }
    }
}

/// Masks bytes that begin at `offset` of a frame's payload, or takes the mask away: it is its own inverse.
pub(super) fn apply_mask(bytes: &mut [u8], mut mask: [u8; 4], offset: u64) {
    mask.rotate_left((offset % 4) as usize);
    let [a, b, c, d] = mask;
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (eights, rest) = bytes.as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= key;
    }
}

//! A run of journal frames as a sink gets them: in one buffer, decoded as they are asked for.

use std::ops::Range;

use crate::entry::{Bodies, Entry};
use crate::frame::Kind;
use crate::position::Position;

/// What was read of the journal at once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// Where the batch begins.
    start: Position,
    /// Where the journal is read on once a sink has taken all of this.
    pub position: Position,
}

#[derive(Clone, Debug)]
struct Frame {
    kind: Kind,
    range: Range<usize>,
    /// The segment it stands in, and where in it the next one begins.
    segment: u64,
    end: u64,
}

/// One thing in a batch.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "it lives on the stack for a moment; a box would cost every record")]
pub enum Item<'batch> {
    /// A finished call.
    Record(Entry<'batch>),
    /// What was said in one.
    Bodies(Bodies<'batch>),
}

impl Batch {
    /// Nothing, read up to `position`.
    #[must_use]
    pub fn at(position: Position) -> Self {
        Self { start: position.clone(), position, ..Self::default() }
    }

    /// Forgets all frames; what comes next follows them.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.start.clone_from(&self.position);
    }

    /// Appends a frame that stands in `segment` and ends at byte `end` of it.
    pub fn push(&mut self, kind: Kind, payload: &[u8], segment: u64, end: u64) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.frames.push(Frame { kind, range: start..self.bytes.len(), segment, end });
        self.position.offsets.insert(segment, end);
    }

    /// Appends a record, as if it stood next in segment 1. For tests and measurements.
    pub fn push_record(&mut self, entry: &Entry<'_>) {
        let mut payload = Vec::new();
        entry.encode(&mut payload);
        self.push_next(Kind::Record, &payload);
    }

    /// The same for bodies.
    pub fn push_bodies(&mut self, bodies: &Bodies<'_>) {
        let mut payload = Vec::new();
        bodies.encode(&mut payload);
        self.push_next(Kind::Bodies, &payload);
    }

    fn push_next(&mut self, kind: Kind, payload: &[u8]) {
        let end = self.position.offset(1).unwrap_or(0) + payload.len() as u64;
        self.push(kind, payload, 1, end);
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// No frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes of all payloads.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Everything in it, in order. What cannot be decoded (a later version wrote it) is left out.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.items_with_segment().map(|(_, item)| item)
    }

    /// The same, each with the number of the segment it stands in.
    pub fn items_with_segment(&self) -> impl Iterator<Item = (u64, Item<'_>)> {
        self.frames.iter().filter_map(|frame| {
            let payload = &self.bytes[frame.range.clone()];
            let item = match frame.kind {
                Kind::Record => Entry::decode(payload).ok().map(Item::Record),
                Kind::Bodies => Bodies::decode(payload).ok().map(Item::Bodies),
                Kind::Unknown(_) => None,
            };
            item.map(|item| (frame.segment, item))
        })
    }

    /// The records in it, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.items().filter_map(|item| match item {
            Item::Record(entry) => Some(entry),
            Item::Bodies(_) => None,
        })
    }

    /// The frames numbered `range`, at the position where they end: used to find the one that a sink refuses.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        if range.end >= self.frames.len() {
            let mut rest = self.part_of(range);
            rest.position.clone_from(&self.position);
            return rest;
        }
        self.part_of(range)
    }

    fn part_of(&self, range: Range<usize>) -> Self {
        let mut before = self.start.clone();
        for frame in &self.frames[..range.start] {
            before.offsets.insert(frame.segment, frame.end);
        }
        let mut part = Self::at(before);
        for frame in &self.frames[range] {
            part.push(frame.kind, &self.bytes[frame.range.clone()], frame.segment, frame.end);
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_where_its_last_frame_ends() {
        let mut batch = Batch::at(Position { floor: 3, offsets: [(3, 10)].into() });
        batch.push(Kind::Unknown(9), b"a", 3, 20);
        batch.push(Kind::Unknown(9), b"b", 4, 30);
        batch.push(Kind::Unknown(9), b"c", 3, 40);
        batch.position.floor = 4;
        let offsets = |part: Batch| (part.len(), part.position.floor, part.position.offsets);
        assert_eq!(offsets(batch.part(0..1)), (1, 3, [(3, 20)].into()));
        assert_eq!(offsets(batch.part(1..2)), (1, 3, [(3, 20), (4, 30)].into()));
        assert_eq!(batch.part(2..3).position, batch.position);
    }
}

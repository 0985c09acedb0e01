//! The values a scan keeps: their raw bytes up to a limit, and where they stood. Knows nothing of JSON.

use std::ops::Range;

/// The raw bytes of one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// The value as it stands in the document, quotes and all; cut at the limit if [`Self::truncated`].
    pub bytes: Vec<u8>,
    /// Where the value stands, in bytes from the beginning of the document.
    pub span: Range<usize>,
    /// The value was longer than the limit, and `bytes` is only its beginning.
    pub truncated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Absent,
    Open,
    Complete,
}

#[derive(Clone, Debug)]
struct Slot {
    capture: Capture,
    progress: Progress,
    /// Where in the current chunk the uncopied part begins.
    from: usize,
}

/// What a scan found, numbered like its paths.
#[derive(Clone, Debug)]
pub struct Captures {
    /// Empty until the first value is found: many a stream has a scanner that finds none.
    slots: Vec<Slot>,
    count: usize,
    limit: usize,
}

impl Captures {
    pub(super) fn new(count: usize, limit: usize) -> Self {
        Self { slots: Vec::new(), count, limit }
    }

    /// The value at the path numbered `index`, once it is complete.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Capture> {
        let slot = self.slots.get(index)?;
        (slot.progress == Progress::Complete).then_some(&slot.capture)
    }

    /// The whole raw bytes at the path numbered `index`; nothing if it is absent, incomplete or was too long.
    #[must_use]
    pub fn raw(&self, index: usize) -> Option<&[u8]> {
        let capture = self.get(index)?;
        (!capture.truncated).then_some(capture.bytes.as_slice())
    }

    /// The bytes of a value so far, even if its end has not been seen.
    #[must_use]
    pub fn so_far(&self, index: usize) -> Option<&[u8]> {
        let slot = self.slots.get(index)?;
        (slot.progress != Progress::Absent).then_some(slot.capture.bytes.as_slice())
    }

    pub(super) fn clear(&mut self, mask: u32) {
        for slot in selected(&mut self.slots, mask) {
            slot.progress = Progress::Absent;
        }
    }

    pub(super) fn start(&mut self, mask: u32, index: usize, position: usize) {
        if self.slots.is_empty() {
            let slot = Slot { capture: Capture::default(), progress: Progress::Absent, from: 0 };
            self.slots.resize(self.count, slot);
        }
        for slot in selected(&mut self.slots, mask) {
            slot.progress = Progress::Open;
            slot.from = index;
            slot.capture.bytes.clear();
            slot.capture.truncated = false;
            slot.capture.span = position..position;
        }
    }

    pub(super) fn finish(&mut self, mask: u32, chunk: &[u8], end: usize, position: usize) {
        for slot in selected(&mut self.slots, mask) {
            slot.take(chunk.get(slot.from..end).unwrap_or_default(), self.limit);
            slot.progress = Progress::Complete;
            slot.capture.span.end = position;
        }
    }

    pub(super) fn begin_chunk(&mut self) {
        for slot in &mut self.slots {
            slot.from = 0;
        }
    }

    pub(super) fn end_chunk(&mut self, open: u32, chunk: &[u8]) {
        for slot in selected(&mut self.slots, open) {
            slot.take(chunk.get(slot.from..).unwrap_or_default(), self.limit);
        }
    }
}

impl Slot {
    fn take(&mut self, bytes: &[u8], limit: usize) {
        let room = limit.saturating_sub(self.capture.bytes.len());
        self.capture.truncated |= bytes.len() > room;
        self.capture.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

fn selected(slots: &mut [Slot], mask: u32) -> impl Iterator<Item = &mut Slot> {
    slots.iter_mut().enumerate().filter(move |(index, _)| mask & (1 << index) != 0).map(|(_, slot)| slot)
}

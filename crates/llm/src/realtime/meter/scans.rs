//! The scanners that a meter reads messages with, and the look at a message's first bytes that spares it most of them.

use crate::json_scan::{JsonScan, Path};

use super::{Protocol, dashscope, gemini, openai};

/// The scanners of one socket. Gemini needs two: its content is only to be noticed, not to be kept, where its usage is.
#[derive(Clone, Debug)]
pub(super) struct Scans {
    pub(super) values: JsonScan,
    pub(super) shape: Option<JsonScan>,
}

/// More than this is not kept from one message to the next.
const KEPT: usize = 4 * 1024;

impl Scans {
    pub(super) fn new(protocol: Protocol) -> Self {
        let (values, shape): (&'static [Path], Option<&'static [Path]>) = match protocol {
            Protocol::DashscopeInference => (dashscope::PATHS, None),
            Protocol::GeminiLive => (gemini::PATHS, Some(gemini::SHAPE)),
            Protocol::Live => (openai::LIVE_PATHS, None),
            Protocol::Realtime | Protocol::Responses | Protocol::Unread => (openai::PATHS, None),
        };
        // Long enough for `false`; content is cut, and only its presence counts.
        let shape = shape.map(|paths| JsonScan::new(paths).with_capture_limit(8));
        Self { values: JsonScan::new(values), shape }
    }

    pub(super) fn reset(&mut self) {
        self.values.reset();
        if let Some(shape) = &mut self.shape {
            shape.reset();
        }
    }

    /// What was captured takes more memory than an idle socket should.
    pub(super) fn is_large(&self) -> bool {
        let captures = self.values.captures();
        let lengths = (0..openai::PATHS.len()).filter_map(|index| captures.so_far(index)).map(<[u8]>::len);
        lengths.sum::<usize>() > KEPT
    }
}

/// The type of a message that begins with it, as almost all do, without setting a scanner to work. Nothing if it begins
/// otherwise, or if the type is cut, or has escapes or anything that no known type has.
pub(super) fn plain_type(bytes: &[u8]) -> Option<&[u8]> {
    const LONGEST: usize = 96;
    let rest = bytes.strip_prefix(br#"{"type":""#)?;
    let rest = rest.get(..LONGEST).unwrap_or(rest);
    let name = &rest[..memchr::memchr(b'"', rest)?];
    (name.is_ascii() && !name.contains(&b'\\')).then_some(name)
}

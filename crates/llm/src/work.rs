//! Work that outlives its call: files, batches, stored responses, tasks. It lives in the account of the credential
//! that created it, so later calls that name it must go there. This reads which ids a response hands out and which ids
//! a path names, so written that both are equal. It keeps no map from one to the other.

mod path;

use crate::dialect::{Dialect, Operation, Route};
use crate::json_scan::{Captures, JsonScan, Path, ScanStatus, decode_string};
use crate::meter::MeterKind;
use crate::sse::SseDecoder;

use path::bare_member;
pub(crate) use path::canonical;
pub use path::ids_in_path;

/// How many ids one response or one path yields.
const MOST_IDS: usize = 4;

/// Longer ids, in bytes, are not taken for ids.
const LONGEST_ID: usize = 256;

/// How much of a response is looked at: an id stands near its beginning.
const LOOKED_AT: usize = 64 * 1024;

const ID: usize = 0;
const KINDS: [usize; 3] = [1, 2, 3];
const FILE_ID: usize = 4;
const NAME: usize = 5;
const FILE_NAME: usize = 6;
const TASK_ID: usize = 7;
const STREAMED_IDS: [usize; 2] = [8, 9];
const PATHS: &[Path] = &[
    &["id"],
    &["object"],
    &["type"],
    &["status"],
    // A completed upload has become a file, which is what later calls name.
    &["file", "id"],
    &["name"],
    &["file", "name"],
    &["output", "task_id"],
    &["response", "id"],
    &["interaction", "id"],
];

/// Where a response names what it created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// `id`, as OpenAI, Anthropic and Gemini's interactions have it.
    Id,
    /// A resource name such as `files/x`, as the rest of Gemini has it.
    Name,
    /// `output.task_id`, as DashScope has it.
    Task,
}

impl Naming {
    fn of(route: &Route<'_>) -> Option<Self> {
        use Operation as Op;
        match (route.dialect, route.operation) {
            (
                Dialect::Openai | Dialect::Anthropic,
                Op::Responses | Op::Files | Op::Batches | Op::Videos | Op::Live | Op::Other,
            )
            | (Dialect::Gemini, Op::Interactions) => Some(Self::Id),
            // Batches of embeddings and videos of Vertex share their operation with answers that create nothing.
            (Dialect::Gemini, Op::Files | Op::Batches | Op::Predict | Op::EmbedContent | Op::Other) => Some(Self::Name),
            (Dialect::Dashscope, operation) if operation != Op::DashscopeTask => Some(Self::Task),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Framing {
    Json(JsonScan),
    /// The decoder, and the scanner that events are read with.
    Sse(SseDecoder, JsonScan),
}

/// Whether the body of such a call may refer to earlier work. Chats, embeddings and the like never do.
#[must_use]
pub const fn may_refer(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Responses
            | Operation::ResponsesInputTokens
            | Operation::Batches
            | Operation::Files
            | Operation::Videos
            | Operation::Interactions
            | Operation::GenerateContent
            | Operation::StreamGenerateContent
            | Operation::CountTokens
            | Operation::Predict
            | Operation::Other
    )
}

/// Reads the ids of the work that a call created from its response passing by.
#[derive(Clone, Debug)]
pub struct WorkIds {
    naming: Naming,
    framing: Framing,
    looked_at: usize,
    is_done: bool,
    ids: Vec<String>,
}

impl WorkIds {
    /// A reader of the response to `method` and `route`, framed as `kind` says; nothing if such a call creates no work
    /// that a later one could name.
    ///
    /// What Realtime calls and Live sessions create is named in the `Location` header: see [`ids_in_path`].
    #[must_use]
    pub fn of(route: &Route<'_>, method: &str, kind: MeterKind) -> Option<Self> {
        if method != "POST" {
            return None;
        }
        let naming = Naming::of(route)?;
        let scan = JsonScan::new(PATHS).with_capture_limit(4 * LONGEST_ID);
        let framing = match (kind, naming) {
            (MeterKind::Json, _) => Framing::Json(scan),
            (MeterKind::Sse, Naming::Id) => Framing::Sse(SseDecoder::new(LOOKED_AT), scan),
            _ => return None,
        };
        Some(Self { naming, framing, looked_at: 0, is_done: false, ids: Vec::new() })
    }

    /// Takes the next bytes of the response, decoded. Returns at once after the first 64 KiB, or when all was found.
    pub fn feed(&mut self, decoded_chunk: &[u8]) {
        if self.is_done {
            return;
        }
        let room = LOOKED_AT - self.looked_at;
        let chunk = &decoded_chunk[..decoded_chunk.len().min(room)];
        self.looked_at += chunk.len();
        let Self { framing, ids, is_done, .. } = self;
        let is_over = match framing {
            Framing::Json(scan) => {
                scan.feed(chunk);
                scan.status() != ScanStatus::Incomplete
            }
            Framing::Sse(decoder, scan) => {
                decoder.feed(chunk, |event| *is_done = *is_done || read_event(event.data(), scan, ids));
                *is_done
            }
        };
        if is_over || self.looked_at == LOOKED_AT {
            self.end();
        }
    }

    /// The ids found so far. Those of a stream are known long before it ends: a client may cancel meanwhile.
    #[must_use]
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// The ids of what was created, at most 4, each of 1 to 256 bytes; also of a response that was cut off.
    #[must_use]
    pub fn finish(mut self) -> Vec<String> {
        self.end();
        self.ids
    }

    fn end(&mut self) {
        let Self { naming, framing, is_done, ids, .. } = self;
        match framing {
            _ if *is_done => {}
            Framing::Json(scan) => read_document(*naming, scan.captures(), ids),
            // The first event of a stored response repeats its instructions and tools, and may well be cut.
            Framing::Sse(decoder, scan) => decoder.finish(|event| {
                read_event(event.data(), scan, ids);
            }),
        }
        self.is_done = true;
    }
}

fn read_document(naming: Naming, captures: &Captures, ids: &mut Vec<String>) {
    match naming {
        Naming::Id => {
            if KINDS.into_iter().any(|index| text(captures, index).is_some()) {
                add_name(ids, text(captures, ID));
            }
            add(ids, text(captures, FILE_ID));
        }
        Naming::Name => {
            let names = [NAME, FILE_NAME].into_iter().filter_map(|index| text(captures, index));
            names.filter(|name| name.contains('/')).for_each(|name| add_name(ids, Some(name)));
        }
        Naming::Task => add(ids, text(captures, TASK_ID)),
    }
}

/// Reads one event; whether no other can be of interest.
fn read_event(data: Option<impl AsRef<[u8]>>, scan: &mut JsonScan, ids: &mut Vec<String>) -> bool {
    let Some(data) = data else { return false };
    scan.reset();
    scan.feed(data.as_ref());
    let captures = scan.captures();
    if let Some(id) = STREAMED_IDS.into_iter().find_map(|index| text(captures, index)) {
        add(ids, Some(id));
        return true;
    }
    // A run of an assistant streams whole objects: a thread, the run, its steps.
    if text(captures, KINDS[0]).is_some() {
        add(ids, text(captures, ID));
    }
    ids.len() == MOST_IDS
}

/// Adds a resource name in every way a path may say it: Google's SDK for Python asks for `files/x` at `/v1/files/x`,
/// where OpenAI's clients put a bare id, and its OpenAI surface names batches `batches/x`.
fn add_name(ids: &mut Vec<String>, name: Option<String>) {
    let Some(name) = name.and_then(|name| canonical(&name)) else { return };
    let bare = bare_member(&name).map(str::to_owned);
    add(ids, Some(name));
    add(ids, bare);
}

fn text(captures: &Captures, index: usize) -> Option<String> {
    decode_string(captures.raw(index)?)
}

fn add(ids: &mut Vec<String>, id: Option<String>) {
    if let Some(id) = id
        && (1..=LONGEST_ID).contains(&id.len())
        && ids.len() < MOST_IDS
        && !ids.contains(&id)
    {
        ids.push(id);
    }
}

#[cfg(test)]
mod tests;

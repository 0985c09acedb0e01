//! The ids that stand in a path behind the collection they are members of. Prefixes, versions and repeated slashes do
//! not matter. An id is written as the provider writes it when it creates the thing: bare, or with its collection
//! (`files/x`) where Google has it so.

use super::{LONGEST_ID, MOST_IDS, add};

/// How members of a collection are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// By the id alone.
    Bare,
    /// By collection and id.
    Joined,
    /// As Google does on Google's paths, by the id alone on others.
    Shared,
}

impl Style {
    fn of(collection: &str) -> Option<Self> {
        match collection {
            "files" | "batches" => Some(Self::Shared),
            "operations" | "cachedContents" | "fileSearchStores" | "batchPredictionJobs" => Some(Self::Joined),
            // OpenAI's and Anthropic's; then of Realtime and Live, of Gemini's interactions, of DashScope.
            "responses" | "uploads" | "videos" | "characters" | "jobs" | "vector_stores" | "file_batches"
            | "containers" | "conversations" | "evals" | "runs" | "assistants" | "threads" | "skills" | "calls"
            | "sessions" | "interactions" | "tasks" => Some(Self::Bare),
            _ => None,
        }
    }
}

/// The ids of earlier work that a path names, at most 4: `/v1/responses/{id}/cancel`, `/v1/files/{id}/content`,
/// `/api/v1/tasks/{id}`, `/v1beta/files/x` (which gives `files/x`). A query is not looked at. Allocates nothing where
/// there are none.
#[must_use]
pub fn ids_in_path(path: &str) -> Vec<String> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let mut is_google = false;
    for segment in path.split('/') {
        match segment {
            "openai" => return members(path, false),
            "v1beta" | "v1alpha" | "v1beta1" => is_google = true,
            _ => {}
        }
    }
    members(path, is_google)
}

/// An id as a body writes it, so as [`ids_in_path`] writes it: Google's resource names may have a project in front.
/// Nothing if it is empty or too long.
pub(crate) fn canonical(name: &str) -> Option<String> {
    let last = if name.contains('/') { members(name, true).pop() } else { None };
    let id = last.unwrap_or_else(|| name.to_owned());
    (1..=LONGEST_ID).contains(&id.len()).then_some(id)
}

/// The id alone, if others than Google may name it so in a path of the same look.
pub(super) fn bare_member(name: &str) -> Option<&str> {
    let (collection, id) = name.split_once('/')?;
    (Style::of(collection) == Some(Style::Shared)).then_some(id)
}

fn members(path: &str, is_google: bool) -> Vec<String> {
    let mut ids = Vec::new();
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
    while let Some(collection) = segments.next() {
        let Some(style) = Style::of(collection) else { continue };
        let Some(member) = segments.next_if(|segment| is_member(segment)) else { continue };
        let id = match style {
            Style::Bare => decode(member),
            Style::Shared if !is_google => decode(without_verb(member)),
            Style::Shared | Style::Joined => format!("{collection}/{}", decode(without_verb(member))),
        };
        add(&mut ids, Some(id));
        if ids.len() == MOST_IDS {
            break;
        }
    }
    ids
}

/// Not an action on the collection as a whole (`/responses/compact`), nor a collection in it (`/threads/runs`).
fn is_member(segment: &str) -> bool {
    Style::of(segment).is_none() && !matches!(segment, "compact" | "input_tokens" | "edits" | "extensions")
}

/// Without the `:cancel` or `:download` of Google's paths.
fn without_verb(member: &str) -> &str {
    match member.split_once(':') {
        Some((id, verb)) if verb.bytes().all(|byte| byte.is_ascii_alphabetic()) => id,
        _ => member,
    }
}

/// Undoes percent-encoding; what is not valid stays as it is.
fn decode(segment: &str) -> String {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = (byte == b'%').then(|| Some((digit(*after.first()?)?, digit(*after.get(1)?)?))).flatten();
        decoded.push(escaped.map_or(byte, |(high, low)| {
            rest = &after[2..];
            high << 4 | low
        }));
    }
    String::from_utf8(decoded).unwrap_or_else(|_| segment.to_owned())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

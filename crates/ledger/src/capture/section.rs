//! A body in sections, each with a heading: reasoning, text, tool calls of a merged stream; the fields of a form.

use std::collections::{BTreeMap, HashMap};

/// One section as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    /// Heading; not shown where the section is all there is and the heading is empty.
    pub(super) heading: String,
    /// What it says.
    pub(super) text: String,
    /// Whether the text is hidden altogether: the field's name says that it is a secret.
    pub(super) is_secret: bool,
}

/// Joins sections to one text.
pub(super) fn join(sections: &[Section]) -> String {
    if let [Section { heading, text, .. }] = sections
        && (heading.is_empty() || heading == TEXT)
    {
        return text.clone();
    }
    let mut joined = String::new();
    for Section { heading, text, .. } in sections {
        if !joined.is_empty() {
            joined.push_str("\n\n");
        }
        if !heading.is_empty() {
            joined.push('[');
            joined.push_str(heading);
            joined.push_str("]\n");
        }
        joined.push_str(text);
    }
    joined
}

/// The heading of what the model says to the caller.
const TEXT: &str = "text";

/// What a section of a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// What the model says.
    Text,
    /// What it thinks.
    Reasoning,
    /// Why it says nothing.
    Refusal,
    /// What it asks to be called; the number tells several calls apart.
    Tool(u64),
    /// What its sound says.
    Transcript,
    /// Code it runs.
    Code,
    /// What came of that.
    CodeOutput,
    /// What is not understood, as it came.
    Events,
}

/// Sections that grow while a stream is read, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Sections {
    list: Vec<Growing>,
    index: HashMap<(u64, Kind), usize>,
    /// How much base64 of each kind of data was left out, in characters.
    left_out: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Growing {
    choice: u64,
    kind: Kind,
    /// Name of the tool.
    name: String,
    /// All pieces, one after the other.
    pieces: String,
    repeated: Option<Repeated>,
}

/// A text that may come from its beginning in every event: as long as each begins as the one before did, it is taken
/// for the same text growing.
#[derive(Debug, Default)]
struct Repeated {
    is_in_pieces: bool,
    last: String,
}

impl Sections {
    /// Whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.left_out.is_empty()
    }

    /// Adds to the section `kind` of answer number `choice`.
    pub(super) fn add(&mut self, choice: u64, kind: Kind, text: &str) {
        if !text.is_empty() {
            self.section(choice, kind).pieces.push_str(text);
        }
    }

    /// Adds a piece, or the same text again and more of it: only the texts tell which.
    pub(super) fn add_repeated(&mut self, choice: u64, kind: Kind, text: &str) {
        // Text that grows is never gone again, so that an empty piece after others means pieces. Thoughts do end.
        if text.is_empty() && (kind != Kind::Text || !self.index.contains_key(&(choice, kind))) {
            return;
        }
        let section = self.section(choice, kind);
        let repeated = section.repeated.get_or_insert_default();
        repeated.is_in_pieces |= !text.starts_with(&repeated.last);
        section.pieces.push_str(text);
        if !repeated.is_in_pieces {
            repeated.last.clear();
            repeated.last.push_str(text);
        }
    }

    /// Names the tool of a section; begins the section.
    pub(super) fn name(&mut self, choice: u64, kind: Kind, name: &str) {
        let section = self.section(choice, kind);
        // Some repeat it in each event.
        if section.name.is_empty() {
            section.name.push_str(name);
        }
    }

    /// Adds an event as it came.
    pub(super) fn add_event(&mut self, raw: &[u8]) {
        let section = self.section(0, Kind::Events);
        if !section.pieces.is_empty() {
            section.pieces.push('\n');
        }
        section.pieces.push_str(String::from_utf8_lossy(raw).trim_end());
    }

    /// Notes that sound or an image was left out.
    pub(super) fn leave_out(&mut self, what: &str, encoded: &str) {
        *self.left_out.entry(what.to_string()).or_default() += encoded.len() as u64;
    }

    /// A number for the next tool call, where calls have none.
    pub(super) fn next_tool(&self) -> u64 {
        self.list.len() as u64
    }

    fn section(&mut self, choice: u64, kind: Kind) -> &mut Growing {
        let at = *self.index.entry((choice, kind)).or_insert(self.list.len());
        if at == self.list.len() {
            self.list.push(Growing { choice, kind, name: String::new(), pieces: String::new(), repeated: None });
        }
        &mut self.list[at]
    }

    /// The sections as they are stored.
    pub(super) fn finish(self) -> Vec<Section> {
        let lines = self.left_out.iter().map(|(what, length)| format!("{what}: {length} characters of base64"));
        let text = lines.collect::<Vec<_>>().join("\n");
        let left_out = Section { heading: "left out".to_string(), text, is_secret: false };
        let mut sections: Vec<_> = self.list.into_iter().map(Growing::finish).collect();
        sections.extend((!self.left_out.is_empty()).then_some(left_out));
        sections
    }
}

impl Growing {
    fn finish(self) -> Section {
        let mut heading = match self.kind {
            Kind::Text => TEXT.to_string(),
            Kind::Reasoning => "reasoning".to_string(),
            Kind::Refusal => "refusal".to_string(),
            Kind::Tool(_) if self.name.is_empty() => "tool call".to_string(),
            Kind::Tool(_) => format!("tool call {}", self.name),
            Kind::Transcript => "transcript".to_string(),
            Kind::Code => "code".to_string(),
            Kind::CodeOutput => "output of code".to_string(),
            Kind::Events => "events".to_string(),
        };
        if self.choice > 0 {
            heading = format!("{heading} of answer {}", self.choice);
        }
        let text = match self.repeated {
            Some(Repeated { is_in_pieces: false, last }) => last,
            _ => self.pieces,
        };
        Section { heading, text, is_secret: false }
    }
}

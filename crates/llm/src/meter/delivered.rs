//! How much text a response really brought, whoever counted it or not: an estimate for calls whose usage report never
//! came. Only what the model wrote counts: no ids, signatures, citations or tool results, no images, no sound.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::dialect::Operation;
use crate::estimate::{Listener, TextTally, Walk, Wish, tokens};

use super::MeterKind;
use super::form::Form;

/// What passed by, as far as it can be told from the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// An estimate of the output tokens in the text that came: see [`crate::estimate`] for how far it may be off. 0 if
    /// no text came, which an image or sound is not. Reasoning counts where it is shown.
    pub output_tokens: u64,
}

/// Where a family of responses has the text of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// OpenAI chat and completions.
    Chat,
    Responses,
    /// The events that end in `.delta`.
    ResponsesStream,
    Transcript,
    TranscriptStream,
    Anthropic,
    AnthropicStream,
    Gemini,
    Interactions,
    InteractionsStream,
    Dashscope,
    Cohere,
    CohereStream,
    Bedrock,
}

impl Layout {
    /// Nothing where no text is made, or it is that of another call.
    fn of(form: Form, operation: Operation, kind: MeterKind) -> Option<Self> {
        let streamed = kind == MeterKind::Sse;
        let choose = |stream: Self, whole: Self| Some(if streamed { stream } else { whole });
        match (operation, form) {
            (Operation::ChatCompletions | Operation::Completions, Form::Openai) => Some(Self::Chat),
            (Operation::Responses, Form::Openai | Form::ResponsesStream) => {
                choose(Self::ResponsesStream, Self::Responses)
            }
            (Operation::Transcription | Operation::Translation, Form::Openai) => {
                choose(Self::TranscriptStream, Self::Transcript)
            }
            (
                Operation::Messages | Operation::BedrockInvoke | Operation::BedrockInvokeStream,
                Form::Anthropic | Form::AnthropicStream,
            ) => choose(Self::AnthropicStream, Self::Anthropic),
            (Operation::GenerateContent | Operation::StreamGenerateContent, Form::Gemini) => Some(Self::Gemini),
            (Operation::Interactions, Form::Gemini) => choose(Self::InteractionsStream, Self::Interactions),
            (
                Operation::DashscopeGeneration | Operation::DashscopeMultimodal | Operation::DashscopeApplication,
                Form::Dashscope,
            ) => Some(Self::Dashscope),
            (Operation::CohereChat, _) => choose(Self::CohereStream, Self::Cohere),
            (Operation::BedrockConverse | Operation::BedrockConverseStream, _) => Some(Self::Bedrock),
            _ => None,
        }
    }

    /// The members of the document, or anywhere in the event, that hold the text, and how they do.
    const fn roots(self) -> (&'static [&'static str], Wish) {
        match self {
            Self::Chat => (&["choices"], Wish::Look),
            Self::Responses | Self::Dashscope | Self::Bedrock => (&["output"], Wish::Look),
            Self::ResponsesStream | Self::TranscriptStream => (&["delta"], Wish::Text),
            Self::Transcript => (&["text"], Wish::Text),
            Self::Anthropic => (&["content"], Wish::Look),
            Self::AnthropicStream => (&["delta", "content_block"], Wish::Look),
            Self::Gemini => (&["candidates"], Wish::Look),
            Self::Interactions => (&["outputs"], Wish::Look),
            Self::InteractionsStream | Self::CohereStream => (&["delta"], Wish::Look),
            Self::Cohere => (&["message"], Wish::Look),
        }
    }

    /// What a member inside a root is, and to which sum its text belongs.
    fn wish(self, key: &[u8]) -> (Wish, Sum) {
        let wish = match (self, key) {
            (
                Self::Chat | Self::Dashscope,
                b"content" | b"text" | b"refusal" | b"thinking" | b"transcript" | b"input",
            ) => Wish::Text,
            // Some providers write the same reasoning under two names at once.
            (Self::Chat | Self::Dashscope, b"reasoning_content") => return (Wish::Text, Sum::Reasoning),
            (Self::Chat, b"reasoning") => return (Wish::Text, Sum::ReasoningAgain),
            (Self::Dashscope, b"thought") => return (Wish::Text, Sum::ReasoningAgain),
            (Self::Chat | Self::Dashscope, b"arguments") => return (Wish::Text, Sum::Arguments),
            (
                Self::Chat | Self::Dashscope,
                b"logprobs" | b"annotations" | b"citations" | b"reasoning_details" | b"search_results" | b"search_info"
                | b"doc_references",
            ) => Wish::Skip,

            (Self::Responses, b"text" | b"arguments" | b"input" | b"code" | b"refusal") => Wish::Text,
            (Self::Responses, b"annotations" | b"results" | b"logprobs" | b"tools") => Wish::Skip,

            (Self::Anthropic | Self::AnthropicStream, b"text" | b"thinking" | b"partial_json") => Wish::Text,
            (Self::Anthropic | Self::AnthropicStream | Self::Bedrock, b"input") => Wish::Whole,
            // Results of the provider's own tools stand in a `content` of their own.
            (Self::Anthropic | Self::AnthropicStream, b"content" | b"citations" | b"citation") => Wish::Skip,
            (Self::Bedrock, b"text") => Wish::Text,
            (Self::Bedrock, b"citations") => Wish::Skip,

            (Self::Gemini, b"text" | b"code") => Wish::Text,
            (Self::Gemini, b"args") => Wish::Whole,
            (
                Self::Gemini,
                b"groundingMetadata"
                | b"citationMetadata"
                | b"logprobsResult"
                | b"urlContextMetadata"
                | b"codeExecutionResult",
            ) => Wish::Skip,
            (Self::Interactions | Self::InteractionsStream, b"text" | b"code") => Wish::Text,
            (Self::Interactions | Self::InteractionsStream, b"arguments") => Wish::Whole,
            (Self::Interactions | Self::InteractionsStream, b"annotations" | b"result") => Wish::Skip,

            (Self::Cohere | Self::CohereStream, b"text" | b"thinking" | b"tool_plan" | b"arguments" | b"content") => {
                Wish::Text
            }
            (Self::Cohere | Self::CohereStream, b"citations" | b"logprobs") => Wish::Skip,
            _ => Wish::Look,
        };
        (wish, Sum::Answer)
    }
}

/// What is summed apart, because its text may come twice, or again from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    Answer,
    Reasoning,
    ReasoningAgain,
    Arguments,
}

const SUMS: usize = 4;

/// The estimate of one response.
#[derive(Clone, Debug)]
pub(super) struct DeliveredText {
    layout: Option<Layout>,
    walk: Walk,
    reader: Reader,
}

#[derive(Clone, Debug)]
struct Reader {
    layout: Layout,
    /// In a document, only what is inside its roots counts; an event is walked from its root on.
    is_document: bool,
    sum: Sum,
    sums: [TextTally; SUMS],
    /// Only where each event may hold all of the text so far.
    repeated: Option<Box<[Repeated; SUMS]>>,
}

impl DeliveredText {
    pub(super) fn new(form: Form, operation: Operation, kind: MeterKind) -> Self {
        let layout = Layout::of(form, operation, kind);
        let repeats = layout == Some(Layout::Dashscope) && kind == MeterKind::Sse;
        let reader = Reader {
            layout: layout.unwrap_or(Layout::Chat),
            is_document: kind != MeterKind::Sse,
            sum: Sum::Answer,
            sums: [TextTally::default(); SUMS],
            repeated: repeats.then(Box::default),
        };
        Self { layout, walk: Walk::new(Wish::Look), reader }
    }

    /// Takes the next bytes of a document.
    pub(super) fn feed_document(&mut self, chunk: &[u8]) {
        if self.layout.is_some() {
            self.walk.feed(chunk, &mut self.reader);
        }
    }

    /// Looks at a whole event, or at what there is of the last one.
    pub(super) fn feed_event(&mut self, raw: &[u8]) {
        let Some(layout) = self.layout else { return };
        if layout == Layout::ResponsesStream && !is_text_delta(raw) {
            return;
        }
        let Some(value) = find_root(layout, raw) else { return };
        self.reader.sum = Sum::Answer;
        self.walk.restart(layout.roots().1);
        self.walk.feed(value, &mut self.reader);
        self.reader.end_event();
    }

    pub(super) fn delivered(&self) -> Delivered {
        let [answer, reasoning, again, arguments] = match &self.reader.repeated {
            None => self.reader.sums.map(|sum| sum.thousandths()),
            Some(repeated) => repeated.each_ref().map(Repeated::thousandths),
        };
        let thousandths = [answer, reasoning.max(again), arguments].into_iter().fold(0, u64::saturating_add);
        Delivered { output_tokens: tokens(thousandths) }
    }
}

impl Reader {
    fn end_event(&mut self) {
        let Some(repeated) = &mut self.repeated else { return };
        for (repeated, sum) in repeated.iter_mut().zip(&mut self.sums) {
            repeated.end_event(std::mem::take(sum).thousandths());
        }
    }
}

impl Listener for Reader {
    fn wish(&mut self, key: &[u8], level: u32) -> Wish {
        if self.is_document && level == 1 {
            let (roots, wish) = self.layout.roots();
            self.sum = Sum::Answer;
            return if roots.iter().any(|root| root.as_bytes() == key) { wish } else { Wish::Skip };
        }
        let (wish, sum) = self.layout.wish(key);
        self.sum = sum;
        wish
    }

    fn text(&mut self, raw: &[u8]) {
        self.sums[self.sum as usize].add_raw(raw);
        if let Some(repeated) = &mut self.repeated {
            repeated[self.sum as usize].add(raw);
        }
    }

    fn end_text(&mut self) {
        self.sums[self.sum as usize].end();
    }

    fn number(&mut self) {
        self.sums[self.sum as usize].add_tokens(1);
    }
}

/// How much of a text is kept to recognize it.
const OPENING: usize = 24;

/// A text that comes either piece by piece or, in every event, from its beginning: nothing but the texts tell which.
/// As long as each begins as the one before did, and is not shorter, they are taken for the same text growing.
#[derive(Clone, Debug, Default)]
struct Repeated {
    is_in_pieces: bool,
    /// The weight of all texts, and of the last.
    all: u64,
    last: u64,
    /// The text of the last event that had one, and of the current event.
    before: Opening,
    current: Opening,
}

#[derive(Clone, Copy, Debug, Default)]
struct Opening {
    length: usize,
    bytes: [u8; OPENING],
}

impl Opening {
    fn known(&self) -> &[u8] {
        &self.bytes[..self.length.min(OPENING)]
    }
}

impl Repeated {
    fn add(&mut self, raw: &[u8]) {
        let known = self.current.length.min(OPENING);
        let kept = raw.len().min(OPENING - known);
        self.current.bytes[known..known + kept].copy_from_slice(&raw[..kept]);
        self.current.length += raw.len();
    }

    fn end_event(&mut self, thousandths: u64) {
        let current = std::mem::take(&mut self.current);
        if current.length == 0 {
            return;
        }
        self.is_in_pieces |= current.length < self.before.length || !current.known().starts_with(self.before.known());
        self.all = self.all.saturating_add(thousandths);
        self.last = thousandths;
        self.before = current;
    }

    fn thousandths(&self) -> u64 {
        if self.is_in_pieces { self.all } else { self.last }
    }
}

/// The value of the first root in an event, from its beginning to the event's end. A quoted name is a key if a colon
/// follows.
fn find_root(layout: Layout, raw: &[u8]) -> Option<&[u8]> {
    static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"choices\""));
    static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"delta\""));
    static CONTENT_BLOCK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"content_block\""));
    static CANDIDATES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"candidates\""));
    static OUTPUT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"output\""));
    let find = |finder: &Finder<'static>| {
        let mut values = finder.find_iter(raw).map(|at| raw[at + finder.needle().len()..].trim_ascii_start());
        values.find_map(|value| value.strip_prefix(b":"))
    };
    layout.roots().0.iter().find_map(|root| match *root {
        "choices" => find(&CHOICES),
        "delta" => find(&DELTA),
        "content_block" => find(&CONTENT_BLOCK),
        "candidates" => find(&CANDIDATES),
        "output" => find(&OUTPUT),
        _ => None,
    })
}

/// An event of the Responses API that brings text for the first time; `.done` and what follows repeat it. Sound is
/// base64.
fn is_text_delta(raw: &[u8]) -> bool {
    const SOUND: &[u8] = b"audio.delta";
    if raw.starts_with(b"event:") {
        let end = memchr::memchr2(b'\n', b'\r', raw).unwrap_or(raw.len());
        let name = raw[..end].trim_ascii_end();
        return name.ends_with(b".delta") && !name.ends_with(SOUND);
    }
    memchr::memmem::find(raw, b".delta\"").is_some() && memchr::memmem::find(raw, b"audio.delta\"").is_none()
}

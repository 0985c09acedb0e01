//! What a call consumed, in one shape for every provider, and how each provider's own report is read into it. Only the
//! provider's numbers: nothing is estimated here, and nothing is priced. A number that cannot be true is left out and
//! remembered as a flaw; the others stay.

mod count;
mod providers;
mod wire;

use serde::{Deserialize, Serialize};

pub use count::UsageFlaw;

/// What a call consumed. A missing number means that the provider did not report it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All input tokens, cached ones included, for every provider. Anthropic and Bedrock count cached tokens apart;
    /// there it is the sum of the uncached, the cache-read and the cache-written tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// All output tokens that are billed as such, reasoning included (for Gemini: candidates + thoughts).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Of the input, how much was read from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
    /// Of the input, how much was written to a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Of the cache writes, how much was written for the longer lifetime (Anthropic: one hour).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_long: Option<u64>,
    /// Of the output, how much was reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
    /// Of the input, how many tokens were audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<u64>,
    /// Of the output, how many tokens were audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<u64>,
    /// Of the input, how many tokens were images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_input: Option<u64>,
    /// Of the output, how many tokens were images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_output: Option<u64>,
    /// Images made, where they are billed by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<u64>,
    /// Videos made, where they are billed by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<u64>,
    /// Characters spoken, where speech is billed by them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characters: Option<u64>,
    /// Audio or video time in milliseconds, where it is billed by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_ms: Option<u64>,
    /// Searches made: Anthropic's web searches, Cohere's search units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub searches: Option<u64>,
}

impl Usage {
    /// The usage of a call whose provider reported none, as [`crate::estimate`] has it. It belongs to
    /// [`UsageSource::Estimated`].
    #[must_use]
    pub fn estimated(input: u64, output: u64) -> Self {
        Self { input: Some(input), output: Some(output), ..Self::default() }
    }

    /// Nothing at all was reported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every whole number with its name in records, in their order. `seconds_ms` is not among them: records have it as
    /// `seconds`.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, Option<u64>); 14] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cached", self.cached),
            ("cache_write", self.cache_write),
            ("cache_write_long", self.cache_write_long),
            ("reasoning", self.reasoning),
            ("audio_input", self.audio_input),
            ("audio_output", self.audio_output),
            ("image_input", self.image_input),
            ("image_output", self.image_output),
            ("image", self.image),
            ("video", self.video),
            ("characters", self.characters),
            ("searches", self.searches),
        ]
    }

    /// Every number in one row: those of [`Self::fields`], then `seconds_ms`. For forms that have no names.
    #[must_use]
    pub fn numbers(&self) -> [Option<u64>; 15] {
        let mut numbers = [None; 15];
        numbers[..14].copy_from_slice(&self.fields().map(|(_, value)| value));
        numbers[14] = self.seconds_ms;
        numbers
    }

    /// Reads what [`Self::numbers`] gave.
    #[must_use]
    pub fn from_numbers(numbers: [Option<u64>; 15]) -> Self {
        let [
            input,
            output,
            cached,
            cache_write,
            cache_write_long,
            reasoning,
            audio_input,
            audio_output,
            image_input,
            image_output,
            image,
            video,
            characters,
            searches,
            seconds_ms,
        ] = numbers;
        Self {
            input,
            output,
            cached,
            cache_write,
            cache_write_long,
            reasoning,
            audio_input,
            audio_output,
            image_input,
            image_output,
            image,
            video,
            characters,
            seconds_ms,
            searches,
        }
    }

    /// Adds what another call, response or turn consumed. A number that only one of them has is that one's.
    pub fn add(&mut self, other: &Self) {
        let mut sums = self.numbers();
        for (sum, more) in sums.iter_mut().zip(other.numbers()) {
            *sum = match (*sum, more) {
                (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
                (sum, more) => sum.or(more),
            };
        }
        *self = Self::from_numbers(sums);
    }

    /// Input and output together: what token limits and quotas count.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.input.unwrap_or(0).saturating_add(self.output.unwrap_or(0))
    }
}

/// Where the numbers of a record come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider reported them.
    Provider,
    /// The gateway estimated them.
    Estimated,
    /// There are none.
    #[default]
    None,
}

impl UsageSource {
    /// The name used in records and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}

/// How a provider writes its usage report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageForm {
    /// OpenAI in all its spellings (chat, Responses, embeddings, images, audio, Realtime) and what is compatible.
    Openai,
    /// Anthropic: cached tokens are counted apart from the input.
    Anthropic,
    /// Gemini's `usageMetadata`, also of Live.
    Gemini,
    /// DashScope's native services.
    Dashscope,
    /// Cohere's `usage` and `meta`.
    Cohere,
    /// Bedrock's converse.
    Bedrock,
}

/// A report that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageReport {
    /// The numbers; nothing if the report had none.
    pub usage: Option<Usage>,
    /// What was wrong with it.
    pub flaws: Vec<UsageFlaw>,
}

/// Reads a raw JSON usage object. `null` is a report without numbers, and no flaw.
#[must_use]
pub fn parse(form: UsageForm, raw: &[u8]) -> UsageReport {
    parse_overlaid(form, raw, None)
}

/// Reads a usage object and overlays it with a later one whose fields, where present, replace the earlier ones: the
/// way Anthropic's `message_start` and `message_delta` are meant.
#[must_use]
pub fn parse_overlaid(form: UsageForm, raw: &[u8], later: Option<&[u8]>) -> UsageReport {
    let mut flaws = Vec::new();
    let mut fields = wire::read(raw, &mut flaws);
    if let Some(later) = later {
        fields.overlay(&wire::read(later, &mut flaws));
    }
    let mut reader = count::Reader::new(flaws);
    let mut usage = match form {
        UsageForm::Openai => providers::openai(&fields, &mut reader),
        UsageForm::Anthropic => providers::anthropic(&fields, &mut reader),
        UsageForm::Gemini => providers::gemini(&fields, &mut reader),
        UsageForm::Dashscope => providers::dashscope(&fields, &mut reader),
        UsageForm::Cohere => providers::cohere(&fields, &mut reader),
        UsageForm::Bedrock => providers::bedrock(&fields, &mut reader),
    };
    refuse_impossible_parts(&mut usage, form, &mut reader);
    UsageReport { usage: (!usage.is_empty()).then_some(usage), flaws: reader.into_flaws() }
}

/// A part cannot be more than its whole: prices would count the rest as less than nothing.
fn refuse_impossible_parts(usage: &mut Usage, form: UsageForm, reader: &mut count::Reader) {
    usage.cached = reader.part(usage.cached, None, usage.input);
    usage.cache_write = reader.part(usage.cache_write, usage.cached, usage.input);
    usage.cache_write_long = reader.part(usage.cache_write_long, None, usage.cache_write);
    usage.reasoning = reader.part(usage.reasoning, None, usage.output);
    // DashScope's audio models count sound outside of the input.
    if form != UsageForm::Dashscope {
        usage.audio_input = reader.part(usage.audio_input, None, usage.input);
        usage.image_input = reader.part(usage.image_input, usage.audio_input, usage.input);
        usage.audio_output = reader.part(usage.audio_output, None, usage.output);
        usage.image_output = reader.part(usage.image_output, usage.audio_output, usage.output);
    }
}

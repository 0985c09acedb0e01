//! Each provider's report into the one shape. The wire facts are those of section 2 of the protocol notes.

use super::Usage;
use super::count::Reader;
use super::wire::Fields;

/// The details of the input; Realtime and audio write it in the singular.
const INPUT_DETAILS: &[&str] = &["prompt_tokens_details", "input_tokens_details", "input_token_details"];
const OUTPUT_DETAILS: &[&str] = &["completion_tokens_details", "output_tokens_details", "output_token_details"];

/// Chat, Responses, embeddings, images, audio by tokens or by time; DeepSeek's, Moonshot's and Mistral's extras.
pub(super) fn openai(fields: &Fields<'_>, reader: &mut Reader) -> Usage {
    let mut usage = tokens(fields, reader);
    let cached = fields
        .any_inside(INPUT_DETAILS, "cached_tokens")
        .or_else(|| fields.any(&["prompt_cache_hit_tokens", "cached_tokens"]));
    usage.cached = reader.count(cached);
    usage.cache_write = reader.count(fields.any_inside(INPUT_DETAILS, "cache_write_tokens"));
    count_cached_inside(&mut usage, fields);
    usage.audio_input = reader.count(fields.any_inside(INPUT_DETAILS, "audio_tokens"));
    usage.audio_output = reader.count(fields.any_inside(OUTPUT_DETAILS, "audio_tokens"));
    usage.image_input = reader.count(fields.any_inside(INPUT_DETAILS, "image_tokens"));
    usage.image_output = reader.count(fields.any_inside(OUTPUT_DETAILS, "image_tokens"));
    usage.seconds_ms = reader.milliseconds(fields.any(&["seconds", "prompt_audio_seconds"]));
    usage
}

/// Cached tokens are counted apart: the input is the sum.
pub(super) fn anthropic(fields: &Fields<'_>, reader: &mut Reader) -> Usage {
    let uncached = reader.count(fields.get("input_tokens"));
    let cached = reader.count(fields.get("cache_read_input_tokens"));
    let cache_write = reader.count(fields.get("cache_creation_input_tokens"));
    Usage {
        input: reader.sum(&[uncached, cached, cache_write]),
        output: reader.count(fields.get("output_tokens")),
        cached,
        cache_write,
        cache_write_long: reader.count(fields.inside("cache_creation", "ephemeral_1h_input_tokens")),
        reasoning: reader.count(fields.inside("output_tokens_details", "thinking_tokens")),
        searches: reader.count(fields.inside("server_tool_use", "web_search_requests")),
        ..Usage::default()
    }
}

/// Thoughts are billed as output but not counted in the candidates; tool prompts as input, but not in the prompt.
pub(super) fn gemini(fields: &Fields<'_>, reader: &mut Reader) -> Usage {
    const OUTPUT_LISTS: &[&str] = &["candidatesTokensDetails", "responseTokensDetails"];
    let prompt = reader.count(fields.get("promptTokenCount"));
    let tools = reader.count(fields.get("toolUsePromptTokenCount"));
    let candidates = reader.count(fields.any(&["candidatesTokenCount", "responseTokenCount"]));
    let thoughts = reader.count(fields.get("thoughtsTokenCount"));
    Usage {
        input: reader.sum(&[prompt, tools]),
        output: reader.sum(&[candidates, thoughts]),
        cached: reader.count(fields.get("cachedContentTokenCount")),
        reasoning: thoughts,
        audio_input: reader.count(fields.inside("promptTokensDetails", "AUDIO")),
        audio_output: reader.count(fields.any_inside(OUTPUT_LISTS, "AUDIO")),
        image_input: reader.count(fields.inside("promptTokensDetails", "IMAGE")),
        image_output: reader.count(fields.any_inside(OUTPUT_LISTS, "IMAGE")),
        ..Usage::default()
    }
}

/// Every native service: tokens, pictures, videos, characters or time.
pub(super) fn dashscope(fields: &Fields<'_>, reader: &mut Reader) -> Usage {
    let mut usage = tokens(fields, reader);
    usage.cached = reader.count(fields.any_inside(INPUT_DETAILS, "cached_tokens"));
    usage.cache_write = reader.count(fields.any_inside(INPUT_DETAILS, "cache_creation_input_tokens"));
    let audio = fields.any_inside(INPUT_DETAILS, "audio_tokens").or_else(|| fields.get("audio_tokens"));
    usage.audio_input = reader.count(audio);
    usage.audio_output = reader.count(fields.any_inside(OUTPUT_DETAILS, "audio_tokens"));
    let image = fields.any_inside(INPUT_DETAILS, "image_tokens").or_else(|| fields.get("image_tokens"));
    usage.image_input = reader.count(image);
    usage.image = reader.count(fields.get("image_count"));
    usage.video = reader.count(fields.get("video_count"));
    usage.characters = reader.count(fields.get("characters"));
    usage.seconds_ms = reader.milliseconds(fields.any(&["duration", "video_duration"]));
    usage
}

/// What is billed; if that is missing, what was counted.
pub(super) fn cohere(fields: &Fields<'_>, reader: &mut Reader) -> Usage {
    const PARENTS: &[&str] = &["billed_units", "tokens"];
    let cached = fields.any(&["cached_tokens"]);
    let mut usage = Usage {
        input: reader.count(fields.any_inside(PARENTS, "input_tokens")),
        output: reader.count(fields.any_inside(PARENTS, "output_tokens")),
        cached: reader.count(cached),
        image: reader.count(fields.inside("billed_units", "images")),
        searches: reader.count(fields.inside("billed_units", "search_units")),
        ..Usage::default()
    };
    // Compatible rerankers report OpenAI's names in the same place.
    if usage.is_empty() {
        usage = tokens(fields, reader);
    }
    usage
}

/// Converse counts cached tokens apart, as Anthropic does.
pub(super) fn bedrock(fields: &Fields<'_>, reader: &mut Reader) -> Usage {
    let uncached = reader.count(fields.get("inputTokens"));
    let cached = reader.count(fields.any(&["cacheReadInputTokens", "cacheReadInputTokenCount"]));
    let cache_write = reader.count(fields.any(&["cacheWriteInputTokens", "cacheWriteInputTokenCount"]));
    Usage {
        input: reader.sum(&[uncached, cached, cache_write]),
        output: reader.count(fields.get("outputTokens")),
        cached,
        cache_write,
        ..Usage::default()
    }
}

/// Some compatible providers count cached tokens outside of the input, as Anthropic does, where OpenAI counts them
/// inside. Their total gives them away: it is right only if the cached ones are added.
fn count_cached_inside(usage: &mut Usage, fields: &Fields<'_>) {
    let (Some(input), Some(output)) = (usage.input, usage.output) else { return };
    let apart = usage.cached.unwrap_or(0) + usage.cache_write.unwrap_or(0);
    if apart > 0 && total(fields) == Some(input + apart + output) {
        usage.input = Some(input + apart);
    }
}

/// The same of reasoning and the output; xAI counts it outside.
fn count_reasoning_inside(usage: &mut Usage, fields: &Fields<'_>) {
    let (Some(input), Some(output), Some(reasoning)) = (usage.input, usage.output, usage.reasoning) else { return };
    if reasoning > 0 && total(fields) == Some(input + output + reasoning) {
        usage.output = Some(output + reasoning);
    }
}

/// The total where it serves as a check only: what is wrong with it is no flaw.
fn total(fields: &Fields<'_>) -> Option<u64> {
    Reader::new(Vec::new()).count(fields.get("total_tokens"))
}

/// Input, output and reasoning in either spelling. A lone total (embeddings, rerank) is all input.
fn tokens(fields: &Fields<'_>, reader: &mut Reader) -> Usage {
    let input = fields.any(&["prompt_tokens", "input_tokens"]);
    let output = fields.any(&["completion_tokens", "output_tokens"]);
    let total = if input.is_none() && output.is_none() { fields.get("total_tokens") } else { None };
    let mut usage = Usage {
        input: reader.count(input.or(total)),
        output: reader.count(output),
        reasoning: reader.count(fields.any_inside(OUTPUT_DETAILS, "reasoning_tokens")),
        ..Usage::default()
    };
    count_reasoning_inside(&mut usage, fields);
    usage
}

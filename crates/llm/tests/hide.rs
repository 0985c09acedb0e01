//! Given a stream whose usage the gateway asked for, then the caller's stream without that one chunk, and at once.

use aiproxy_llm::meter::HideUsageChunk;
use bytes::Bytes;

const FIRST: &str = "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"usage\\\":{}\"}}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\": [ ],\"usage\":{\"prompt_tokens\":1}}\r\n\r\n";
const DONE: &str = "data: [DONE]\n\n";

fn push(filter: &mut HideUsageChunk, text: &str) -> String {
    let mut out = Vec::new();
    filter.push(Bytes::copy_from_slice(text.as_bytes()), &mut out);
    String::from_utf8_lossy(&out.concat()).into_owned()
}

#[test]
fn exactly_the_usage_chunk_is_hidden_wherever_it_is_cut() {
    let azure = "data: {\"choices\":[],\"prompt_filter_results\":[],\"usage\":null}\n\n";
    let mistral = "data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\n";
    let whole = [": hello\n\n", azure, FIRST, mistral, USAGE, DONE, "data: cut"].concat();
    let expected = [": hello\n\n", azure, FIRST, mistral, DONE, "data: cut"].concat();
    for size in 1..whole.len() {
        let mut filter = HideUsageChunk::new();
        let mut out = Vec::new();
        for piece in whole.as_bytes().chunks(size) {
            filter.push(Bytes::copy_from_slice(piece), &mut out);
        }
        filter.finish(&mut out);
        assert_eq!(String::from_utf8(out.concat()).unwrap(), expected, "in pieces of {size}");
        assert_eq!(filter.hidden(), 1);
    }
}

#[test]
fn an_event_that_cannot_be_it_is_released_at_once() {
    let mut filter = HideUsageChunk::new();
    assert_eq!(push(&mut filter, "data: {\"choices\":["), "", "may still be it");
    assert_eq!(push(&mut filter, "{\"de"), "data: {\"choices\":[{\"de", "is not");
    assert_eq!(push(&mut filter, "lta\":{}}],\"usage\":{"), "lta\":{}}],\"usage\":{");
    assert_eq!(push(&mut filter, "}}\n\ndata: [DONE"), "}}\n\ndata: [DONE", "an array is not");
    assert_eq!(push(&mut filter, "]\n\nda"), "]\n\n");
    let mut out = Vec::new();
    filter.finish(&mut out);
    assert_eq!(out.concat(), b"da");
}

#[test]
fn what_is_held_is_bounded() {
    let mut filter = HideUsageChunk::new();
    assert_eq!(push(&mut filter, "data: {\"x\":\""), "");
    let filler = "x".repeat(100_000);
    assert_eq!(push(&mut filter, &filler).len(), 12 + filler.len());
}

#[test]
fn whole_chunks_pass_without_a_copy() {
    let chunk = Bytes::copy_from_slice([FIRST, FIRST].concat().as_bytes());
    let mut out = Vec::new();
    HideUsageChunk::new().push(chunk.clone(), &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].as_ptr(), out[0].len()), (chunk.as_ptr(), chunk.len()));
}

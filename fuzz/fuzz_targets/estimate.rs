//! Tokens of a text and of a prompt, estimated: cut anywhere, the prompt's are the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| aiproxy_llm::fuzzing::estimate(input));

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aiproxy_llm::fuzzing::realtime_meter(input));

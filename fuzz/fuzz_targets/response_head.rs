//! An upstream's response head: any bytes are a head, not one yet, or refused; never more than was given.

#![no_main]

use aiproxy_gateway::upstream::response_head::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((_, length))) = parse(bytes, &http::Method::POST) {
        assert!(length <= bytes.len());
    }
});

//! The chunked coding: any bytes, cut anywhere, give the same data or the same refusal.

#![no_main]

use aiproxy_gateway::upstream::chunked::ChunkedDecoder;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    let decode = |cut: usize| {
        let (mut decoder, mut data) = (ChunkedDecoder::default(), BytesMut::new());
        let first = decoder.decode(&bytes[..cut], &mut data)?;
        let second = decoder.decode(&bytes[cut..], &mut data)?;
        Ok::<_, aiproxy_gateway::upstream::chunked::BrokenChunk>((data, first + second, decoder.is_done()))
    };
    let cut = usize::from(cut).min(bytes.len());
    match (decode(0), decode(cut)) {
        (Ok(whole), Ok(parts)) => assert_eq!(whole, parts),
        (whole, parts) => assert_eq!(whole.is_err(), parts.is_err()),
    }
});

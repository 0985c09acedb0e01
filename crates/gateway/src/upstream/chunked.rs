//! The chunked transfer coding (RFC 9112 §7.1), decoded strictly.
//!
//! Knows nothing of sockets. Extensions and trailers are read and dropped, within a bound. What is stricter than most:
//! a lone LF never ends a line, and nothing but CRLF may follow a chunk's data.

use bytes::BytesMut;

/// Upper bound for one size line with its extension, and for all trailers together.
const LINE_LIMIT: usize = 8 * 1024;

/// Where in the coding the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the hexadecimal size; how many digits were seen.
    Size(u8),
    /// In an extension, up to CR.
    Extension,
    /// Before the LF that ends the size line.
    SizeLineFeed,
    /// In the data.
    Data,
    /// Before the CR behind the data.
    DataCarriageReturn,
    /// Before the LF behind the data.
    DataLineFeed,
    /// At the start of a trailer line.
    TrailerStart,
    /// Inside a trailer line.
    Trailer,
    /// Before the LF that ends a trailer line.
    TrailerLineFeed,
    /// Before the last LF.
    EndLineFeed,
    /// Behind the last byte.
    Done,
}

/// A decoder that may be fed bytes cut anywhere.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    remaining: u64,
    line_bytes: usize,
}

/// The coding is broken; the connection cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenChunk(pub &'static str);

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self { state: State::Size(0), remaining: 0, line_bytes: 0 }
    }
}

impl ChunkedDecoder {
    /// Whether the last chunk and the trailers were read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Appends the data in `input` to `output` and returns how much of `input` belongs to this body.
    ///
    /// Less than all is consumed only when the body is done.
    pub fn decode(&mut self, input: &[u8], output: &mut BytesMut) -> Result<usize, BrokenChunk> {
        let mut position = 0;
        while position < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let available = (input.len() - position) as u64;
                let take = available.min(self.remaining) as usize;
                output.extend_from_slice(&input[position..position + take]);
                position += take;
                self.remaining -= take as u64;
                if self.remaining == 0 {
                    self.state = State::DataCarriageReturn;
                }
                continue;
            }
            self.step(input[position])?;
            position += 1;
        }
        Ok(position)
    }

    fn step(&mut self, byte: u8) -> Result<(), BrokenChunk> {
        self.state = match (self.state, byte) {
            (State::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == 16 {
                    return Err(BrokenChunk("chunk size too long"));
                }
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.remaining = self.remaining << 4 | u64::from(digit);
                State::Size(digits + 1)
            }
            (State::Size(1..), b'\r') => State::SizeLineFeed,
            (State::Size(1..), b';' | b' ' | b'\t') => State::Extension,
            (State::Extension, b'\r') => State::SizeLineFeed,
            (State::Extension, b'\n') => return Err(BrokenChunk("line feed in a chunk extension")),
            (State::Extension, _) => self.within_limit(State::Extension)?,
            (State::SizeLineFeed, b'\n') => {
                self.line_bytes = 0;
                if self.remaining == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCarriageReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size(0),
            (State::TrailerStart, b'\r') => State::EndLineFeed,
            (State::TrailerStart | State::Trailer, b'\n') => return Err(BrokenChunk("line feed in a trailer")),
            (State::Trailer, b'\r') => State::TrailerLineFeed,
            (State::TrailerStart | State::Trailer, _) => self.within_limit(State::Trailer)?,
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            (State::EndLineFeed, b'\n') => State::Done,
            _ => return Err(BrokenChunk("unexpected byte in the chunked coding")),
        };
        Ok(())
    }

    fn within_limit(&mut self, next: State) -> Result<State, BrokenChunk> {
        self.line_bytes += 1;
        if self.line_bytes > LINE_LIMIT { Err(BrokenChunk("chunk extension or trailers too long")) } else { Ok(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_split(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), BrokenChunk> {
        let mut decoder = ChunkedDecoder::default();
        let mut output = BytesMut::new();
        let mut consumed = 0;
        let mut start = 0;
        for &cut in cuts.iter().chain([&input.len()]) {
            consumed += decoder.decode(&input[start..cut], &mut output)?;
            start = cut;
        }
        Ok((output.to_vec(), consumed, decoder.is_done()))
    }

    #[test]
    fn data_extensions_and_trailers_cut_at_every_byte_give_the_same_body() {
        let input = b"5;name=value\r\nhello\r\nA\r\n, world!!!\r\n0\r\nx-trailer: 1\r\n\r\nHTTP/1.1";
        let whole = decode_split(input, &[]).unwrap();
        assert_eq!(whole, (b"hello, world!!!".to_vec(), input.len() - 8, true));
        for cut in 0..input.len() {
            assert_eq!(decode_split(input, &[cut]).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn broken_codings_are_refused() {
        for broken in [
            &b"\r\n"[..],
            b"5\nhello",
            b"5\r\nhelloX",
            b"5\r\nhello\n",
            b"g\r\n",
            b"-1\r\n",
            b"11111111111111111\r\n",
            b"0\r\nx: 1\n\r\n",
            b"1;a\n\r\n",
        ] {
            assert!(decode_split(broken, &[]).is_err(), "{:?}", String::from_utf8_lossy(broken));
        }
        let endless = [b"1;".as_slice(), &[b'a'; LINE_LIMIT + 1]].concat();
        assert!(decode_split(&endless, &[]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_cuts_do_not_matter(
            input in proptest::collection::vec(proptest::prop_oneof![
                proptest::prelude::Just(b'\r'), proptest::prelude::Just(b'\n'), proptest::prelude::Just(b'1'),
                proptest::prelude::Just(b'0'), proptest::prelude::any::<u8>()], 0..60),
            cut in 0usize..60,
        ) {
            let cut = cut.min(input.len());
            let whole = decode_split(&input, &[]);
            let split = decode_split(&input, &[cut]);
            proptest::prop_assert_eq!(whole.is_err(), split.is_err());
            if let (Ok(whole), Ok(split)) = (whole, split) {
                proptest::prop_assert_eq!(whole, split);
            }
        }
    }
}

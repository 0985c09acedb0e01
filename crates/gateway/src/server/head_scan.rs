//! A look at a request head for what two parsers may read differently. Pure; fed bytes cut anywhere.

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// A line that ends with LF alone.
    LoneLineFeed,
    /// Content-Length beside Transfer-Encoding.
    TwoFramings,
    /// Content-Length more than once.
    RepeatedLength,
    /// Transfer-Encoding more than once: chunked must not be applied twice (RFC 9112 §6.1).
    RepeatedCoding,
}

/// Longest header name that matters.
const NAME_LIMIT: usize = "transfer-encoding".len();

/// Follows the lines of one head.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// The beginning of the current line, lower case, as far as a name can reach.
    name: [u8; NAME_LIMIT + 1],
    length: usize,
    previous: u8,
    lines: usize,
    has_length: bool,
    has_coding: bool,
}

impl HeadScan {
    /// Looks at the next bytes. `Ok(true)`: the head is complete (what follows is not looked at).
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<bool, Suspicion> {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            self.extend(line);
            if self.previous != b'\r' {
                return Err(Suspicion::LoneLineFeed);
            }
            if self.end_line()? {
                return Ok(true);
            }
            rest = &after[1..];
        }
        self.extend(rest);
        Ok(false)
    }

    fn extend(&mut self, part: &[u8]) {
        let room = self.name.len() - self.length;
        for (slot, byte) in self.name[self.length..].iter_mut().zip(part) {
            *slot = byte.to_ascii_lowercase();
        }
        self.length += part.len().min(room);
        if let Some(last) = part.last() {
            self.previous = *last;
        }
    }

    /// True at the empty line that ends the head. An empty line before the request line is allowed (RFC 9112 §2.2).
    fn end_line(&mut self) -> Result<bool, Suspicion> {
        let line = &self.name[..self.length];
        if line == b"\r" {
            let done = self.lines > 0;
            self.begin_line();
            return Ok(done);
        }
        self.lines += 1;
        if line.starts_with(b"content-length:") {
            if self.has_length {
                return Err(Suspicion::RepeatedLength);
            }
            self.has_length = true;
        } else if line.starts_with(b"transfer-encoding:") {
            if self.has_coding {
                return Err(Suspicion::RepeatedCoding);
            }
            self.has_coding = true;
        }
        self.begin_line();
        if self.has_length && self.has_coding { Err(Suspicion::TwoFramings) } else { Ok(false) }
    }

    fn begin_line(&mut self) {
        self.length = 0;
        self.previous = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(head: &[u8], cut: usize) -> Result<bool, Suspicion> {
        let mut scan = HeadScan::default();
        match scan.feed(&head[..cut])? {
            true => Ok(true),
            false => scan.feed(&head[cut..]),
        }
    }

    #[test]
    fn heads_are_judged_alike_wherever_they_are_cut() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(true)),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nbody\nwith lone line feeds", Ok(true)),
            ("GET / HTTP/1.1\r\nHost: a\r\n", Ok(false)),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", Err(Suspicion::LoneLineFeed)),
            ("GET / HTTP/1.1\r\nHost: a\n\n", Err(Suspicion::LoneLineFeed)),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", Err(Suspicion::LoneLineFeed)),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Err(Suspicion::TwoFramings)),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n", Err(Suspicion::TwoFramings)),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nCONTENT-LENGTH: 1\r\n\r\n", Err(Suspicion::RepeatedLength)),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
                Err(Suspicion::RepeatedCoding),
            ),
            ("POST / HTTP/1.1\r\nX-Content-Length: 1\r\nContent-Length: 1\r\n\r\n", Ok(true)),
        ] {
            for cut in 0..=head.len() {
                assert_eq!(scan(head.as_bytes(), cut), expected, "{head:?} cut at {cut}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_cuts_do_not_matter(
            head in proptest::collection::vec(proptest::prop_oneof![
                proptest::prelude::Just(b'\r'), proptest::prelude::Just(b'\n'), proptest::prelude::any::<u8>()], 0..80),
            cut in 0usize..80,
        ) {
            let cut = cut.min(head.len());
            proptest::prop_assert_eq!(scan(&head, cut), scan(&head, 0));
        }
    }
}

//! Undoing content codings (RFC 9110 §8.4), with a cap: what grows beyond it is cut, whatever it claims to be.

use std::io::{self, Read};

/// More codings than this, one in another, are nobody's intention.
const MOST_CODINGS: usize = 3;
/// Largest zstd window, as a power of two: what RFC 9659 allows on the web. A larger one would take that much memory.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Why a body is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// More was sent than is kept.
    Size,
    /// It grew beyond the cap while it was decoded.
    Bomb,
    /// Its coding is broken, or it ends in the middle.
    Broken,
}

impl Cut {
    /// As stored bodies say it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Bomb => "bomb",
            Self::Broken => "broken",
        }
    }
}

/// A body without its codings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    pub(super) cut: Option<Cut>,
}

/// Undoes the codings named in `content_encoding`. `cut` says what is missing of `bytes`; of the outcome there are at
/// most `cap` bytes. `None` if a coding is not known, or there are too many: nobody can tell what is inside.
pub(super) fn decode(content_encoding: &str, bytes: Vec<u8>, mut cut: Option<Cut>, cap: usize) -> Option<Decoded> {
    let names = content_encoding.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    let codings: Vec<Coding> = names.map(Coding::of).collect::<Option<_>>()?;
    if codings.len() > MOST_CODINGS {
        return None;
    }
    let mut bytes = bytes;
    // They are listed in the order they were applied.
    for coding in codings.into_iter().rev() {
        let (decoded, end) = coding.undo(&bytes, cap);
        bytes = decoded;
        cut = match end {
            End::Whole => cut,
            End::TooLong => Some(Cut::Bomb),
            // A beginning ends in the middle.
            End::Broken => cut.or(Some(Cut::Broken)),
        };
    }
    Some(Decoded { bytes, cut })
}

#[derive(Clone, Copy, Debug)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// How decoding ended.
enum End {
    Whole,
    TooLong,
    Broken,
}

impl Coding {
    fn of(name: &str) -> Option<Self> {
        let names = [
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("deflate", Self::Deflate),
            ("br", Self::Brotli),
            ("zstd", Self::Zstd),
        ];
        names.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, coding)| coding)
    }

    fn undo(self, bytes: &[u8], cap: usize) -> (Vec<u8>, End) {
        match self {
            Self::Gzip => read(flate2::read::MultiGzDecoder::new(bytes), cap),
            Self::Deflate => match read(flate2::read::ZlibDecoder::new(bytes), cap) {
                // Some send it without the zlib envelope that the name means.
                (decoded, End::Broken) if decoded.is_empty() => read(flate2::read::DeflateDecoder::new(bytes), cap),
                outcome => outcome,
            },
            Self::Brotli => read(brotli::Decompressor::new(bytes, 4096), cap),
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                    .and_then(|mut decoder| decoder.window_log_max(ZSTD_WINDOW_LOG).map(|()| decoder));
                match decoder {
                    Ok(decoder) => read(decoder, cap),
                    Err(_) => (Vec::new(), End::Broken),
                }
            }
        }
    }
}

fn read(mut decoder: impl Read, cap: usize) -> (Vec<u8>, End) {
    let mut decoded = Vec::new();
    // Small, because what a broken piece gave before the break is lost with it.
    let mut piece = [0; 2048];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return (decoded, End::Whole),
            Ok(length) => {
                let room = cap - decoded.len();
                decoded.extend_from_slice(&piece[..length.min(room)]);
                if length > room {
                    return (decoded, End::TooLong);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return (decoded, End::Broken),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    const CAP: usize = 1 << 20;

    pub(crate) fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::new();
        match coding {
            "gzip" => {
                let mut encoder = flate2::write::GzEncoder::new(&mut encoded, flate2::Compression::default());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            "deflate" => {
                let mut encoder = flate2::write::ZlibEncoder::new(&mut encoded, flate2::Compression::default());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            "br" => brotli::CompressorWriter::new(&mut encoded, 4096, 5, 20).write_all(plain).unwrap(),
            _ => encoded = zstd::stream::encode_all(plain, 3).unwrap(),
        }
        encoded
    }

    fn decoded(coding: &str, bytes: Vec<u8>, cut: Option<Cut>) -> (Vec<u8>, Option<Cut>) {
        let decoded = decode(coding, bytes, cut, CAP).unwrap();
        (decoded.bytes, decoded.cut)
    }

    /// Text that no coding makes very small.
    fn sentence() -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        (0..20_000).map(|_| random.alphanumeric() as u8).collect()
    }

    #[test]
    fn every_coding_is_undone_also_one_in_another() {
        let plain = sentence();
        for coding in ["gzip", "deflate", "br", "zstd"] {
            assert_eq!(decoded(coding, encode(coding, &plain), None), (plain.clone(), None), "{coding}");
            let twice = encode("gzip", &encode(coding, &plain));
            assert_eq!(decoded(&format!("{coding}, GZIP"), twice, None), (plain.clone(), None), "{coding}");
        }
        assert_eq!(decoded("identity", plain.clone(), None), (plain.clone(), None));
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        raw.write_all(&plain).unwrap();
        assert_eq!(decoded("deflate", raw.finish().unwrap(), None), (plain, None), "without its envelope");
    }

    #[test]
    fn of_a_cut_body_the_beginning_is_read() {
        let plain = sentence();
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let mut encoded = encode(coding, &plain);
            encoded.truncate(encoded.len() * 9 / 10);
            let (bytes, cut) = decoded(coding, encoded.clone(), Some(Cut::Size));
            assert!(plain.starts_with(&bytes), "{coding}");
            assert_eq!(cut, Some(Cut::Size), "{coding}");
            if coding != "zstd" {
                // zstd gives nothing before a block is whole.
                assert!(bytes.len() > plain.len() / 2, "{coding}: {}", bytes.len());
            }
            assert_eq!(decoded(coding, encoded, None).1, Some(Cut::Broken), "{coding}: it was sent like that");
        }
    }

    #[test]
    fn a_bomb_is_cut_at_the_cap() {
        let zeros = vec![0; 10 << 20];
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let bomb = encode(coding, &zeros);
            assert!(bomb.len() < 20_000, "{coding}");
            assert_eq!(decoded(coding, bomb, None), (vec![0; CAP], Some(Cut::Bomb)), "{coding}");
        }
        let nested = encode("gzip", &encode("gzip", &zeros));
        assert_eq!(decoded("gzip, gzip", nested, None), (vec![0; CAP], Some(Cut::Bomb)));
        let exact = encode("gzip", &zeros[..CAP]);
        assert_eq!(decoded("gzip", exact, None), (vec![0; CAP], None), "the cap itself is allowed");
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        assert_eq!(decode("compress", b"x".to_vec(), None, CAP), None);
        assert_eq!(decode("gzip, gzip, gzip, gzip", b"x".to_vec(), None, CAP), None);
        assert_eq!(decoded("gzip", b"not gzip".to_vec(), None), (Vec::new(), Some(Cut::Broken)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_decoded_within_the_cap(bytes: Vec<u8>, coding in "(gzip|deflate|br|zstd)(, (gzip|deflate|br|zstd))?") {
            let decoded = decode(&coding, bytes, None, 100).unwrap();
            proptest::prop_assert!(decoded.bytes.len() <= 100);
        }
    }
}

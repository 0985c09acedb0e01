//! Reading usage out of a response that passes by, encoded or not, without keeping it.

use std::io::Write;

use aiproxy_llm::meter::{Meter, Metered};

/// Decoded bytes looked at in one response. Beyond that (a bomb, or a day-long stream) usage is no longer read.
const DECODED_LIMIT: u64 = 1 << 30;

/// Feeds decoded bytes to the meter as a decoder writes them.
struct MeterSink {
    /// Gone once it was asked for its result.
    meter: Option<Meter>,
    decoded: u64,
}

impl Write for MeterSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.decoded += bytes.len() as u64;
        if self.decoded > DECODED_LIMIT {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        if let Some(meter) = &mut self.meter {
            meter.feed(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The content coding of a response (RFC 9110 §8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// None.
    Identity,
    /// gzip.
    Gzip,
    /// zlib, which is what `deflate` means.
    Deflate,
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstd,
    /// Something else, or several: not looked into.
    Unknown,
}

impl Coding {
    /// Reads a `Content-Encoding`.
    pub(crate) fn of(header: Option<&http::HeaderValue>) -> Self {
        let Some(value) = header else { return Self::Identity };
        match value.as_bytes().to_ascii_lowercase().trim_ascii() {
            b"" | b"identity" => Self::Identity,
            b"gzip" | b"x-gzip" => Self::Gzip,
            b"deflate" => Self::Deflate,
            b"br" => Self::Brotli,
            b"zstd" => Self::Zstd,
            _ => Self::Unknown,
        }
    }
}

enum Stage {
    Identity(Option<Meter>),
    Gzip(flate2::write::MultiGzDecoder<MeterSink>),
    Deflate(flate2::write::ZlibDecoder<MeterSink>),
    Brotli(Box<brotli::DecompressorWriter<MeterSink>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, MeterSink>>),
}

/// A meter behind the right decoder.
pub(crate) struct Metering {
    stage: Stage,
    broken: bool,
}

impl Metering {
    /// `None` where the coding is unknown: nothing can be read then. Boxed: it is large and handed on a few times.
    pub(crate) fn boxed(meter: Meter, coding: Coding) -> Option<Box<Self>> {
        let sink = |meter| MeterSink { meter: Some(meter), decoded: 0 };
        let stage = match coding {
            Coding::Identity => Stage::Identity(Some(meter)),
            Coding::Gzip => Stage::Gzip(flate2::write::MultiGzDecoder::new(sink(meter))),
            Coding::Deflate => Stage::Deflate(flate2::write::ZlibDecoder::new(sink(meter))),
            Coding::Brotli => Stage::Brotli(Box::new(brotli::DecompressorWriter::new(sink(meter), 4096))),
            Coding::Zstd => Stage::Zstd(Box::new(zstd::stream::write::Decoder::new(sink(meter)).ok()?)),
            Coding::Unknown => return None,
        };
        Some(Box::new(Self { stage, broken: false }))
    }

    /// Looks at the next bytes as they came from the upstream.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.broken {
            return;
        }
        let fed = match &mut self.stage {
            Stage::Identity(meter) => {
                if let Some(meter) = meter {
                    meter.feed(bytes);
                }
                return;
            }
            Stage::Gzip(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Stage::Deflate(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Stage::Brotli(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Stage::Zstd(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
        };
        self.broken = fed.is_err();
    }

    /// Whether the event was seen that tells the client that nothing more comes.
    pub(crate) fn is_terminated(&self) -> bool {
        let meter = match &self.stage {
            Stage::Identity(meter) => meter,
            Stage::Gzip(decoder) => &decoder.get_ref().meter,
            Stage::Deflate(decoder) => &decoder.get_ref().meter,
            Stage::Brotli(decoder) => &decoder.get_ref().meter,
            Stage::Zstd(decoder) => &decoder.get_ref().meter,
        };
        meter.as_ref().is_some_and(Meter::is_terminated)
    }

    /// What was seen. Broken coding gives what was read before the break.
    pub(crate) fn finish(mut self) -> Metered {
        let meter = match &mut self.stage {
            Stage::Identity(meter) => meter.take(),
            Stage::Gzip(decoder) => decoder.get_mut().meter.take(),
            Stage::Deflate(decoder) => decoder.get_mut().meter.take(),
            Stage::Brotli(decoder) => decoder.get_mut().meter.take(),
            Stage::Zstd(decoder) => decoder.get_mut().meter.take(),
        };
        meter.map(Meter::finish).unwrap_or_default()
    }
}

//! A real, tiny PNG (8 × 8 pixels of one colour) made by code: what the demo's image models paint.

use crate::vector::fingerprint;

const SIDE: u32 = 8;

/// Paints `prompt`; the same prompt and `number` give the same picture.
pub(crate) fn paint(prompt: &str, number: usize) -> Vec<u8> {
    let [red, green, blue, ..] = fingerprint(format!("{number}:{prompt}").as_bytes()).to_le_bytes();
    let row = std::iter::once(0).chain([red, green, blue].repeat(SIDE as usize));
    let pixels: Vec<u8> = std::iter::repeat_n(row, SIDE as usize).flatten().collect();
    let mut header = [SIDE.to_be_bytes(), SIDE.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.extend(chunk(b"IHDR", &header));
    png.extend(chunk(b"IDAT", &stored(&pixels)));
    png.extend(chunk(b"IEND", &[]));
    png
}

/// One PNG chunk: length, kind, data, CRC-32 of kind and data.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), data].concat();
    [&(data.len() as u32).to_be_bytes(), body.as_slice(), &crc32(&body).to_be_bytes()].concat()
}

/// A zlib stream of one stored (uncompressed) block; `data` must be shorter than 64 KiB.
fn stored(data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    let mut stream = vec![0x78, 0x01, 0x01];
    stream.extend(length.to_le_bytes());
    stream.extend((!length).to_le_bytes());
    stream.extend(data);
    stream.extend(adler32(data).to_be_bytes());
    stream
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1, 0), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_are_the_well_known_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn a_picture_is_a_png_and_depends_on_the_prompt() {
        let png = paint("a red circle", 0);
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xaeB`\x82"));
        assert_eq!(png, paint("a red circle", 0));
        assert_ne!(png, paint("a red circle", 1));
    }
}

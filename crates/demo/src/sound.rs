//! Real, short sound made by code, and how long some sound lasts.
//!
//! WAV and PCM carry a 440 Hz tone, MP3 carries frames of silence; each lasts [`milliseconds`] of its text.

const RATE: u32 = 8_000;
/// MPEG-1 layer III, 128 kbit/s, 44.1 kHz, mono.
const MP3_HEADER: [u8; 4] = [0xff, 0xfb, 0x90, 0xc4];
const MP3_FRAME: usize = 417;
const MP3_FRAME_MICROSECONDS: u64 = 26_122;

/// How long the demo takes to say `text`: 50 ms for a character, at least 0.2 s and at most 10 s.
pub(crate) fn milliseconds(text: &str) -> u64 {
    (text.chars().count() as u64 * 50).clamp(200, 10_000)
}

/// A tone as 16-bit little-endian mono samples at 8 kHz.
pub(crate) fn pcm(milliseconds: u64) -> Vec<u8> {
    pcm_at(RATE, milliseconds)
}

/// The same tone with `rate` samples a second.
pub(crate) fn pcm_at(rate: u32, milliseconds: u64) -> Vec<u8> {
    let samples = milliseconds * u64::from(rate) / 1000;
    let tone = |sample: u64| (sample as f32 * 440.0 * std::f32::consts::TAU / rate as f32).sin();
    (0..samples).flat_map(|sample| ((tone(sample) * 8_000.0) as i16).to_le_bytes()).collect()
}

/// The same tone as a RIFF/WAVE file.
pub(crate) fn wav(milliseconds: u64) -> Vec<u8> {
    let samples = pcm(milliseconds);
    let length = samples.len() as u32;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(RATE.to_le_bytes());
    file.extend((RATE * 2).to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

/// Silence as MP3 frames.
pub(crate) fn mp3(milliseconds: u64) -> Vec<u8> {
    let frames = (milliseconds * 1000).div_ceil(MP3_FRAME_MICROSECONDS) as usize;
    let mut frame = vec![0; MP3_FRAME];
    frame[..4].copy_from_slice(&MP3_HEADER);
    frame.repeat(frames)
}

/// How long `sound` lasts in seconds: from its header if it is a WAV, else as if it were 128 kbit/s.
pub(crate) fn seconds(sound: &[u8]) -> f64 {
    let bytes_per_second = match sound.get(28..32) {
        Some(&[a, b, c, d]) if sound.starts_with(b"RIFF") => u32::from_le_bytes([a, b, c, d]).max(1),
        _ => 16_000,
    };
    let length = if sound.starts_with(b"RIFF") { sound.len().saturating_sub(44) } else { sound.len() };
    (length as f64 / f64::from(bytes_per_second) * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_lasts_as_long_as_it_says() {
        assert_eq!(seconds(&wav(1500)), 1.5);
        assert_eq!(wav(1000).len(), 44 + 16_000);
    }

    #[test]
    fn an_mp3_is_made_of_frames() {
        let sound = mp3(200);
        assert_eq!((sound.len() % MP3_FRAME, &sound[..2]), (0, [0xff, 0xfb].as_slice()));
        assert!((seconds(&sound) - 0.2).abs() < 0.03);
    }

    #[test]
    fn long_texts_do_not_become_long_sound() {
        assert_eq!([milliseconds(""), milliseconds("hello"), milliseconds(&"x".repeat(999))], [200, 250, 10_000]);
    }
}

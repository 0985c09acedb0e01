//! Embedding vectors: deterministic, of length one, and alike for texts that share words.

const DEFAULT_DIMENSIONS: usize = 256;
const LARGEST_DIMENSIONS: u64 = 4096;

/// How many dimensions a caller gets who asked for `wanted`; `None` when that many cannot be had.
pub(crate) fn dimensions(wanted: Option<u64>) -> Option<usize> {
    match wanted {
        None => Some(DEFAULT_DIMENSIONS),
        Some(wanted) if (1..=LARGEST_DIMENSIONS).contains(&wanted) => Some(wanted as usize),
        Some(_) => None,
    }
}

/// The vector of `text`: the sum of one pseudo-random direction for each word, scaled to length one.
pub(crate) fn embed(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0f32; dimensions];
    for word in words(text) {
        let mut state = fingerprint(word.as_bytes());
        for component in &mut vector {
            state = next(state);
            *component += (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
        }
    }
    let length = vector.iter().map(|component| component * component).sum::<f32>().sqrt();
    match length > 0.0 {
        true => vector.iter_mut().for_each(|component| *component /= length),
        false => vector[0] = 1.0,
    }
    vector
}

/// How alike two texts are, from 0 to 1: what the demo's reranker sorts by.
pub(crate) fn likeness(left: &str, right: &str) -> f32 {
    let (left, right) = (embed(left, DEFAULT_DIMENSIONS), embed(right, DEFAULT_DIMENSIONS));
    left.iter().zip(&right).map(|(left, right)| left * right).sum::<f32>().clamp(0.0, 1.0)
}

/// The vector as little-endian `f32`, the layout of OpenAI's `encoding_format: base64`.
pub(crate) fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|component| component.to_le_bytes()).collect()
}

/// FNV-1a: a stable number for some bytes.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// SplitMix64, one step.
fn next(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Lower-case words; every CJK character is a word.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for character in text.chars() {
        if crate::words::is_cjk(character) {
            words.push(character.to_string());
        } else if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_gives_the_same_vector_of_length_one() {
        let vector = embed("hello world", 8);
        assert_eq!(vector, embed("Hello, world!", 8));
        assert!((vector.iter().map(|component| component * component).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(bytes(&vector).len(), 32);
        assert_eq!(embed("", 2), [1.0, 0.0]);
    }

    #[test]
    fn texts_that_share_words_are_more_alike() {
        assert!(likeness("red apple", "a red fruit") > likeness("red apple", "blue whale"));
        assert!(likeness("苹果好吃", "苹果") > likeness("苹果好吃", "鲸鱼"));
    }

    #[test]
    fn dimensions_are_bounded() {
        assert_eq!([None, Some(3), Some(0), Some(5000)].map(dimensions), [Some(256), Some(3), None, None]);
    }
}

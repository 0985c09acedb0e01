//! Standard base64 with padding (RFC 4648 §4): vectors, pictures and sound travel in this form.

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;

/// Encodes `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes `text`; none if it is not base64.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn the_vectors_of_rfc_4648_hold() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let encoded = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| encode(text.as_bytes())), encoded);
        assert_eq!(encoded.map(decode), texts.map(|text| Some(text.as_bytes().to_vec())));
        assert_eq!(["Zg", "Zm9v!", "Z g=="].map(decode), [None, None, None]);
    }
}

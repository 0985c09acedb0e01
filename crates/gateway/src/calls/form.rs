//! The form of an offer (RFC 7578): read from a server that begins a call, written to the provider. Two parts, the offer
//! and the session; the bytes of the offer are never touched.

use bytes::Bytes;
use memchr::memmem;

/// More parts than an offer has.
const MOST_PARTS: usize = 16;

/// The parts of an offer that a form has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OfferForm {
    /// The SDP offer.
    pub(super) sdp: Option<Bytes>,
    /// The session, as JSON.
    pub(super) session: Option<Bytes>,
}

/// Reads a whole form whose parts `boundary` separates. Parts of other names are left out.
pub(super) fn read(body: &Bytes, boundary: &str) -> Result<OfferForm, &'static str> {
    const BROKEN: &str = "The form is cut off or broken.";
    let delimiter = format!("\r\n--{boundary}");
    // The first boundary stands at the very beginning, or behind a preamble.
    let mut at = if body.starts_with(&delimiter.as_bytes()[2..]) {
        delimiter.len() - 2
    } else {
        memmem::find(body, delimiter.as_bytes()).ok_or(BROKEN)? + delimiter.len()
    };
    let mut form = OfferForm::default();
    for _ in 0..MOST_PARTS {
        at += body[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if body[at..].starts_with(b"--") {
            return Ok(form);
        }
        if !body[at..].starts_with(b"\r\n") {
            return Err(BROKEN);
        }
        // A part without headers has its blank line at once.
        let head = memmem::find(&body[at..], b"\r\n\r\n").ok_or(BROKEN)?;
        let start = at + head + 4;
        let length = memmem::find(&body[start..], delimiter.as_bytes()).ok_or(BROKEN)?;
        let field = match name_of(&body[at..at + head]).as_deref() {
            Some("sdp") => Some(&mut form.sdp),
            Some("session") => Some(&mut form.session),
            _ => None,
        };
        if let Some(field) = field
            && field.replace(body.slice(start..start + length)).is_some()
        {
            return Err("The form has a part twice.");
        }
        at = start + length + delimiter.len();
    }
    Err("The form has too many parts.")
}

/// The name in the `Content-Disposition` of a part.
fn name_of(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    disposition.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case("name").then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// A form to be sent.
pub(super) struct Written {
    /// Its bytes.
    pub(super) pieces: Vec<Bytes>,
    /// Its `Content-Type`.
    pub(super) content_type: String,
    /// Where the session begins in it.
    pub(super) session_at: usize,
}

/// Writes an offer as the provider's own SDKs do: without a file name, and with a type for each part.
pub(super) fn write(sdp: &Bytes, session: &Bytes) -> Written {
    let boundary = boundary_outside_of(&[sdp, session]);
    let head = |name: &str, kind: &str| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n")
    };
    let sdp_head = Bytes::from(head("sdp", "application/sdp"));
    let session_head = Bytes::from(format!("\r\n{}", head("session", "application/json")));
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let session_at = sdp_head.len() + sdp.len() + session_head.len();
    let pieces = vec![sdp_head, sdp.clone(), session_head, session.clone(), end];
    Written { pieces, content_type: format!("multipart/form-data; boundary={boundary}"), session_at }
}

/// A boundary that stands in none of `contents`.
fn boundary_outside_of(contents: &[&Bytes]) -> String {
    loop {
        let boundary = format!("call-{:032x}", fastrand::u128(..));
        if !contents.iter().any(|content| memmem::find(content, boundary.as_bytes()).is_some()) {
            return boundary;
        }
    }
}

#[cfg(test)]
mod tests {
    use aiproxy_llm::peek::boundary_of;
    use proptest::prelude::*;

    use super::*;

    fn form(sdp: &str, session: &str) -> OfferForm {
        let bytes = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        OfferForm { sdp: bytes(sdp), session: bytes(session) }
    }

    #[test]
    fn what_sdks_and_curl_write_is_read() {
        let sdk = "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n\
                   --b\r\nContent-Disposition: form-data; name=\"session\"\r\nContent-Type: application/json\r\n\r\n{}\r\n--b--\r\n";
        assert_eq!(read(&Bytes::from_static(sdk.as_bytes()), "b"), Ok(form("v=0\r\n", "{}")));
        let curl = "preamble\r\n--b \r\ncontent-disposition: form-data; name=session; filename=\"s.json\"\r\n\r\n{}\r\n\
                    --b\r\n\r\nno name\r\n--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\n\r\n\r\n--b--";
        assert_eq!(read(&Bytes::from_static(curl.as_bytes()), "b"), Ok(form("", "{}")));
    }

    #[test]
    fn a_form_that_says_two_things_or_ends_early_is_refused() {
        let part = "--b\r\nContent-Disposition: form-data; name=\"session\"\r\n\r\n{}\r\n";
        let twice = format!("{part}{part}--b--\r\n");
        assert_eq!(read(&Bytes::from(twice), "b"), Err("The form has a part twice."));
        for broken in ["", "--b", "--b\r\n", part, "--b\r\nx: y\r\n\r\nv=0", "--bc--"] {
            assert!(read(&Bytes::from(broken.to_owned()), "b").is_err(), "{broken:?}");
        }
        let many = "--b\r\n\r\nx\r\n".repeat(MOST_PARTS + 1) + "--b--";
        assert_eq!(read(&Bytes::from(many), "b"), Err("The form has too many parts."));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_byte_for_byte(
            sdp in proptest::collection::vec(any::<u8>(), 0..200),
            session in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let (sdp, session) = (Bytes::from(sdp), Bytes::from(session));
            let written = write(&sdp, &session);
            let body = Bytes::from(written.pieces.concat());
            prop_assert_eq!(&body[written.session_at..written.session_at + session.len()], &session[..]);
            let read = read(&body, boundary_of(&written.content_type).unwrap());
            prop_assert_eq!(read, Ok(OfferForm { sdp: Some(sdp), session: Some(session) }));
        }

        #[test]
        fn no_bytes_make_it_panic(body in "(--b|\r\n|--|:|;|=|name|\"|x){0,40}") {
            // Whatever it says of them.
            drop(read(&Bytes::from(body), "b"));
        }
    }
}

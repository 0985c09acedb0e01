//! Forms (`multipart/form-data`, RFC 7578) as a person reads them: fields with what they say, files with their name and
//! size.

use memchr::memmem;

use super::readable::without_cut_character;
use super::redact::is_secret_name;
use super::section::Section;

/// Longer part headers are no headers.
const LONGEST_HEADERS: usize = 8 * 1024;

/// The sections of a form whose parts `boundary` separates; `None` if it is no such form. What is missing of a cut one
/// is missing of its last part.
pub(super) fn sections(bytes: &[u8], boundary: &str) -> Option<Vec<Section>> {
    let delimiter = format!("--{boundary}");
    let mut ends = memmem::find_iter(bytes, delimiter.as_bytes()).filter(|at| *at == 0 || bytes[at - 1] == b'\n');
    let mut start = ends.next()? + delimiter.len();
    let mut sections = Vec::new();
    loop {
        if bytes[start..].starts_with(b"--") {
            return Some(sections);
        }
        let end = ends.next();
        let part = &bytes[start..end.unwrap_or(bytes.len())];
        sections.extend(section(part, end.is_some()));
        match end {
            Some(end) => start = end + delimiter.len(),
            None => return Some(sections),
        }
    }
}

/// One part, from behind its delimiter to the next. Nothing if it ends within its headers.
fn section(part: &[u8], is_whole: bool) -> Option<Section> {
    let head_end = memmem::find(&part[..part.len().min(LONGEST_HEADERS)], b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&part[..head_end]);
    let mut content = &part[head_end + 4..];
    content = match is_whole {
        true => content.strip_suffix(b"\r\n").unwrap_or(content),
        false => without_cut_character(content),
    };
    let header = |wanted: &str| {
        let mut headers = head.split("\r\n").filter_map(|line| line.split_once(':'));
        headers.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let disposition = header("content-disposition").unwrap_or_default();
    let content_type = header("content-type");
    let name = parameter(disposition, "name").unwrap_or("part");
    let file_name = parameter(disposition, "filename").or_else(|| parameter(disposition, "filename*"));
    match (file_name, std::str::from_utf8(content)) {
        (None, Ok(text)) => {
            Some(Section { heading: name.to_string(), text: text.to_string(), is_secret: is_secret_name(name) })
        }
        (file_name, _) => {
            let at_least = if is_whole { "" } else { "at least " };
            let what = [file_name, content_type].into_iter().flatten().collect::<Vec<_>>().join(", ");
            let comma = if what.is_empty() { "" } else { ", " };
            let text = format!("{what}{comma}{at_least}{} bytes", content.len());
            Some(Section { heading: name.to_string(), text, is_secret: false })
        }
    }
}

/// A parameter of a header's value, without its quotes.
fn parameter<'value>(value: &'value str, wanted: &str) -> Option<&'value str> {
    let mut rest = value;
    while let Some(at) = rest.find(';') {
        rest = rest[at + 1..].trim_start();
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, behind) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.trim());
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::section::join;
    use super::*;

    const FORM: &str = "--b0\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
        --b0\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a; b.wav\"\r\nContent-Type: audio/wav\r\n\r\n\
        RIFF--b0 is no delimiter here\r\n--b0\r\ncontent-disposition: form-data; name=prompt\r\n\r\nline 1\r\nline 2\r\n--b0--\r\n";

    fn read(bytes: &[u8]) -> String {
        join(&sections(bytes, "b0").unwrap())
    }

    #[test]
    fn fields_are_read_and_files_are_named() {
        insta::assert_snapshot!(read(FORM.as_bytes()), @"
        [model]
        whisper-1

        [file]
        a; b.wav, audio/wav, 29 bytes

        [prompt]
        line 1
        line 2
        ");
        assert_eq!(sections(b"{}", "b0"), None, "it only says that it is a form");
    }

    #[test]
    fn of_a_cut_form_the_last_part_says_so() {
        let cut = FORM.find(" is no delimiter").unwrap();
        assert!(read(&FORM.as_bytes()[..cut]).ends_with("[file]\na; b.wav, audio/wav, at least 8 bytes"));
        for cut in 0..FORM.len() {
            let parts = sections(&FORM.as_bytes()[..cut], "b0").unwrap_or_default();
            assert!(parts.len() <= 3, "cut at {cut}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_form_or_not(bytes in "(--b0|\r\n|:|;|=|\"|name|filename|content-disposition|-|\\PC)*", boundary: String) {
            sections(bytes.as_bytes(), "b0");
            sections(bytes.as_bytes(), &boundary);
        }
    }
}

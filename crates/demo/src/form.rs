//! `multipart/form-data` (RFC 7578), as the audio and image-edit endpoints receive it.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// One part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) file_name: Option<String>,
    pub(crate) value: Bytes,
}

/// The parts of a form in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form(pub(crate) Vec<Field>);

impl Form {
    /// Reads a form; `None` if `body` is not one.
    pub(crate) fn parse(headers: &HeaderMap, body: &Bytes) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let boundary = content_type.split(';').find_map(|item| item.trim().strip_prefix("boundary="))?;
        let delimiter = format!("\r\n--{}", boundary.trim_matches('"'));
        // The first delimiter has no line end before it.
        let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..]).map(|rest| body.slice_ref(rest))?;
        let mut fields = Vec::new();
        while !rest.starts_with(b"--") {
            let end = find(&rest, delimiter.as_bytes())?;
            fields.push(Field::parse(&rest.slice(..end))?);
            rest = rest.slice(end + delimiter.len()..);
        }
        Some(Self(fields))
    }

    /// The text of the first field called `name`.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let field = self.0.iter().find(|field| field.name == name)?;
        std::str::from_utf8(&field.value).ok()
    }

    /// The fields called `name` or `name[]`.
    pub(crate) fn files<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> {
        self.0.iter().filter(move |field| field.name.strip_suffix("[]").unwrap_or(&field.name) == name)
    }
}

impl Field {
    /// Reads what stands between two delimiters: line end, headers, empty line, value.
    fn parse(part: &Bytes) -> Option<Self> {
        let head_end = find(part, b"\r\n\r\n")?;
        let head = std::str::from_utf8(&part[..head_end]).ok()?;
        let disposition = head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-disposition").then_some(value)
        })?;
        let parameter = |name: &str| {
            let value = disposition.split(';').find_map(|item| item.trim().strip_prefix(name)?.strip_prefix('='))?;
            Some(value.trim_matches('"').to_owned())
        };
        Some(Self { name: parameter("name")?, file_name: parameter("filename"), value: part.slice(head_end + 4..) })
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(offset) = haystack.get(from..)?.iter().position(|byte| *byte == first) {
        let start = from + offset;
        if haystack[start..].starts_with(needle) {
            return Some(start);
        }
        from = start + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderValue;

    #[test]
    fn fields_and_files_are_read() {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=\"x-y\""))]);
        let body = Bytes::from_static(
            b"--x-y\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndemo\r\n--x-y\r\ncontent-disposition: form-data; name=\"image[]\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\x89\r\n--x-\r\n\r\n--x-y--\r\n",
        );
        let form = Form::parse(&headers, &body).unwrap();
        assert_eq!(form.text("model"), Some("demo"));
        let files: Vec<_> = form.files("image").collect();
        assert_eq!(files[0].file_name.as_deref(), Some("a.png"));
        assert_eq!(files[0].value, Bytes::from_static(b"\x89\r\n--x-\r\n"));
        assert_eq!(Form::parse(&headers, &body.slice(..40)), None);
    }
}

//! JSON (RFC 8259) to a tree: strict, with positions.
//!
//! YAML's parser reads most JSON too, but refuses surrogate pairs (`\ud83d\ude00`, which Python writes for an emoji)
//! and
//! lets pass what other JSON tools would not.

use super::{MAX_DEPTH, MapBuilder, Names, Stop};
use crate::problem::Problems;
use crate::tree::{Entry, Mark, Node, Value};

/// Parses all of `text`.
pub(super) fn parse(text: &str, file: u16, problems: &mut Problems) -> Result<Node, Stop> {
    let mut parser = Parser { rest: text, line: 1, column: 1, file, names: Names::default(), problems };
    let node = parser.value(0)?;
    parser.space();
    if parser.rest.is_empty() { Ok(node) } else { parser.stop("expected nothing more after the closing bracket") }
}

struct Parser<'text, 'problems> {
    rest: &'text str,
    line: u32,
    column: u32,
    file: u16,
    names: Names,
    problems: &'problems mut Problems,
}

impl Parser<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<Node, Stop> {
        self.space();
        let mark = self.mark();
        if depth > MAX_DEPTH {
            return self.stop(&format!("nested more than {MAX_DEPTH} deep"));
        }
        let value = match self.rest.as_bytes().first() {
            Some(b'{') => return self.map(depth + 1),
            Some(b'[') => self.list(depth + 1)?,
            Some(b'"') => Value::Text(self.text()?.into()),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(_) => return self.stop("expected a value: \"text\", a number, true, false, null, [ or {"),
            None => return self.stop("the file ends where a value is expected"),
        };
        Ok(Node { mark, value })
    }

    fn map(&mut self, depth: usize) -> Result<Node, Stop> {
        let mut map = MapBuilder::new(self.mark());
        self.advance(1);
        self.space();
        if self.accept('}') {
            return Ok(map.finish());
        }
        loop {
            self.space();
            let key_mark = self.mark();
            if !self.rest.starts_with('"') {
                return self.stop("expected a field name in double quotes (and no comma after the last field)");
            }
            let key = self.text()?;
            let key = self.names.share(&key, depth);
            self.space();
            if !self.accept(':') {
                return self.stop("expected `:` after the field name");
            }
            let node = self.value(depth)?;
            map.add(Entry { key, key_mark, node }, self.problems);
            self.space();
            if self.accept('}') {
                return Ok(map.finish());
            }
            if !self.accept(',') {
                return self.stop("expected `,` or `}`");
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Stop> {
        let mut items = Vec::new();
        self.advance(1);
        self.space();
        if self.accept(']') {
            return Ok(Value::List(items.into()));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            if self.accept(']') {
                return Ok(Value::List(items.into()));
            }
            if !self.accept(',') {
                return self.stop("expected `,` or `]`");
            }
        }
    }

    /// A string. Finds its end, then lets serde_json undo the escapes.
    fn text(&mut self) -> Result<String, Stop> {
        let bytes = self.rest.as_bytes();
        let mut end = 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(b'\n') | None => return self.stop("this text has no closing double quote on its line"),
                Some(_) => end += 1,
            }
        }
        let written = self.rest.get(..=end).unwrap_or_default();
        let Ok(text) = serde_json::from_str(written) else {
            return self.stop("this text has a wrong escape (\\…) or a control character");
        };
        self.advance(end + 1);
        Ok(text)
    }

    fn number(&mut self) -> Result<Value, Stop> {
        let end = self.rest.find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'));
        let written = &self.rest[..end.unwrap_or(self.rest.len())];
        let value = match serde_json::from_str::<i64>(written) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => match serde_json::from_str::<f64>(written) {
                Ok(float) => Value::Float(float),
                Err(_) => return self.stop("this is not a number"),
            },
        };
        self.advance(written.len());
        Ok(value)
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Stop> {
        if !self.rest.starts_with(word) {
            return self.stop("expected true, false or null; text stands in double quotes");
        }
        self.advance(word.len());
        Ok(value)
    }

    fn accept(&mut self, symbol: char) -> bool {
        let found = self.rest.starts_with(symbol);
        if found {
            self.advance(1);
        }
        found
    }

    fn space(&mut self) {
        let end = self.rest.find(|c: char| !matches!(c, ' ' | '\t' | '\r' | '\n'));
        self.advance(end.unwrap_or(self.rest.len()));
    }

    /// Moves on by `bytes`, which end between two characters, counting lines and columns.
    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes);
        for character in passed.chars() {
            if character == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.rest = rest;
    }

    fn mark(&self) -> Mark {
        Mark { file: self.file, line: self.line, column: self.column }
    }

    fn stop<T>(&self, message: &str) -> Result<T, Stop> {
        Err((self.mark(), message.to_owned()))
    }
}

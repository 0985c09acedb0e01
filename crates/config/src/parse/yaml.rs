//! YAML 1.2 (core schema) to a tree, with positions and bounds.
//!
//! Works on the parser's events, so that an alias is paid for before it is copied. Merge keys (`<<: *name`) work; tags
//! other than the standard ones and a second document in the file do not.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::{MAX_ALIASED_NODES, MAX_DEPTH, MapBuilder, Names, Stop};
use crate::problem::Problems;
use crate::tree::{Entry, Mark, Node, Value};

/// Parses all of `text`. A file without any value gives null.
pub(super) fn parse(text: &str, file: u16, problems: &mut Problems) -> Result<Node, Stop> {
    let parser = Parser::new_from_str(text);
    let (anchors, names) = (HashMap::new(), Names::default());
    let mut builder = Builder { parser, file, anchors, aliased: 0, names, problems };
    let mut root = None;
    loop {
        let (event, mark) = builder.next()?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) if root.is_some() => {
                return Err((mark, "a second document starts here (`---`); write one per file".to_owned()));
            }
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            event => root = Some(builder.node(event, mark, 0)?),
        }
    }
    let start = Mark { file, line: 1, column: 1 };
    Ok(root.unwrap_or(Node { mark: start, value: Value::Null }))
}

struct Builder<'text, 'problems> {
    parser: Parser<'text, StrInput<'text>>,
    file: u16,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    names: Names,
    problems: &'problems mut Problems,
}

impl<'text> Builder<'text, '_> {
    fn next(&mut self) -> Result<(Event<'text>, Mark), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.mark(span))),
            Some(Err(error)) => Err((self.mark(Span::empty(*error.marker())), friendly(error.info()))),
            None => Ok((Event::StreamEnd, Mark { file: self.file, line: 1, column: 1 })),
        }
    }

    fn node(&mut self, event: Event<'text>, mark: Mark, depth: usize) -> Result<Node, Stop> {
        if depth > MAX_DEPTH {
            return Err((mark, format!("nested more than {MAX_DEPTH} deep")));
        }
        let (node, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, mark),
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().map(|tag| standard(tag, mark)).transpose()?;
                (Node { mark, value: scalar(&text, style, tag) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                tag.as_deref().map(|tag| standard(tag, mark)).transpose()?;
                (Node { mark, value: self.list(depth + 1)? }, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                tag.as_deref().map(|tag| standard(tag, mark)).transpose()?;
                (self.map(mark, depth + 1)?, anchor)
            }
            _ => return Err((mark, "a value is expected here".to_owned())),
        };
        if anchor > 0 {
            self.pay(node.count(), mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items.into())),
                (event, mark) => items.push(self.node(event, mark, depth)?),
            }
        }
    }

    fn map(&mut self, mark: Mark, depth: usize) -> Result<Node, Stop> {
        let mut map = MapBuilder::new(mark);
        let mut merged = Vec::new();
        loop {
            let (event, key_mark) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let Event::Scalar(key, style, _, _) = event else {
                return Err((key_mark, "a field's name is plain text, not a list or a group".to_owned()));
            };
            let (event, value_mark) = self.next()?;
            let node = self.node(event, value_mark, depth)?;
            if key == "<<" && style == ScalarStyle::Plain {
                merged.push(node);
                continue;
            }
            let key = self.names.share(&key, depth);
            map.add(Entry { key, key_mark, node }, self.problems);
        }
        for node in merged {
            match node.value {
                Value::Map(_) => map.merge(node),
                Value::List(items) => items.into_iter().for_each(|item| map.merge(item)),
                _ => return Err((node.mark, "`<<` takes a group of fields, e.g. `<<: *defaults`".to_owned())),
            }
        }
        Ok(map.finish())
    }

    fn alias(&mut self, anchor: usize, mark: Mark) -> Result<Node, Stop> {
        let Some(count) = self.anchors.get(&anchor).map(Node::count) else {
            return Err((mark, "this alias stands inside the very value it refers to".to_owned()));
        };
        self.pay(count, mark)?;
        let missing = Node { mark, value: Value::Null };
        Ok(self.anchors.get(&anchor).cloned().unwrap_or(missing))
    }

    /// Charges `count` copied values to the file's allowance.
    fn pay(&mut self, count: usize, mark: Mark) -> Result<(), Stop> {
        self.aliased += count;
        if self.aliased > MAX_ALIASED_NODES {
            return Err((mark, format!("anchors and aliases copy more than {MAX_ALIASED_NODES} values")));
        }
        Ok(())
    }

    fn mark(&self, span: Span) -> Mark {
        let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX).max(1);
        let column = u32::try_from(span.start.col()).unwrap_or(u32::MAX).saturating_add(1);
        Mark { file: self.file, line, column }
    }
}

/// The suffix of a standard tag (`!!str`). Others would need code to mean anything.
fn standard(tag: &Tag, mark: Mark) -> Result<&str, Stop> {
    if tag.is_yaml_core_schema() || (tag.handle.is_empty() && tag.suffix == "!") {
        return Ok(&tag.suffix);
    }
    Err((mark, "tags (`!…`) mean nothing here; put the text in quotes if it starts with `!`".to_owned()))
}

/// Plain text is null, true/false or a number if it looks like it (YAML 1.2 §10.3.2); quoted text is text.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&str>) -> Value {
    if style != ScalarStyle::Plain || matches!(tag, Some("str" | "!")) {
        return Value::Text(text.into());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || digits.contains('_') {
        return Value::Text(text.into());
    }
    let integer = match digits.split_at_checked(2) {
        Some(("0x", hex)) => i64::from_str_radix(hex, 16).ok(),
        Some(("0o", octal)) => i64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    };
    let float = || text.parse::<f64>().ok().filter(|float| float.is_finite()).map(Value::Float);
    integer.map(Value::Integer).or_else(float).unwrap_or_else(|| Value::Text(text.into()))
}

/// The parser's words, with what to do where that is known.
fn friendly(info: &str) -> String {
    let hint = if info.contains("tab") {
        " (indent with spaces)"
    } else if info.contains("':'") {
        " (is there a space after each colon, and does every quote end?)"
    } else if info.contains("alias") || info.contains("anchor") {
        " (text that starts with `*` or `&` needs quotes)"
    } else {
        ""
    };
    format!("not valid YAML: {info}{hint}")
}

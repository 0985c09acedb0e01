//! The tree against the schema: unknown fields, wrong types, wrong words, numbers out of range. All of them at once.
//!
//! Understands the part of JSON Schema that schemars writes for our forms: `$ref`, `anyOf`, `oneOf`, `type`, `const`,
//! `enum`, `properties`, `required`, `additionalProperties`, `items`, `minimum`, `exclusiveMinimum`, `maximum`, our
//! `format`s, and `x-instead`: what to write instead of a number that is too small.

use serde_json::Value as Json;

use crate::form::check_format;
use crate::parse::shown;
use crate::problem::Problems;
use crate::schema::definition;
use crate::suggest::suggestion;
use crate::tree::{Mark, Node, Place, Value};

/// Checks the entry at `place`; returns where the values start that do not fit.
pub(crate) fn check(place: &Place<'_>, node: &Node, schema: &Json, problems: &mut Problems) -> Vec<Mark> {
    let mut checker = Checker { problems, broken: Vec::new() };
    checker.node(place, node, schema);
    checker.broken
}

struct Checker<'run> {
    problems: &'run mut Problems,
    broken: Vec<Mark>,
}

impl Checker<'_> {
    fn node(&mut self, place: &Place<'_>, node: &Node, schema: &Json) {
        let mut alternatives = Vec::new();
        collect_alternatives(schema, &mut alternatives);
        let fitting: Vec<_> = alternatives.iter().copied().filter(|schema| accepts_type(schema, node)).collect();
        let Some(first) = fitting.first() else {
            self.wrong(place, node, wrong_type(&alternatives, node));
            return;
        };
        match &node.value {
            Value::Text(text) => {
                if let Err(message) = check_text(text, &fitting) {
                    self.wrong(place, node, message);
                }
            }
            Value::Integer(_) | Value::Float(_) => {
                if let Err(message) = check_number(node, first) {
                    self.wrong(place, node, message);
                }
            }
            Value::List(items) => {
                if let Some(item_schema) = first.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.node(&place.index(index), item, item_schema);
                    }
                }
            }
            Value::Map(_) => self.map(place, node, first),
            Value::Null | Value::Broken | Value::Bool(_) => {}
        }
    }

    fn map(&mut self, place: &Place<'_>, node: &Node, schema: &Json) {
        let properties = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties");
        for entry in node.entries() {
            let inner = place.entry(entry);
            match (properties.and_then(|properties| properties.get(&*entry.key)), others) {
                // A field without a value counts as not written; an entry without a value is one without fields.
                (Some(_), _) if entry.node.is_absent() => {}
                (Some(schema), _) => self.node(&inner, &entry.node, schema),
                (None, None | Some(Json::Bool(true))) => {}
                (None, Some(Json::Bool(false))) => {
                    let names = properties.into_iter().flat_map(|properties| properties.keys()).map(String::as_str);
                    self.problems.error(&place.at(entry.key_mark), unknown_field(&entry.key, names));
                    if !entry.node.is_absent() {
                        self.broken.push(entry.node.mark);
                    }
                }
                (None, Some(schema)) => self.node(&inner, &entry.node, schema),
            }
        }
        for name in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            if node.get(name).is_none() {
                self.wrong(place, node, format!("`{name}` is missing"));
            }
        }
    }

    fn wrong(&mut self, place: &Place<'_>, node: &Node, message: String) {
        self.problems.error(place, message);
        self.broken.push(node.mark);
    }
}

/// The schemas of which one must fit, with references followed. What only allows null is left out: null is "not
/// written".
fn collect_alternatives<'schema>(schema: &'schema Json, found: &mut Vec<&'schema Json>) {
    if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
        return collect_alternatives(definition(reference.rsplit('/').next().unwrap_or_default()), found);
    }
    match schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
        Some(schemas) => schemas.iter().for_each(|schema| collect_alternatives(schema, found)),
        None if schema.get("type").and_then(Json::as_str) == Some("null") => {}
        None => found.push(schema),
    }
}

/// The types a schema names; none means any.
fn types(schema: &Json) -> impl Iterator<Item = &str> {
    let named = match schema.get("type") {
        Some(Json::Array(names)) => names.as_slice(),
        Some(name) => std::slice::from_ref(name),
        None => &[],
    };
    named.iter().filter_map(Json::as_str)
}

fn accepts_type(schema: &Json, node: &Node) -> bool {
    let fits = |name| match &node.value {
        Value::Null | Value::Broken => name == "object",
        Value::Bool(_) => name == "boolean",
        Value::Integer(_) => matches!(name, "integer" | "number"),
        Value::Float(_) => name == "number",
        Value::Text(_) => name == "string",
        Value::List(_) => name == "array",
        Value::Map(_) => name == "object",
    };
    types(schema).next().is_none() || types(schema).any(fits)
}

fn check_text(text: &str, fitting: &[&Json]) -> Result<(), String> {
    let mut words = Vec::new();
    let mut formats = Vec::new();
    for schema in fitting {
        let known = words.len();
        words.extend(schema.get("const").and_then(Json::as_str));
        words.extend(schema.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str));
        match schema.get("format").and_then(Json::as_str) {
            Some(format) => formats.push(format),
            None if words.len() == known => return Ok(()),
            None => {}
        }
    }
    if words.contains(&text) {
        return Ok(());
    }
    let mut error = None;
    for format in formats {
        match check_format(format, text) {
            Ok(()) => return Ok(()),
            Err(message) => error = Some(message),
        }
    }
    match error {
        Some(message) if words.is_empty() => Err(message),
        // A word beside a syntax of its own: there is no more than one of either in our forms.
        Some(message) => Err(format!("{message}, or `{}`", words.join("`, `"))),
        None => Err(format!("`{}` is not known here{}", shown(text), suggestion(text, words, "write one of"))),
    }
}

fn check_number(node: &Node, schema: &Json) -> Result<(), String> {
    #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
    let number = match node.value {
        Value::Integer(number) => number as f64,
        Value::Float(number) => number,
        _ => return Ok(()),
    };
    let bound = |name| schema.get(name).and_then(Json::as_f64);
    let largest = match schema.get("format").and_then(Json::as_str) {
        Some("uint32") => Some(f64::from(u32::MAX)),
        _ => None,
    };
    let instead = schema.get("x-instead").and_then(Json::as_str);
    let instead = instead.map(|instead| format!("; {instead}")).unwrap_or_default();
    if let Some(minimum) = bound("minimum").filter(|minimum| number < *minimum) {
        return Err(format!("must not be less than {minimum}{instead}"));
    }
    if let Some(minimum) = bound("exclusiveMinimum").filter(|minimum| number <= *minimum) {
        return Err(format!("must be more than {minimum}{instead}"));
    }
    match bound("maximum").or(largest).filter(|maximum| number > *maximum) {
        Some(maximum) => Err(format!("must not be more than {maximum}")),
        None => Ok(()),
    }
}

/// The message for a field that does not exist, which is often one whose colon lacks its space.
pub(crate) fn unknown_field<'name>(key: &str, names: impl IntoIterator<Item = &'name str> + Clone) -> String {
    let written = shown(key);
    if written.len() < key.len() && names.clone().into_iter().any(|name| name == written) {
        return format!("after `{written}:` comes a space");
    }
    format!("unknown field `{written}`{}", suggestion(&written, names, "fields here are"))
}

fn wrong_type(alternatives: &[&Json], node: &Node) -> String {
    let mut expected = Vec::new();
    for schema in alternatives {
        for name in types(schema) {
            let name = match name {
                // The words beside a switch say the same as true and false.
                "string" if schema.get("enum").is_some() && expected.contains(&"true or false") => continue,
                "string" => "text",
                "integer" => "a whole number",
                "number" => "a number",
                "boolean" => "true or false",
                "array" => "a list",
                "object" => "a group of fields",
                _ => continue,
            };
            if !expected.contains(&name) {
                expected.push(name);
            }
        }
    }
    let hint = match node.value {
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) if expected == ["text"] => "; put it in quotes",
        Value::Text(_) if expected == ["a list"] => "; write [\"…\"]",
        Value::Text(_) if expected.len() == 1 && expected[0].ends_with("number") => "; write it without quotes",
        _ => "",
    };
    format!("expected {}, found {}{hint}", expected.join(" or "), node.describe())
}

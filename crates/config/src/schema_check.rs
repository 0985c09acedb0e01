//! The tree against the schema: unknown fields, wrong types, wrong words, numbers out of range. All of them at once.
//!
//! Understands the part of JSON Schema that schemars writes for our forms: `$ref`, `anyOf`, `oneOf`, `type`, `const`,
//! `enum`, `properties`, `required`, `additionalProperties`, `items`, `minimum`, `maximum`, and our `format`s.

use serde_json::Value as Json;

use crate::form::check_format;
use crate::parse::shown;
use crate::problem::Problems;
use crate::schema::definition;
use crate::suggest::suggestion;
use crate::tree::{Node, Place, Value};

/// Checks what is written at `place`. True if it fits.
pub(crate) fn check(place: &Place<'_>, schema: &Json, problems: &mut Problems) -> bool {
    let before = problems.errors();
    if let Some(node) = place.node {
        check_node(place, node, schema, problems);
    }
    problems.errors() == before
}

fn check_node(place: &Place<'_>, node: &Node, schema: &Json, problems: &mut Problems) {
    let mut alternatives = Vec::new();
    collect_alternatives(schema, &mut alternatives);
    let fitting: Vec<_> = alternatives.iter().copied().filter(|schema| accepts_type(schema, node)).collect();
    let Some(first) = fitting.first() else {
        problems.error(place, wrong_type(&alternatives, node));
        return;
    };
    match &node.value {
        Value::Text(text) => check_text(place, text, &fitting, problems),
        Value::Integer(_) | Value::Float(_) => check_number(place, node, first, problems),
        Value::List(items) => {
            if let Some(item_schema) = first.get("items") {
                for (index, item) in items.iter().enumerate() {
                    check_node(&place.index(index), item, item_schema, problems);
                }
            }
        }
        Value::Map(_) => check_map(place, node, first, problems),
        Value::Null | Value::Bool(_) => {}
    }
}

/// The schemas of which one must fit, with references followed. What only allows null is left out: null is "not written".
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
        Value::Null => name == "object",
        Value::Bool(_) => name == "boolean",
        Value::Integer(_) => matches!(name, "integer" | "number"),
        Value::Float(_) => name == "number",
        Value::Text(_) => name == "string",
        Value::List(_) => name == "array",
        Value::Map(_) => name == "object",
    };
    types(schema).next().is_none() || types(schema).any(fits)
}

fn check_text(place: &Place<'_>, text: &str, fitting: &[&Json], problems: &mut Problems) {
    let mut words = Vec::new();
    for schema in fitting {
        words.extend(schema.get("const").and_then(Json::as_str));
        words.extend(schema.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str));
    }
    if !words.is_empty() {
        if !words.contains(&text) {
            let written = shown(text);
            let suggestion = suggestion(text, words, "write one of");
            problems.error(place, format!("`{written}` is not known here{suggestion}"));
        }
        return;
    }
    let formats: Vec<_> = fitting.iter().filter_map(|schema| schema.get("format").and_then(Json::as_str)).collect();
    let mut failures = formats.iter().map(|format| check_format(format, text));
    if let Some(Err(message)) = failures.next()
        && failures.all(|result| result.is_err())
    {
        problems.error(place, message);
    }
}

fn check_number(place: &Place<'_>, node: &Node, schema: &Json, problems: &mut Problems) {
    #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
    let number = match node.value {
        Value::Integer(number) => number as f64,
        Value::Float(number) => number,
        _ => return,
    };
    let bound = |name| schema.get(name).and_then(Json::as_f64);
    let largest = match schema.get("format").and_then(Json::as_str) {
        Some("uint32") => Some(f64::from(u32::MAX)),
        _ => None,
    };
    if let Some(minimum) = bound("minimum").filter(|minimum| number < *minimum) {
        problems.error(place, format!("must not be less than {minimum}"));
    } else if let Some(maximum) = bound("maximum").or(largest).filter(|maximum| number > *maximum) {
        problems.error(place, format!("must not be more than {maximum}"));
    }
}

fn check_map(place: &Place<'_>, node: &Node, schema: &Json, problems: &mut Problems) {
    let properties = schema.get("properties").and_then(Json::as_object);
    let others = schema.get("additionalProperties");
    for entry in node.entries() {
        let inner = place.entry(entry);
        match (properties.and_then(|properties| properties.get(&*entry.key)), others) {
            // A field without a value counts as not written; an entry without a value is one without fields.
            (Some(_), _) if matches!(entry.node.value, Value::Null) => {}
            (Some(schema), _) => check_node(&inner, &entry.node, schema, problems),
            (None, None | Some(Json::Bool(true))) => {}
            (None, Some(Json::Bool(false))) => {
                let names = properties.into_iter().flat_map(|properties| properties.keys()).map(String::as_str);
                problems.error(&place.at(entry.key_mark), unknown_field(&entry.key, names));
            }
            (None, Some(schema)) => check_node(&inner, &entry.node, schema, problems),
        }
    }
    for name in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
        if node.get(name).is_none() {
            problems.error(place, format!("`{name}` is missing"));
        }
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

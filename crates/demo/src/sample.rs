//! Plausible values for a JSON schema: arguments of a tool call, answers in a demanded shape.

use serde_json::{Map, Value, json};

const DEEPEST: usize = 16;

/// A value that satisfies the usual parts of `schema` (also in Gemini's spelling with upper-case types).
pub(crate) fn sample(schema: &Value) -> Value {
    value(schema, "", schema, DEEPEST)
}

fn value(schema: &Value, name: &str, root: &Value, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    if let Some(definition) = schema["$ref"].as_str().and_then(|path| root.pointer(path.strip_prefix('#')?)) {
        return value(definition, name, root, depth - 1);
    }
    let fixed = [&schema["const"], &schema["default"], &schema["enum"][0], &schema["examples"][0]];
    if let Some(fixed) = fixed.into_iter().find(|fixed| !fixed.is_null()) {
        return fixed.clone();
    }
    if let Some(first) = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema[*key].get(0)) {
        return value(first, name, root, depth - 1);
    }
    let kind = schema["type"].as_str().or(schema["type"][0].as_str()).unwrap_or_default().to_ascii_lowercase();
    match kind.as_str() {
        "string" => json!(text(name, schema["format"].as_str().unwrap_or_default())),
        "integer" => schema.get("minimum").cloned().unwrap_or(json!(1)),
        "number" => schema.get("minimum").cloned().unwrap_or(json!(1.5)),
        "boolean" => json!(true),
        "array" => match schema.get("items") {
            Some(items) => json!([value(items, name, root, depth - 1)]),
            None => json!([]),
        },
        "null" => Value::Null,
        _ => object(schema, root, depth),
    }
}

fn object(schema: &Value, root: &Value, depth: usize) -> Value {
    let Some(properties) = schema["properties"].as_object() else { return json!({}) };
    let member = |(name, schema): (&String, &Value)| (name.clone(), value(schema, name, root, depth - 1));
    properties.iter().map(member).collect::<Map<_, _>>().into()
}

fn text(name: &str, format: &str) -> &'static str {
    match (format, name.to_ascii_lowercase().as_str()) {
        ("date", _) | (_, "date" | "day") => "2026-01-01",
        ("date-time", _) => "2026-01-01T00:00:00Z",
        ("email", _) | (_, "email") => "demo@example.com",
        ("uri", _) | (_, "url" | "uri") => "https://example.com/",
        (_, "city" | "location" | "place") => "Paris",
        (_, "country") => "France",
        (_, "timezone") => "Europe/Paris",
        (_, "expression") => "1 + 1",
        _ => "demo",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_every_property_in_its_type() {
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
            "days": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "STRING"}},
            "exact": {"type": ["boolean", "null"]}, "place": {"$ref": "#/$defs/place"}},
            "$defs": {"place": {"type": "object", "properties": {"height": {"type": "number"}}}}});
        let expected = json!({"city": "Paris", "unit": "celsius", "days": 1, "tags": ["demo"], "exact": true,
            "place": {"height": 1.5}});
        assert_eq!(sample(&schema), expected);
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        assert!(sample(&json!({"type": "object", "properties": {"child": {"$ref": "#"}}})).is_object());
        assert_eq!(sample(&Value::Null), json!({}));
    }
}

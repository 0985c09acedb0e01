//! The JSON Schema of the config: generated from the forms, committed as `schema/aiproxy.schema.json`, used by editors
//! and by this crate's own check.

use std::sync::LazyLock;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Value, json};

use crate::form::ConfigForm;

static SCHEMA: LazyLock<Value> = LazyLock::new(generate);

/// The JSON Schema (draft 2020-12) of a config file.
pub fn json_schema() -> &'static Value {
    &SCHEMA
}

/// The same as the text of `schema/aiproxy.schema.json`.
pub fn json_schema_text() -> String {
    format!("{:#}\n", *SCHEMA)
}

/// The schema of one kind of entry, e.g. `User`.
pub(crate) fn definition(name: &str) -> &'static Value {
    static ANYTHING: Value = Value::Bool(true);
    SCHEMA.get("$defs").and_then(|all| all.get(name)).unwrap_or(&ANYTHING)
}

fn generate() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<ConfigForm>();
    RecursiveTransform(allow_comments).transform(&mut schema);
    schema.into()
}

/// Keys that start with `_` are comments, wherever fields are listed. A default of null only says "not written".
fn allow_comments(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if schema.get("additionalProperties").is_some() {
        schema.insert("patternProperties".to_owned(), json!({ "^_": true }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema/aiproxy.schema.json");

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a developer's switch, not a setting of the product")]
    fn the_committed_schema_is_current() {
        let current = json_schema_text();
        if std::env::var("UPDATE_SCHEMA").is_ok() {
            std::fs::write(FILE, &current).unwrap();
        }
        let committed = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            committed == current,
            "run `UPDATE_SCHEMA=1 cargo test -p aiproxy-config schema` and commit the result"
        );
    }

    #[test]
    fn every_field_says_what_it_means() {
        fn walk(path: &str, value: &Value, missing: &mut Vec<String>) {
            if let Some(properties) = value.get("properties").and_then(Value::as_object) {
                for (name, field) in properties {
                    if field.get("description").is_none() {
                        missing.push(format!("{path}.{name}"));
                    }
                }
            }
            if let Some(definitions) = value.get("$defs").and_then(Value::as_object) {
                definitions.iter().for_each(|(name, definition)| walk(name, definition, missing));
            }
        }
        let mut missing = Vec::new();
        walk("Config", json_schema(), &mut missing);
        assert_eq!(missing, Vec::<String>::new());
    }
}

//! `models` of a channel: which names it serves, and what the upstream calls them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Pairs;

/// Models a channel serves: a list of names and patterns (`gpt-*`), or a map of alias to real name. Default: all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum ModelsForm {
    /// Names, patterns, and groups of aliases.
    List(Vec<ModelEntry>),
    /// Callers ask for the key, the upstream is asked for the value.
    Aliases(Pairs<String>),
}

/// One entry of a list of models.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum ModelEntry {
    /// A name, or a pattern in which `*` stands for any text.
    Name(String),
    /// Callers ask for the key, the upstream is asked for the value.
    Aliases(Pairs<String>),
}

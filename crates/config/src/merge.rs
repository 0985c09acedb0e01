//! Several files to one config: each section may be spread over them, and an id may be written once.

use crate::compile::Sections;
use crate::load::HOW_TO_START;
use crate::parse::MapBuilder;
use crate::problem::Problems;
use crate::schema_check::unknown_field;
use crate::tree::{Mark, Node, Place, Value};

const SECTIONS: [&str; 5] = ["users", "channels", "groups", "departments", "system"];

/// Top-level fields of the older AIProxy's JSON files.
const OLDER_SECTIONS: [&str; 2] = ["api_keys", "api_key_mappings"];

/// Puts the sections together. `None` if there is nothing in any file.
pub(crate) fn merge(trees: Vec<(u16, Node)>, problems: &mut Problems) -> Option<Sections> {
    let first_file = trees.first().map_or(0, |(file, _)| *file);
    let start = Mark { file: first_file, line: 1, column: 1 };
    let mut builders = SECTIONS.map(|_| MapBuilder::new(start));
    let mut is_empty = true;
    let has_trees = !trees.is_empty();
    for (_, tree) in trees {
        match tree.value {
            Value::Null => continue,
            Value::Map(_) => is_empty = false,
            _ => {
                is_empty = false;
                let found = tree.describe();
                problems.error_at(
                    tree.mark,
                    format!("a config starts with `users:`, `channels:` and so on, not with {found}"),
                );
                continue;
            }
        }
        for entry in tree.into_entries() {
            let place = Place::section(&entry.key, entry.key_mark, None);
            let Some((_, builder)) = SECTIONS.iter().zip(&mut builders).find(|(name, _)| ***name == *entry.key) else {
                if &*entry.key == "$schema" {
                    continue;
                }
                let mut message = unknown_field(&entry.key, SECTIONS);
                if OLDER_SECTIONS.contains(&&*entry.key) {
                    message = "this is a file of the older AIProxy; take it over by `aiproxy import`".to_owned();
                }
                problems.error(&place, message);
                continue;
            };
            match entry.node.value {
                Value::Null => {}
                Value::Map(_) => builder.extend(entry.node, problems),
                _ => {
                    let found = entry.node.describe();
                    problems.error(&place.at(entry.node.mark), format!("expected a group of fields, found {found}"));
                }
            }
        }
    }
    if is_empty && has_trees {
        problems.error_at(Mark { line: 0, column: 0, ..start }, format!("the config is empty; {HOW_TO_START}"));
        return None;
    }
    let [users, channels, groups, departments, system] = builders.map(MapBuilder::finish);
    Some(Sections { users, channels, groups, departments, system })
}

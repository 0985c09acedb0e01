//! What the config may already say although this version does not act on it: one warning each.
//!
//! The table shrinks as features arrive. Once it is empty this file goes.

use crate::problem::Problems;
use crate::tree::{Node, Place, Value};

/// Fields without effect yet. `*` stands for any id, `[]` for any item.
const NOT_ENFORCED: &[&str] = &["system.redis", "system.secrets", "system.log.parquet.s3"];

/// Fields of older files that are read and ignored for good.
const WITHOUT_EFFECT: &[&str] = &["system.monitoring"];

/// Warns once for each kind of field, at the first place it is used.
pub(crate) fn warn(sections: &[(&'static str, &Node)], problems: &mut Problems) {
    for (table, says) in [
        (NOT_ENFORCED, "accepted, but not enforced by this version"),
        (WITHOUT_EFFECT, "accepted for older files; it has no effect"),
    ] {
        for pattern in table {
            let mut steps: Vec<_> = pattern.split('.').collect();
            let section = steps.remove(0);
            let Some((name, node)) = sections.iter().find(|(name, _)| *name == section) else {
                continue;
            };
            let mut uses = Uses { first: None, count: 0 };
            uses.look(&Place::section(name, node.mark, Some(node)), &steps);
            let Some((place_mark, path)) = uses.first else {
                continue;
            };
            let more = match uses.count {
                1 => String::new(),
                count => format!(" (and {} more like it)", count - 1),
            };
            problems.push(crate::Severity::Warning, place_mark, path, format!("{says}{more}"));
        }
    }
}

struct Uses {
    first: Option<(crate::tree::Mark, String)>,
    count: usize,
}

impl Uses {
    fn look(&mut self, place: &Place<'_>, steps: &[&str]) {
        let Some(node) = place.node else {
            return;
        };
        let Some((step, rest)) = steps.split_first() else {
            if says_something(&node.value) {
                self.count += 1;
                self.first.get_or_insert_with(|| (place.mark(), place.path()));
            }
            return;
        };
        match (*step, &node.value) {
            ("*", Value::Map(entries)) => entries.iter().for_each(|entry| self.look(&place.entry(entry), rest)),
            ("[]", Value::List(items)) => (0..items.len()).for_each(|index| self.look(&place.index(index), rest)),
            (name, Value::Map(_)) => self.look(&place.key(name), rest),
            _ => {}
        }
    }
}

/// Whether a value asks for anything.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Broken => false,
        Value::Text(text) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) => true,
    }
}

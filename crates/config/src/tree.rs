//! A config file as a tree in which every value and every key knows where it was written.
//!
//! Both syntaxes (YAML and JSON) end here, and everything after it reads only this: the check against the schema, the
//! forms and the messages. It knows nothing of users or channels.

use std::sync::Arc;

/// A place in one of the files that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Index into the list of files.
    pub(crate) file: u16,
    /// From 1; 0 where a problem has no line.
    pub(crate) line: u32,
    /// From 1, in characters.
    pub(crate) column: u32,
}

/// One value and where it starts.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

/// What a value is. Kept small: a file with 100,000 users has a million of these.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    /// Something that did not fit the schema and was reported: read as if it were not written.
    Broken,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Box<str>),
    List(Box<[Node]>),
    Map(Box<[Entry]>),
}

/// One `key: value` of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Arc<str>,
    pub(crate) key_mark: Mark,
    pub(crate) node: Node,
}

impl Node {
    /// The value of `key`, if this is a map that has it. A null counts as not written.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries.iter().find(|entry| *entry.key == *key && !entry.node.is_absent())
    }

    /// Whether this counts as not written.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.value, Value::Null | Value::Broken)
    }

    /// Breaks the values that start at `marks`. A list with a broken item is broken, for its indices would shift.
    pub(crate) fn break_at(&mut self, marks: &[Mark]) {
        match &mut self.value {
            Value::List(items) => {
                items.iter_mut().for_each(|item| item.break_at(marks));
                if items.iter().any(|item| matches!(item.value, Value::Broken)) {
                    self.value = Value::Broken;
                }
            }
            Value::Map(entries) => entries.iter_mut().for_each(|entry| entry.node.break_at(marks)),
            _ => {}
        }
        if marks.contains(&self.mark) {
            self.value = Value::Broken;
        }
    }

    /// The entries, if this is a map.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The entries, taking the map apart.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        match self.value {
            Value::Map(entries) => entries.into_vec(),
            _ => Vec::new(),
        }
    }

    /// How many values there are, this one included.
    pub(crate) fn count(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.count()).sum(),
            _ => 0,
        }
    }

    /// What to call this in a message. Never the value itself, which may be secret.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Null | Value::Broken => "nothing",
            Value::Bool(_) => "true/false",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a group of fields",
        }
    }
}

/// A value seen from the root: the steps that lead to it are known, but written out only if there is a problem.
///
/// A value that is absent has a place too: its nearest written parent's.
#[derive(Clone, Copy)]
pub(crate) struct Place<'tree> {
    parent: Option<&'tree Place<'tree>>,
    step: Step<'tree>,
    mark: Mark,
    pub(crate) node: Option<&'tree Node>,
}

#[derive(Clone, Copy)]
enum Step<'tree> {
    Root,
    Key(&'tree str),
    Index(usize),
}

impl<'tree> Place<'tree> {
    /// Where the sections are.
    pub(crate) const ROOT: Place<'static> =
        Place { parent: None, step: Step::Root, mark: Mark { file: 0, line: 0, column: 0 }, node: None };

    /// A top-level section.
    pub(crate) fn section(name: &'tree str, mark: Mark, node: Option<&'tree Node>) -> Self {
        Self { parent: None, step: Step::Key(name), mark, node }
    }

    /// A known entry of the map here.
    pub(crate) fn entry(&'tree self, entry: &'tree Entry) -> Self {
        Self { parent: Some(self), step: Step::Key(&entry.key), mark: entry.node.mark, node: Some(&entry.node) }
    }

    /// The field `name` of the map here.
    pub(crate) fn key(&'tree self, name: &'tree str) -> Place<'tree> {
        let node = self.node.and_then(|node| node.get(name)).map(|entry| &entry.node);
        let mark = node.map_or(self.mark, |node| node.mark);
        Place { parent: Some(self), step: Step::Key(name), mark, node }
    }

    /// The item at `index` of the list here.
    pub(crate) fn index(&'tree self, index: usize) -> Place<'tree> {
        let node = match self.node.map(|node| &node.value) {
            Some(Value::List(items)) => items.get(index),
            _ => None,
        };
        let mark = node.map_or(self.mark, |node| node.mark);
        Place { parent: Some(self), step: Step::Index(index), mark, node }
    }

    /// The same place, pointing at `mark`: the key instead of the value.
    pub(crate) fn at(self, mark: Mark) -> Self {
        Self { mark, ..self }
    }

    /// Where to point at.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// Whether the field `name` of the map here was written wrongly: it is not missing, then.
    pub(crate) fn is_broken(&self, name: &str) -> bool {
        let entries = self.node.map(Node::entries).unwrap_or_default();
        entries.iter().any(|entry| *entry.key == *name && matches!(entry.node.value, Value::Broken))
    }

    /// The config path: `channels.openai.endpoints[1].base_url`.
    pub(crate) fn path(&self) -> String {
        let mut path = self.parent.map(Place::path).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                if key.is_empty() || key.contains(['.', '[', '"', ' ']) || key.contains(char::is_control) {
                    path.push_str(&format!("{key:?}"));
                } else {
                    path.push_str(key);
                }
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stays_small() {
        assert!(size_of::<Node>() <= 40, "{}", size_of::<Node>());
        assert!(size_of::<Entry>() <= 72, "{}", size_of::<Entry>());
    }

    #[test]
    fn a_path_is_written_as_people_write_it() {
        let users = Place::section("users", Mark::default(), None);
        let user = users.key("li.si");
        let keys = user.key("proxy_keys");
        assert_eq!(keys.index(2).key("ip_allow").path(), "users.\"li.si\".proxy_keys[2].ip_allow");
    }
}

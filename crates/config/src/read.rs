//! A tree to a form, through serde.
//!
//! The schema is checked first and what does not fit is read as if it were not written, so that the rest can be checked
//! too. A failure after that is a fault of this crate; it is reported without serde's words, which quote values.

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::problem::Problems;
use crate::schema::definition;
use crate::schema_check::check;
use crate::tree::{Entry, Node, Place, Value};

/// Checks an entry against the schema of its kind and reads its form. `None` if too little of it is left to read.
pub(crate) fn read_checked<Form: DeserializeOwned>(
    section: &Place<'_>,
    entry: &mut Entry,
    kind: &str,
    problems: &mut Problems,
) -> Option<Form> {
    let place = section.entry(entry).at(entry.key_mark);
    let broken = check(&place, &entry.node, definition(kind), problems);
    if !broken.is_empty() {
        entry.node.break_at(&broken);
        return if matches!(entry.node.value, Value::Broken) { None } else { read(&entry.node).ok() };
    }
    let form = read(&entry.node);
    if form.is_err() {
        problems.error(&place, "cannot be read although it fits the schema; please report this as a bug");
    }
    form.ok()
}

fn read<Form: DeserializeOwned>(node: &Node) -> Result<Form, Unreadable> {
    Form::deserialize(Reader(node))
}

/// The tree does not fit the form. Says nothing more, for values may be secret.
#[derive(Debug)]
struct Unreadable;

impl std::fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("does not fit the form")
    }
}

impl std::error::Error for Unreadable {}

impl de::Error for Unreadable {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

#[derive(Clone, Copy)]
struct Reader<'de>(&'de Node);

impl<'de> IntoDeserializer<'de, Unreadable> for Reader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Reader<'de> {
    /// Visits a map. What is broken is left out. A null field of a struct is not written, so that its default
    /// applies; in a
    /// map of ids it stays.
    fn map<V: Visitor<'de>>(self, visitor: V, skip_nulls: bool) -> Result<V::Value, Unreadable> {
        let is_read = |entry: &&Entry| match entry.node.value {
            Value::Broken => false,
            Value::Null => !skip_nulls,
            _ => true,
        };
        let entries = self.0.entries().iter().filter(is_read);
        visitor.visit_map(MapDeserializer::new(entries.map(|entry| (&*entry.key, Reader(&entry.node)))))
    }
}

impl<'de> de::Deserializer<'de> for Reader<'de> {
    type Error = Unreadable;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        match &self.0.value {
            Value::Null | Value::Broken => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(SeqDeserializer::new(items.iter().map(Reader))),
            Value::Map(_) => self.map(visitor, false),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        match self.0.value {
            Value::Null | Value::Broken => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        match self.0.value {
            Value::Map(_) | Value::Null => self.map(visitor, true),
            _ => Err(Unreadable),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        match &self.0.value {
            Value::Text(text) => visitor.visit_enum(StrDeserializer::<Unreadable>::new(text)),
            _ => Err(Unreadable),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

//! Shapes that several forms share: one or many, a map in its written order, on or off, anything.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// One value, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum OneOrMany<Item> {
    /// Just one.
    One(Item),
    /// Any number.
    Many(Vec<Item>),
}

impl<Item> OneOrMany<Item> {
    /// All of them.
    pub fn as_slice(&self) -> &[Item] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Many(items) => items,
        }
    }
}

/// A map that keeps the order in which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs<Item>(pub Vec<(Box<str>, Item)>);

impl<Item> Default for Pairs<Item> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, Item: Deserialize<'de>> Deserialize<'de> for Pairs<Item> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<Item>(std::marker::PhantomData<Item>);

        impl<'de, Item: Deserialize<'de>> Visitor<'de> for PairsVisitor<Item> {
            type Value = Pairs<Item>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Pairs::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or_default());
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(PairsVisitor(std::marker::PhantomData))
    }
}

impl<Item: JsonSchema> JsonSchema for Pairs<Item> {
    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", Item::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<Item>() })
    }
}

/// `true` or `false`; the words `on` and `off` mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch(pub bool);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Bool(is_on) => Ok(Self(is_on)),
            serde_json::Value::String(word) if word == "on" => Ok(Self(true)),
            serde_json::Value::String(word) if word == "off" => Ok(Self(false)),
            _ => Err(serde::de::Error::custom("neither on nor off")),
        }
    }
}

impl JsonSchema for Switch {
    fn schema_name() -> Cow<'static, str> {
        "Switch".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "string", "enum": ["on", "off"] }] })
    }
}

/// Switched on or off, or on with settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Switchable<Form> {
    /// Off, or on with every default.
    Switch(Switch),
    /// On, with these settings.
    Full(Form),
}

impl<Form: Default> Switchable<Form> {
    /// The settings, unless it is switched off.
    pub fn into_form(self) -> Option<Form> {
        match self {
            Self::Switch(Switch(is_on)) => is_on.then(Form::default),
            Self::Full(form) => Some(form),
        }
    }
}

/// Whatever is written: a field whose inner fields this version does not look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Any;

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Any {
    fn schema_name() -> Cow<'static, str> {
        "Any".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

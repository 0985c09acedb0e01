//! The fields of all providers' usage reports, as raw numbers. One reader serves every provider: the names differ
//! enough that a field's presence says what it means, and compatible providers mix them freely.

use serde_json::value::RawValue;

use super::count::{Raw, UsageFlaw};

/// The numbers of a report by their wire name; `a.b` for a member of a member.
#[derive(Default)]
pub(super) struct Fields<'a> {
    numbers: Vec<(Name<'a>, &'a [u8])>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Name<'a> {
    parent: &'a str,
    own: &'a str,
}

impl<'a> Fields<'a> {
    /// The number called `own`.
    pub(super) fn get(&self, own: &str) -> Raw<'a> {
        self.inside("", own)
    }

    /// The number called `own` inside the object `parent`.
    pub(super) fn inside(&self, parent: &str, own: &str) -> Raw<'a> {
        // From the end: the last duplicate wins.
        self.numbers.iter().rev().find(|(name, _)| name.own == own && name.parent == parent).map(|(_, raw)| *raw)
    }

    /// The first of several spellings that is there.
    pub(super) fn any(&self, names: &[&str]) -> Raw<'a> {
        names.iter().find_map(|name| self.get(name).filter(|raw| *raw != b"null"))
    }

    /// The first of several parents that has `own`.
    pub(super) fn any_inside(&self, parents: &[&str], own: &str) -> Raw<'a> {
        parents.iter().find_map(|parent| self.inside(parent, own).filter(|raw| *raw != b"null"))
    }

    /// Later fields replace earlier ones, unless they are null.
    pub(super) fn overlay(&mut self, later: &Fields<'a>) {
        self.numbers.extend(later.numbers.iter().filter(|(_, raw)| *raw != b"null"));
    }
}

/// Reads a report. Lists of `{modality, tokenCount}` become `list.MODALITY`.
pub(super) fn read<'a>(raw: &'a [u8], flaws: &mut Vec<UsageFlaw>) -> Fields<'a> {
    let mut fields = Fields::default();
    if raw.trim_ascii() == b"null" {
        return fields;
    }
    match serde_json::from_slice::<Members<'a>>(raw) {
        Ok(members) => members.collect("", &mut fields),
        Err(_) if flaws.contains(&UsageFlaw::Unreadable) => {}
        Err(_) => flaws.push(UsageFlaw::Unreadable),
    }
    fields
}

/// The members of an object in order, keys borrowed. An escaped key is none of ours, and left out.
struct Members<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'a> Members<'a> {
    fn collect(self, parent: &'a str, fields: &mut Fields<'a>) {
        for (own, value) in self.0 {
            let raw = value.get();
            match raw.as_bytes().first() {
                Some(b'{') if parent.is_empty() => {
                    if let Ok(inner) = serde_json::from_str::<Members<'a>>(raw) {
                        inner.collect(own, fields);
                    }
                }
                Some(b'[') if parent.is_empty() => collect_modalities(own, raw, fields),
                _ => fields.numbers.push((Name { parent, own }, raw.as_bytes())),
            }
        }
    }
}

fn collect_modalities<'a>(list: &'a str, raw: &'a str, fields: &mut Fields<'a>) {
    let Ok(entries) = serde_json::from_str::<Vec<Members<'a>>>(raw) else { return };
    for Members(entry) in entries {
        let find = |name: &str| entry.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| value.get());
        let modality = find("modality").and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
        if let (Some(modality), Some(count)) = (modality, find("tokenCount")) {
            fields.numbers.push((Name { parent: list, own: modality }, count.as_bytes()));
        }
    }
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<(&'de str, &'de RawValue)>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(Key(key)) = map.next_key()? {
                    let value: &'de RawValue = map.next_value()?;
                    if let Some(key) = key {
                        members.push((key, value));
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Visitor).map(Members)
    }
}

/// A key, if it stands in the text as it is.
struct Key<'a>(Option<&'a str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Key<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Option<&'de str>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Some(key))
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(None)
            }
        }
        deserializer.deserialize_str(Visitor).map(Key)
    }
}

//! Puts other names where a client message names its models, when the gateway resolved aliases. All other bytes stay.

use super::NamedModel;

/// The message with its models replaced: the name of `models[i]` by `renames[i]`, behind the same prefix. `None`, and
/// what is missing in a shorter list, keeps the name as it stands. `models` are those that were read in this message.
#[must_use]
pub fn rename(message: &[u8], models: &[NamedModel], renames: &[Option<&str>]) -> Vec<u8> {
    let mut replaced: Vec<(&NamedModel, &str)> =
        models.iter().zip(renames).filter_map(|(model, name)| Some((model, (*name)?))).collect();
    replaced.sort_by_key(|(model, _)| model.span.start);
    let mut renamed = Vec::with_capacity(message.len() + 64);
    let mut position = 0;
    for (model, name) in replaced {
        let Some(kept) = message.get(position..model.span.start) else { continue };
        renamed.extend_from_slice(kept);
        let text = serde_json::Value::from(format!("{}{name}", model.prefix));
        renamed.extend_from_slice(text.to_string().as_bytes());
        position = model.span.end;
    }
    renamed.extend_from_slice(message.get(position..).unwrap_or_default());
    renamed
}

//! The real keys of a channel.

use std::collections::HashMap;

use aiproxy_core::Secret;

use super::checks::{check_id, check_key_text, check_weights, status};
use crate::context::Context;
use crate::form::ChannelForm;
use crate::snapshot::{Credential, Status};
use crate::tree::{Mark, Place};

/// All credentials of a channel. None is reported, unless the channel is switched off.
pub(super) fn compile(
    place: &Place<'_>,
    form: &ChannelForm,
    channel_status: Status,
    context: &mut Context<'_>,
) -> Box<[Credential]> {
    let is_active = channel_status == Status::Active;
    match (&form.api_key, &form.credentials) {
        (Some(_), Some(_)) => {
            let place = place.key("credentials");
            context.problems.error(&place, "write either `api_key` or `credentials`, not both");
            Box::default()
        }
        (Some(key), None) => {
            if key.is_empty() && !is_active {
                return Box::default();
            }
            let key = api_key(&place.key("api_key"), key, context);
            key.map(|api_key| Credential { id: "default".into(), api_key, weight: 1, status: Status::Active })
                .into_iter()
                .collect()
        }
        (None, Some(list)) if !list.is_empty() => several(place, list, is_active, context),
        _ => {
            let is_broken = place.is_broken("api_key") || place.is_broken("credentials");
            if is_active && !is_broken {
                let hint = "for an upstream that asks for none, write any text";
                context.problems.error(place, format!("`api_key` is missing ({hint})"));
            }
            Box::default()
        }
    }
}

fn several(
    place: &Place<'_>,
    list: &[crate::form::CredentialForm],
    is_active: bool,
    context: &mut Context<'_>,
) -> Box<[Credential]> {
    let list_place = place.key("credentials");
    let mut ids: HashMap<String, Mark> = HashMap::new();
    let mut credentials = Vec::with_capacity(list.len());
    for (index, form) in list.iter().enumerate() {
        let place = list_place.index(index);
        let id = form.id.clone().unwrap_or_else(|| format!("credential-{}", index + 1));
        let id_place = place.key("id");
        check_id(&id_place, &id, &mut context.problems);
        if let Some(first) = ids.insert(id.clone(), id_place.mark()) {
            let first = context.problems.describe(first, id_place.mark());
            context.problems.error(&id_place, format!("the id `{id}` is used twice in this channel; first at {first}"));
        }
        let status = status(&place, form.status.as_deref(), &mut context.problems);
        if let Some(api_key) = api_key(&place.key("api_key"), &form.api_key, context) {
            credentials.push(Credential { id: id.into(), api_key, weight: form.weight.unwrap_or(1), status });
        }
    }
    let active = |credential: &&Credential| credential.status == Status::Active;
    if credentials.len() == list.len() && is_active {
        if credentials.iter().any(|credential| active(&credential)) {
            let weights = credentials.iter().filter(active).map(|credential| credential.weight);
            check_weights(&list_place, weights, &mut context.problems);
        } else {
            context.problems.warning(&list_place, "every credential is switched off, so the channel answers nobody");
        }
    }
    credentials.into()
}

fn api_key(place: &Place<'_>, written: &Secret, context: &mut Context<'_>) -> Option<Secret> {
    let key = context.expand(place, written)?;
    check_key_text(place, key.expose(), context);
    Some(key)
}

//! The real keys of a channel.

use std::collections::HashMap;

use aiproxy_core::Secret;

use super::checks::{check_id, check_key_text, status};
use super::limits;
use crate::context::Context;
use crate::form::{ChannelForm, CredentialForm};
use crate::key_digest;
use crate::snapshot::{Credential, KeyDigest, Scope, Status};
use crate::tree::{Mark, Place};

/// All credentials of a channel. None is reported, unless the channel is switched off.
pub(super) fn compile(
    place: &Place<'_>,
    channel_id: &str,
    form: &mut ChannelForm,
    channel_status: Status,
    context: &mut Context<'_>,
) -> Box<[Credential]> {
    let is_active = channel_status == Status::Active;
    match (&form.api_key, form.credentials.take()) {
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
            key.map(|key| Credential {
                id: "default".into(),
                fingerprint: key.fingerprint(),
                api_key: key.text,
                weight: 1,
                status: Status::Active,
                limited: None,
            })
            .into_iter()
            .collect()
        }
        (None, Some(list)) if !list.is_empty() => several(place, channel_id, list, is_active, context),
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
    channel_id: &str,
    list: Vec<CredentialForm>,
    is_active: bool,
    context: &mut Context<'_>,
) -> Box<[Credential]> {
    let list_place = place.key("credentials");
    let count = list.len();
    let mut seen = Seen::default();
    let mut credentials = Vec::with_capacity(count);
    for (index, form) in list.into_iter().enumerate() {
        let place = list_place.index(index);
        let id = form.id.unwrap_or_else(|| format!("credential-{}", index + 1));
        seen.check_id(&place.key("id"), &id, context);
        let limited =
            limits::add(&place, Scope::Credential, &format!("{channel_id}/{id}"), form.limits, form.quotas, context);
        let status = status(&place, form.status.as_deref(), &mut context.problems);
        let place = place.key("api_key");
        if let Some(key) = api_key(&place, &form.api_key, context) {
            seen.check_key(&place, &key, context);
            credentials.push(Credential {
                id: id.into(),
                fingerprint: key.fingerprint(),
                api_key: key.text,
                weight: form.weight.unwrap_or(1),
                status,
                limited,
            });
        }
    }
    let is_any_active = credentials.iter().any(|credential| credential.status == Status::Active);
    if credentials.len() == count && is_active && !is_any_active {
        context.problems.warning(&list_place, "every credential is switched off, so the channel answers nobody");
    }
    credentials.into()
}

/// Where each id and each key of a channel was written first.
#[derive(Default)]
struct Seen {
    ids: HashMap<String, Mark>,
    keys: HashMap<KeyDigest, Mark>,
}

impl Seen {
    fn check_id(&mut self, place: &Place<'_>, id: &str, context: &mut Context<'_>) {
        check_id(place, id, &mut context.problems);
        if let Some(first) = self.ids.insert(id.to_owned(), place.mark()) {
            let first = context.problems.describe(first, place.mark());
            context.problems.error(place, format!("the id `{id}` is used twice in this channel; first at {first}"));
        }
    }

    /// The same key twice would fail twice, and be limited and left alone as if it were two.
    fn check_key(&mut self, place: &Place<'_>, key: &Key, context: &mut Context<'_>) {
        if let Some(first) = self.keys.get(&key.digest) {
            let first = context.problems.describe(*first, place.mark());
            context.problems.error(place, format!("the same key is written twice in this channel; first at {first}"));
            return;
        }
        self.keys.insert(key.digest, place.mark());
    }
}

/// A real key with its secret filled in.
struct Key {
    text: Secret,
    digest: KeyDigest,
}

impl Key {
    fn fingerprint(&self) -> u64 {
        self.digest.iter().take(8).fold(0, |fingerprint, byte| fingerprint << 8 | u64::from(*byte))
    }
}

fn api_key(place: &Place<'_>, written: &Secret, context: &mut Context<'_>) -> Option<Key> {
    let text = context.expand(place, written)?;
    check_key_text(place, text.expose(), context);
    Some(Key { digest: key_digest(text.expose()), text })
}

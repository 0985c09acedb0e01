//! Proxy keys: the secrets users hold, each with its own rules within its user's.

use std::collections::HashMap;
use std::sync::Arc;

use aiproxy_core::Secret;

use super::capture;
use super::channel::Channels;
use super::checks::{check_id, check_key_text, model_patterns, networks, references, status};
use super::limits;
use crate::context::Context;
use crate::form::{ProxyKeyForm, Timestamp};
use crate::snapshot::{DigestMap, ProxyKey, Scope, Status, User};
use crate::tree::{Mark, Place};
use crate::{glob_match, key_digest};

/// All keys so far, and where each secret and id was written.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) keys: DigestMap<Arc<ProxyKey>>,
    secrets: DigestMap<Mark>,
    ids: HashMap<Box<str>, Mark>,
}

/// Whose keys are being added.
#[derive(Clone, Copy)]
pub(super) struct Owner<'run> {
    /// Index of the user.
    pub(super) index: usize,
    pub(super) user: &'run User,
    /// Whether the user's channels and models are what was meant.
    pub(super) is_known: bool,
    /// What the user, or else the system, says of failover.
    pub(super) failover: bool,
    pub(super) channels: &'run Channels,
}

impl Keys {
    /// Adds the short form: `proxy_key: …`.
    pub(super) fn add_short(
        &mut self,
        place: &Place<'_>,
        written: &Secret,
        owner: Owner<'_>,
        context: &mut Context<'_>,
    ) {
        let key = ProxyKey {
            id: owner.user.id.clone(),
            user: owner.index,
            status: Status::Active,
            expires_at_ms: None,
            channels: None,
            models: Box::default(),
            ip_allow: Box::default(),
            failover: owner.failover,
            limited: None,
            capture: None,
        };
        self.check_unique(place, &key.id, context);
        warn_if_useless(place, &key, owner, context);
        self.add(place, written, key, owner.channels, context);
    }

    /// Adds one of `proxy_keys`.
    pub(super) fn add_full(
        &mut self,
        place: &Place<'_>,
        number: usize,
        form: ProxyKeyForm,
        owner: Owner<'_>,
        context: &mut Context<'_>,
    ) {
        let id: Box<str> = form.id.unwrap_or_else(|| format!("{}-{number}", owner.user.id)).into();
        check_id(&place.key("id"), &id, &mut context.problems);
        self.check_unique(&place.key("id"), &id, context);
        let limited = limits::add(place, Scope::Key, &id, form.limits, form.quotas, context);
        let key = ProxyKey {
            id,
            user: owner.index,
            status: status(place, form.status.as_deref(), &mut context.problems),
            expires_at_ms: form.expires_at.map(|moment| expiry(&place.key("expires_at"), moment, context)),
            channels: form.channels.map(|names| own_channels(&place.key("channels"), &names, owner, context)),
            models: own_models(&place.key("models"), form.models, owner, context),
            ip_allow: networks(form.ip_allow),
            failover: form.failover.unwrap_or(owner.failover),
            limited,
            capture: capture::compile(&place.key("capture"), form.capture, &mut context.problems),
        };
        warn_if_useless(place, &key, owner, context);
        self.add(&place.key("key"), &form.key, key, owner.channels, context);
    }

    fn check_unique(&mut self, place: &Place<'_>, id: &str, context: &mut Context<'_>) {
        if let Some(first) = self.ids.insert(id.into(), place.mark()) {
            let first = context.problems.describe(first, place.mark());
            context.problems.error(place, format!("the key id `{id}` is used twice; first at {first}"));
        }
    }

    fn add(
        &mut self,
        place: &Place<'_>,
        written: &Secret,
        key: ProxyKey,
        channels: &Channels,
        context: &mut Context<'_>,
    ) {
        let Some(secret) = context.expand(place, written) else {
            return;
        };
        check_key_text(place, secret.expose(), context);
        let digest = key_digest(secret.expose());
        if let Some(first) = self.secrets.get(&digest) {
            let first = context.problems.describe(*first, place.mark());
            context.problems.error(place, format!("the same key is written twice; first at {first}"));
        }
        if let Some(channel) = channels.real_keys.get(&digest) {
            let message = format!("this is the real key of `{channel}`; callers must never hold it, give them another");
            context.problems.error(place, message);
        }
        self.secrets.insert(digest, place.mark());
        self.keys.insert(digest, Arc::new(key));
    }
}

/// The key's own channels, which must be some of the user's.
fn own_channels(place: &Place<'_>, names: &[String], owner: Owner<'_>, context: &mut Context<'_>) -> Box<[usize]> {
    let own = references(place, names, &owner.channels.index_by_id, "channel", &mut context.problems);
    for (position, name) in names.iter().enumerate() {
        let Some(index) = owner.channels.index_by_id.get(name.as_str()) else {
            continue;
        };
        if owner.is_known && !owner.user.channels.contains(index) {
            let place = place.index(position);
            context.problems.error(&place, format!("the user of this key may not use the channel `{name}`"));
        }
    }
    own.into()
}

/// The key's own models, which must be some of the user's.
fn own_models(place: &Place<'_>, models: Vec<String>, owner: Owner<'_>, context: &mut Context<'_>) -> Box<[Box<str>]> {
    let own = model_patterns(place, models, &mut context.problems);
    for (position, pattern) in own.iter().enumerate() {
        // A pattern lies within another if the other matches it as if it were a name: its `*` then meets a `*`.
        let allowed = &owner.user.models;
        if owner.is_known && !allowed.is_empty() && !allowed.iter().any(|allowed| glob_match(allowed, pattern)) {
            let place = place.index(position);
            context.problems.error(&place, format!("the user of this key may not use the model `{pattern}`"));
        }
    }
    own
}

fn expiry(place: &Place<'_>, moment: Timestamp, context: &mut Context<'_>) -> u64 {
    let moment_ms = u64::try_from(moment.0.as_millisecond()).unwrap_or(0);
    if moment_ms <= context.now_ms {
        context.problems.warning(place, "this key has expired");
    }
    moment_ms
}

/// Warns if every channel an otherwise working key may use is switched off.
fn warn_if_useless(place: &Place<'_>, key: &ProxyKey, owner: Owner<'_>, context: &mut Context<'_>) {
    let allowed = key.channels.as_deref().unwrap_or(&owner.user.channels);
    let is_working = key.status == Status::Active && owner.user.status == Status::Active;
    if !is_working || allowed.is_empty() || !allowed.iter().all(|index| owner.channels.is_disabled(*index)) {
        return;
    }
    let names: Vec<_> = allowed.iter().map(|index| format!("`{}`", owner.channels.id(*index))).collect();
    let message = match names.as_slice() {
        [only] => format!("the only channel of this key, {only}, is switched off"),
        all => format!("all channels of this key are switched off: {}", all.join(", ")),
    };
    context.problems.warning(place, message);
}

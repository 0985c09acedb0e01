//! `channels` to [`Channel`]s.

use std::collections::HashMap;

use super::checks::{check_id, deadline, status};
use super::{capture, credentials, endpoint, headers, health, limits, models};
use crate::context::Context;
use crate::form::ChannelForm;
use crate::key_digest;
use crate::read::read_checked;
use crate::snapshot::{Channel, DigestMap, Scope, Status, Timeouts};
use crate::tree::{Mark, Node, Place};

/// All channels, and what is needed to check those who refer to them.
pub(super) struct Channels {
    /// By index; `None` where an entry was wrong.
    pub(super) channels: Vec<Option<Channel>>,
    pub(super) index_by_id: HashMap<Box<str>, usize>,
    /// Path of the channel each real key belongs to: a proxy key must not be one.
    pub(super) real_keys: DigestMap<String>,
    /// Which channels some user may use.
    pub(super) is_used: Vec<bool>,
    marks: Vec<Mark>,
}

impl Channels {
    /// Whether the channel at `index` is known to be switched off.
    pub(super) fn is_disabled(&self, index: usize) -> bool {
        self.channels.get(index).and_then(Option::as_ref).is_some_and(|channel| channel.status == Status::Disabled)
    }

    /// Id of the channel at `index`.
    pub(super) fn id(&self, index: usize) -> &str {
        self.channels.get(index).and_then(Option::as_ref).map_or("", |channel| &channel.id)
    }

    /// Notes that somebody may use these channels.
    pub(super) fn mark_used(&mut self, indices: &[usize]) {
        for index in indices {
            if let Some(is_used) = self.is_used.get_mut(*index) {
                *is_used = true;
            }
        }
    }

    /// Warns of active channels that nobody may use.
    pub(super) fn warn_unused(&self, users: usize, context: &mut Context<'_>) {
        // With errors about, it is not known whom a broken list would have allowed what.
        if users == 0 || context.problems.errors() > 0 {
            return;
        }
        for ((channel, is_used), mark) in self.channels.iter().zip(&self.is_used).zip(&self.marks) {
            let Some(channel) = channel.as_ref().filter(|channel| channel.status == Status::Active && !is_used) else {
                continue;
            };
            let section = Place::section("channels", *mark, None);
            context
                .problems
                .warning(&section.key(&channel.id), "no user may use this channel; add it to some `channels:`");
        }
    }
}

/// Compiles the section.
pub(super) fn compile(section: Node, context: &mut Context<'_>) -> Channels {
    let section_place = Place::section("channels", section.mark, None);
    let entries = section.into_entries();
    let mut compiled = Channels {
        channels: Vec::with_capacity(entries.len()),
        index_by_id: entries.iter().enumerate().map(|(index, entry)| (Box::from(&*entry.key), index)).collect(),
        real_keys: DigestMap::default(),
        is_used: vec![false; entries.len()],
        marks: entries.iter().map(|entry| entry.key_mark).collect(),
    };
    for mut entry in entries {
        let form = read_checked::<ChannelForm>(&section_place, &mut entry, "Channel", &mut context.problems);
        let place = section_place.entry(&entry).at(entry.key_mark);
        check_id(&place, &entry.key, &mut context.problems);
        let channel = form.map(|form| channel(&place, &entry.key, form, context));
        for credential in channel.iter().flat_map(|channel| &channel.credentials) {
            compiled.real_keys.insert(key_digest(credential.api_key.expose()), place.path());
        }
        compiled.channels.push(channel);
    }
    compiled
}

fn channel(place: &Place<'_>, id: &str, mut form: ChannelForm, context: &mut Context<'_>) -> Channel {
    let status = status(place, form.status.as_deref(), &mut context.problems);
    let route = endpoint::Route::compile(place, &form, context);
    let endpoints = endpoint::endpoints(place, &form, status, &route, context);
    let limited = limits::add(place, Scope::Channel, id, form.limits.take(), std::mem::take(&mut form.quotas), context);
    let credentials = credentials::compile(place, id, &mut form, status, context);
    let timeouts = timeouts(place, &form, context);
    let headers = headers::compile(&place.key("headers"), form.headers, context);
    if let Some(user_agent) = &form.user_agent {
        headers::check_value(&place.key("user_agent"), user_agent, context);
    }
    Channel {
        id: id.into(),
        name: form.name.unwrap_or_default().into(),
        kind: endpoint::kind(place, form.kind, &endpoints, context),
        status,
        endpoints,
        credentials,
        priority: form.priority.unwrap_or(0),
        weight: form.weight.unwrap_or(1),
        models: models::compile(&place.key("models"), form.models, context),
        path_rewrite: headers::paths(&place.key("path_rewrite"), form.path_rewrite, context),
        supports_websocket: form.supports_websocket.unwrap_or(true),
        websocket_url: form.websocket_url.map(|url| route.endpoint(&url.0, 1)),
        websocket_endpoints: headers::paths(&place.key("websocket_endpoints"), form.websocket_endpoints, context),
        timeouts,
        max_retries: form.max_retries.unwrap_or(0),
        retry_ambiguous: form.retry_ambiguous.unwrap_or(false),
        health: health::compile(&place.key("health"), form.health, &mut context.problems),
        affinity: form.affinity.is_some_and(|affinity| affinity.0),
        limited,
        capture: capture::compile(&place.key("capture"), form.capture, &mut context.problems),
        headers_set: headers.set,
        headers_remove: headers.remove,
        user_agent: form.user_agent.map(Into::into),
    }
}

fn timeouts(place: &Place<'_>, form: &ChannelForm, context: &mut Context<'_>) -> Timeouts {
    let default = Timeouts::default();
    let problems = &mut context.problems;
    let first_byte = deadline(&place.key("timeout"), form.timeout, default.first_byte, problems);
    let idle = form.timeout.map_or(default.idle, |timeout| timeout.0);
    let Some(form) = &form.timeouts else {
        return Timeouts { first_byte, idle, ..default };
    };
    let place = place.key("timeouts");
    Timeouts {
        connect: deadline(&place.key("connect"), form.connect, default.connect, problems),
        first_byte: deadline(&place.key("first_byte"), form.first_byte, first_byte, problems),
        idle: deadline(&place.key("idle"), form.idle, idle, problems),
        total: deadline(&place.key("total"), form.total, default.total, problems),
    }
}

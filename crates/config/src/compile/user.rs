//! `users` to [`User`]s, with what their groups add.

use std::collections::HashMap;
use std::sync::Arc;

use super::channel::Channels;
use super::checks::{check_id, model_patterns, networks, references, status};
use super::group::{Group, Groups};
use super::key::{Keys, Owner};
use crate::context::Context;
use crate::form::UserForm;
use crate::read::read;
use crate::schema::definition;
use crate::schema_check::check;
use crate::snapshot::{KeyDigest, ProxyKey, Status, User};
use crate::tree::{Node, Place};

/// All users and their keys.
pub(super) struct Users {
    pub(super) users: Vec<User>,
    pub(super) keys: HashMap<KeyDigest, Arc<ProxyKey>>,
}

/// Compiles the section.
pub(super) fn compile(section: Node, channels: &mut Channels, groups: &Groups, context: &mut Context<'_>) -> Users {
    let section_place = Place::section("users", section.mark, None);
    let entries = section.into_entries();
    let mut users = Vec::with_capacity(entries.len());
    let mut keys = Keys::default();
    for entry in entries {
        let place = section_place.entry(&entry).at(entry.key_mark);
        check_id(&place, &entry.key, &mut context.problems);
        if !check(&place, definition("User"), &mut context.problems) {
            continue;
        }
        let mut form: UserForm = match read(&entry.node) {
            Ok(form) => form,
            Err(unreadable) => {
                context.problems.error(&place, unreadable.to_string());
                continue;
            }
        };
        let (short_key, full_keys) = (form.proxy_key.take(), std::mem::take(&mut form.proxy_keys));
        let user = user(&place, &entry.key, form, channels, groups, context);
        channels.mark_used(&user.channels);
        if short_key.is_none() && full_keys.is_empty() && user.status == Status::Active {
            context.problems.warning(&place, "the user has no `proxy_key` and cannot call");
        }
        let owner = Owner { index: users.len(), user: &user, channels: &*channels };
        if let Some(written) = short_key {
            keys.add_short(&place.key("proxy_key"), &written, owner, context);
        }
        let list_place = place.key("proxy_keys");
        for (index, form) in full_keys.into_iter().enumerate() {
            keys.add_full(&list_place.index(index), index + 1, form, owner, context);
        }
        users.push(user);
    }
    users.shrink_to_fit();
    keys.keys.shrink_to_fit();
    Users { users, keys: keys.keys }
}

fn user(
    place: &Place<'_>,
    id: &str,
    form: UserForm,
    channels: &Channels,
    groups: &Groups,
    context: &mut Context<'_>,
) -> User {
    let problems = &mut context.problems;
    let status = status(place, form.status.as_deref(), problems);
    let member_of = references(&place.key("groups"), &form.groups, &groups.index_by_id, "group", problems);
    let member_of: Vec<&Group> = member_of.into_iter().filter_map(|index| groups.groups.get(index)).collect();

    let mut allowed = references(&place.key("channels"), &form.channels, &channels.index_by_id, "channel", problems);
    for index in member_of.iter().flat_map(|group| &group.channels) {
        if !allowed.contains(index) {
            allowed.push(*index);
        }
    }
    let wrote_channels = !form.channels.is_empty() || !form.groups.is_empty();
    if allowed.is_empty() && !wrote_channels && status == Status::Active {
        problems.warning(place, "the user may use no channel; add `channels:` or `groups:`");
    }

    let mut models = model_patterns(&place.key("models"), form.models, problems);
    if models.is_empty() {
        models = member_of.iter().flat_map(|group| group.models.iter().cloned()).collect();
    }
    let own_networks = networks(form.ip_allow);
    let all_networks = std::iter::once(own_networks).chain(member_of.iter().map(|group| group.ip_allow.clone()));
    User {
        id: id.into(),
        name: form.name.unwrap_or_default().into(),
        department: form.department.unwrap_or_default().into(),
        status,
        channels: allowed.into(),
        models,
        ip_allow: all_networks.filter(|networks| !networks.is_empty()).collect(),
    }
}

//! `users` to [`User`]s, with what their groups add.

use std::sync::Arc;

use super::channel::Channels;
use super::checks::{check_id, model_patterns, networks, references, status};
use super::department::Departments;
use super::group::{Group, Groups};
use super::key::{Keys, Owner};
use super::limits;
use crate::context::Context;
use crate::form::UserForm;
use crate::read::read_checked;
use crate::snapshot::{DigestMap, ProxyKey, Scope, Status, User};
use crate::tree::{Node, Place};

/// All users and their keys.
pub(super) struct Users {
    pub(super) users: Vec<User>,
    pub(super) keys: DigestMap<Arc<ProxyKey>>,
}

/// Compiles the section. `failover` stands in where neither a key nor its user says.
pub(super) fn compile(
    section: Node,
    channels: &mut Channels,
    groups: &Groups,
    departments: &mut Departments,
    failover: bool,
    context: &mut Context<'_>,
) -> Users {
    let section_place = Place::section("users", section.mark, None);
    let entries = section.into_entries();
    let mut users = Vec::with_capacity(entries.len());
    let mut keys = Keys::default();
    for mut entry in entries {
        let form = read_checked::<UserForm>(&section_place, &mut entry, "User", &mut context.problems);
        let place = section_place.entry(&entry).at(entry.key_mark);
        check_id(&place, &entry.key, &mut context.problems);
        let Some(mut form) = form else {
            continue;
        };
        let (short_key, full_keys) = (form.proxy_key.take(), std::mem::take(&mut form.proxy_keys));
        let failover = form.failover.unwrap_or(failover);
        let is_known = is_known(&place, &form, groups);
        let of_department = departments.limited(form.department.as_deref().unwrap_or_default());
        let user = user(&place, &entry.key, form, channels, groups, of_department, context);
        channels.mark_used(&user.channels);
        let has_broken_keys = place.is_broken("proxy_key") || place.is_broken("proxy_keys");
        if short_key.is_none() && full_keys.is_empty() && !has_broken_keys && user.status == Status::Active {
            context.problems.warning(&place, "the user has no `proxy_key` and cannot call");
        }
        let owner = Owner { index: users.len(), user: &user, is_known, failover, channels: &*channels };
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

/// Whether the channels and models of a user are what was meant, so that those of its keys can be held against them.
fn is_known(place: &Place<'_>, form: &UserForm, groups: &Groups) -> bool {
    let group = |id: &String| groups.index_by_id.get(id.as_str()).and_then(|index| groups.groups.get(*index));
    !["channels", "groups", "models"].iter().any(|name| place.is_broken(name))
        && form.groups.iter().all(|id| group(id).is_some_and(|group| group.is_known))
}

fn user(
    place: &Place<'_>,
    id: &str,
    form: UserForm,
    channels: &Channels,
    groups: &Groups,
    of_department: Option<u32>,
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
    let is_mistaken = !form.channels.is_empty() || !form.groups.is_empty();
    let is_broken = place.is_broken("channels") || place.is_broken("groups");
    if allowed.is_empty() && !is_mistaken && !is_broken && status == Status::Active {
        problems.warning(place, "the user may use no channel; add `channels:` or `groups:`");
    }

    let mut models = model_patterns(&place.key("models"), form.models, problems);
    if models.is_empty() {
        models = member_of.iter().flat_map(|group| group.models.iter().cloned()).collect();
    }
    let own_limits = limits::add(place, Scope::User, id, form.limits, form.quotas, context);
    let of_groups = member_of.iter().filter_map(|group| group.limited);
    let own_networks = networks(form.ip_allow);
    let all_networks = std::iter::once(own_networks).chain(member_of.iter().map(|group| group.ip_allow.clone()));
    User {
        id: id.into(),
        name: form.name.unwrap_or_default().into(),
        department: form.department.unwrap_or_default().into(),
        groups: member_of.iter().map(|group| group.id.clone()).collect(),
        status,
        channels: allowed.into(),
        models,
        ip_allow: all_networks.filter(|networks| !networks.is_empty()).collect(),
        limited: own_limits.into_iter().chain(of_groups).chain(of_department).collect(),
    }
}

//! `groups`: what their members gain and must satisfy. Groups dissolve here; the snapshot only knows
//! users, and the limits they share.

use std::collections::HashMap;

use ipnet::IpNet;

use super::channel::Channels;
use super::checks::{check_id, model_patterns, networks, references};
use super::limits;
use crate::context::Context;
use crate::form::GroupForm;
use crate::read::read_checked;
use crate::snapshot::Scope;
use crate::tree::{Node, Place};

/// All groups.
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
    pub(super) index_by_id: HashMap<Box<str>, usize>,
}

/// What a group means for its members.
#[derive(Default)]
pub(super) struct Group {
    pub(super) id: Box<str>,
    /// Whether `channels` says what was meant.
    pub(super) is_known: bool,
    pub(super) channels: Vec<usize>,
    pub(super) models: Box<[Box<str>]>,
    pub(super) ip_allow: Box<[IpNet]>,
    pub(super) limited: Option<u32>,
}

/// Compiles the section. A wrong entry becomes an empty group, so that references to it are still known.
pub(super) fn compile(section: Node, channels: &Channels, context: &mut Context<'_>) -> Groups {
    let section_place = Place::section("groups", section.mark, None);
    let entries = section.into_entries();
    let index_by_id = entries.iter().enumerate().map(|(index, entry)| (Box::from(&*entry.key), index)).collect();
    let mut groups = Vec::with_capacity(entries.len());
    for mut entry in entries {
        let form = read_checked::<GroupForm>(&section_place, &mut entry, "Group", &mut context.problems);
        let place = section_place.entry(&entry).at(entry.key_mark);
        check_id(&place, &entry.key, &mut context.problems);
        groups.push(form.map_or_else(Group::default, |form| group(&place, &entry.key, form, channels, context)));
    }
    Groups { groups, index_by_id }
}

fn group(place: &Place<'_>, id: &str, form: GroupForm, channels: &Channels, context: &mut Context<'_>) -> Group {
    let limited = limits::add(place, Scope::Group, id, form.limits, form.quotas, context);
    let problems = &mut context.problems;
    Group {
        id: id.into(),
        is_known: !place.is_broken("channels"),
        channels: references(&place.key("channels"), &form.channels, &channels.index_by_id, "channel", problems),
        models: model_patterns(&place.key("models"), form.models, problems),
        ip_allow: networks(form.ip_allow),
        limited,
    }
}

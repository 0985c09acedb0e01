//! Sections of the tree to a snapshot, reporting everything that does not make sense on the way.
//!
//! Works entry by entry: check against the schema, read the form, check what it says, keep what it means. An entry is
//! dropped before the next is read, so that a large file never exists three times.

mod capture;
mod channel;
mod checks;
mod credentials;
mod database;
mod department;
mod endpoint;
mod group;
mod headers;
mod health;
mod key;
mod ledger;
mod limits;
mod log;
mod models;
mod prices;
mod rate;
mod realtime;
mod system;
mod user;

use std::sync::Arc;

use self::system::Process;
use crate::context::Context;
use crate::not_enforced;
use crate::snapshot::Snapshot;
use crate::tree::Node;

/// The five sections, merged from all files.
pub(crate) struct Sections {
    pub(crate) users: Node,
    pub(crate) channels: Node,
    pub(crate) groups: Node,
    pub(crate) departments: Node,
    pub(crate) system: Node,
}

/// Compiles everything. The result means nothing if errors were reported.
pub(crate) fn compile(sections: Sections, context: &mut Context<'_>) -> Snapshot {
    let Sections { users, channels, groups, departments, system } = sections;
    let named = [("users", &users), ("channels", &channels), ("groups", &groups), ("system", &system)];
    not_enforced::warn(&named, &mut context.problems);

    let Process { system, failover, prices } = system::compile(system, &channels, context);
    let mut channels = channel::compile(channels, context);
    let groups = group::compile(groups, &channels, context);
    let mut departments = department::compile(departments, context);
    let users = user::compile(users, &mut channels, &groups, &mut departments, failover, context);
    channels.warn_unused(users.users.len(), context);
    departments.warn_unused(&users.users, context);

    Snapshot {
        users: users.users.into_iter().map(Arc::new).collect(),
        keys: users.keys,
        channels: channels.channels.into_iter().flatten().map(Arc::new).collect(),
        channel_by_id: channels.index_by_id,
        limited: std::mem::take(&mut context.limited),
        system,
        prices,
    }
}

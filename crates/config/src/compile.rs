//! Sections of the tree to a snapshot, reporting everything that does not make sense on the way.
//!
//! Works entry by entry: check against the schema, read the form, check what it says, keep what it means. An entry is
//! dropped before the next is read, so that a large file never exists three times.

mod channel;
mod checks;
mod credentials;
mod endpoint;
mod group;
mod headers;
mod health;
mod key;
mod limits;
mod models;
mod rate;
mod system;
mod user;

use std::sync::Arc;

use self::system::Process;
use crate::context::Context;
use crate::not_enforced;
use crate::snapshot::Snapshot;
use crate::tree::Node;

/// The four sections, merged from all files.
pub(crate) struct Sections {
    pub(crate) users: Node,
    pub(crate) channels: Node,
    pub(crate) groups: Node,
    pub(crate) system: Node,
}

/// Compiles everything. The result means nothing if errors were reported.
pub(crate) fn compile(sections: Sections, context: &mut Context<'_>) -> Snapshot {
    let Sections { users, channels, groups, system } = sections;
    let named = [("users", &users), ("channels", &channels), ("groups", &groups), ("system", &system)];
    not_enforced::warn(&named, &mut context.problems);

    let Process { system, failover } = system::compile(system, context);
    let mut channels = channel::compile(channels, context);
    let groups = group::compile(groups, &channels, context);
    let users = user::compile(users, &mut channels, &groups, failover, context);
    channels.warn_unused(users.users.len(), context);

    Snapshot {
        users: users.users.into_iter().map(Arc::new).collect(),
        keys: users.keys,
        channels: channels.channels.into_iter().flatten().map(Arc::new).collect(),
        channel_by_id: channels.index_by_id,
        limited: std::mem::take(&mut context.limited),
        system,
    }
}

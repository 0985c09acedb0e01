//! `limits`, wherever they are written, to the one list of them in the snapshot.

use crate::context::Context;
use crate::form::LimitsForm;
use crate::snapshot::{Limited, Limits, Scope};

/// Adds the limits of the thing `id`; returns their index. `None` if nothing is limited.
pub(super) fn add(scope: Scope, id: &str, form: Option<LimitsForm>, context: &mut Context<'_>) -> Option<u32> {
    let LimitsForm { requests_per_minute, tokens_per_minute, concurrent } = form?;
    let limits = Limits { requests_per_minute, tokens_per_minute, concurrent };
    if limits == Limits::default() {
        return None;
    }
    let index = u32::try_from(context.limited.len()).ok()?;
    context.limited.push(Limited { scope, id: id.into(), limits });
    Some(index)
}

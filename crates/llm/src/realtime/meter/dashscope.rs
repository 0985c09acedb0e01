//! DashScope's speech sockets: tasks, told apart by `header.task_id`, whose usage is cumulative. A `null` in the last
//! event of a task means that the report before it stands.

use serde_json::json;

use crate::json_scan::{Captures, Path, decode_string};
use crate::meter::MeterError;
use crate::realtime::values::{cut_sentence, id_at};
use crate::usage::UsageForm;

use super::Models;
use super::totals::Totals;
use super::units::Units;

const EVENT: usize = 0;
const TASK_ID: usize = 1;
const ERROR_CODE: usize = 2;
const ERROR_MESSAGE: usize = 3;
const USAGE: usize = 4;
pub(super) const PATHS: &[Path] = &[
    &["header", "event"],
    &["header", "task_id"],
    &["header", "error_code"],
    &["header", "error_message"],
    &["payload", "usage"],
];

/// Takes one event, and returns the error if it tells one.
pub(super) fn observe(
    captures: &Captures,
    tasks: &mut Units,
    models: &Models,
    totals: &mut Totals,
) -> Option<MeterError> {
    let event = captures.raw(EVENT).and_then(decode_string)?;
    let id = id_at(captures, TASK_ID).unwrap_or_default();
    let is_last = matches!(event.as_str(), "task-finished" | "task-failed");
    if let Some(usage) = totals.read(UsageForm::Dashscope, captures, USAGE) {
        tasks.report(&id, usage, models.main(), !is_last, totals);
        totals.recount(tasks.running());
    }
    if is_last {
        tasks.end(&id, totals);
    }
    (event == "task-failed").then(|| MeterError {
        code: id_at(captures, ERROR_CODE),
        kind: None,
        message: captures.raw(ERROR_MESSAGE).and_then(decode_string).map(cut_sentence),
    })
}

/// What ends each of `tasks` at once, as the SDK's `cancel` does.
pub(super) fn cancel(tasks: &[String]) -> Vec<String> {
    let finish = |id: &String| {
        json!({
            "header": {"action": "finish-task", "task_id": id, "streaming": "duplex"},
            "payload": {"input": {"directive": "cancel"}},
        })
    };
    tasks.iter().map(|id| finish(id).to_string()).collect()
}

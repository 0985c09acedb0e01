//! Gemini Live: one report counts for each turn, the last one before or with `turnComplete`, because the numbers grow
//! within a turn and begin anew with the next one, which pays for the whole context again.
//!
//! - An interrupted turn ends with its `turnComplete`, or when the content of another begins. What it last reported
//!   counts.
//! - A `turnComplete` without content behind another one is a turn of its own: the model chose to say nothing.
//! - A report behind `turnComplete` with nothing else to it belongs to the turn just ended, if that reported nothing, or
//!   nothing larger in any number: it is then the same count, grown or repeated. Otherwise it stands for something of
//!   its own, and is added. So none is lost, and none that is repeated counts twice.
//! - The end of the socket ends the turn: its last report has been counted already.

use crate::json_scan::{Captures, Path};
use crate::meter::MeterError;
use crate::realtime::values::{error_at, is_there};
use crate::usage::{Usage, UsageForm};

use super::totals::{Running, Totals};
use super::{ModelRole, Models};

const USAGE: usize = 0;
const ERROR: usize = 1;
pub(super) const PATHS: &[Path] = &[&["usageMetadata"], &["error"]];

const MODEL_TURN: usize = 0;
const TOOL_CALL: usize = 1;
const TURN_COMPLETE: usize = 2;
const INTERRUPTED: usize = 3;
/// Transcriptions are not among them: they come in no fixed order with the turns.
pub(super) const SHAPE: &[Path] = &[
    &["serverContent", "modelTurn"],
    &["toolCall"],
    &["serverContent", "turnComplete"],
    &["serverContent", "interrupted"],
];

/// The turns of one socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    phase: Phase,
    /// The current turn, or the one just ended.
    current: Running,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing of the turn has come.
    #[default]
    Waiting,
    Open,
    /// It was interrupted, and its `turnComplete` may still come.
    Interrupted,
    Complete,
}

impl Turns {
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    fn begin_anew(&mut self, totals: &mut Totals) {
        totals.settle(&self.current);
        self.current = Running::default();
    }
}

/// Takes one message, and returns the error if it tells one.
pub(super) fn observe(
    captures: &Captures,
    shape: &Captures,
    turns: &mut Turns,
    models: &Models,
    totals: &mut Totals,
) -> Option<MeterError> {
    let is_set = |index| shape.raw(index) == Some(b"true");
    let has_content = is_there(shape, MODEL_TURN) || is_there(shape, TOOL_CALL);
    let (is_complete, is_interrupted) = (is_set(TURN_COMPLETE), is_set(INTERRUPTED));
    let is_another = match turns.phase {
        Phase::Complete => has_content || is_complete,
        Phase::Interrupted => has_content,
        Phase::Waiting | Phase::Open => false,
    };
    if is_another {
        turns.begin_anew(totals);
        turns.phase = Phase::Waiting;
    }
    if let Some(usage) = totals.read(UsageForm::Gemini, captures, USAGE) {
        if turns.phase == Phase::Complete && !covers(&usage, turns.current.usage()) {
            turns.begin_anew(totals);
        }
        turns.current.report(usage, models.main(), ModelRole::Main, totals);
        totals.recount(std::iter::once(&turns.current));
    }
    turns.phase = match turns.phase {
        _ if is_complete => Phase::Complete,
        Phase::Complete => Phase::Complete,
        Phase::Open if is_interrupted => Phase::Interrupted,
        _ if has_content && is_interrupted => Phase::Interrupted,
        _ if has_content => Phase::Open,
        phase => phase,
    };
    error_at(captures, ERROR)
}

/// Every number of `earlier` is there in `later`, and no smaller.
fn covers(later: &Usage, earlier: &Usage) -> bool {
    later.numbers().into_iter().zip(earlier.numbers()).all(|(later, earlier)| later >= earlier)
}

//! Units of work that have an id and report cumulatively: DashScope's tasks, the decisions of OpenAI Live. Several run at
//! once. A few that have ended are remembered, so that a report that comes again replaces the earlier one instead of
//! counting twice.

use std::collections::VecDeque;

use crate::usage::Usage;

use super::ModelRole;
use super::totals::{Running, Totals};

/// So many are known to run at once; the oldest is counted as ended when one more begins.
pub(super) const MOST_OPEN: usize = 64;

/// So many that have ended are remembered.
const MOST_ENDED: usize = 8;

/// The units of one socket, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Units {
    units: VecDeque<Unit>,
    /// The ids of those that run.
    open: Vec<String>,
}

#[derive(Clone, Debug)]
struct Unit {
    id: String,
    model: Option<String>,
    running: Running,
}

impl Units {
    /// The ids of those that run, oldest first.
    pub(super) fn open(&self) -> &[String] {
        &self.open
    }

    /// A unit begins. An id that was used before and has ended is a new unit; one that runs stays as it is, because an
    /// upstream refuses a second one.
    pub(super) fn begin(&mut self, id: &str, model: Option<String>, totals: &mut Totals) {
        if self.open.iter().any(|open| open == id) {
            return;
        }
        if let Some(at) = self.units.iter().position(|unit| unit.id == id) {
            self.settle(at, totals);
        }
        self.units.push_back(Unit { id: id.to_owned(), model, running: Running::default() });
        self.open.push(id.to_owned());
        self.forget(totals);
    }

    /// A unit reports. One that is not known begins with it, under `model`; if it does not run, it has ended with it.
    pub(super) fn report(
        &mut self,
        id: &str,
        usage: Usage,
        model: Option<&str>,
        is_running: bool,
        totals: &mut Totals,
    ) {
        if !self.units.iter().any(|unit| unit.id == id) {
            self.units.push_back(Unit {
                id: id.to_owned(),
                model: model.map(str::to_owned),
                running: Running::default(),
            });
            if is_running {
                self.open.push(id.to_owned());
            }
        }
        if let Some(unit) = self.units.iter_mut().find(|unit| unit.id == id) {
            let Unit { model, running, .. } = unit;
            running.report(usage, model.as_deref(), ModelRole::Main, totals);
        }
        self.forget(totals);
    }

    /// What those that are remembered have reported; [`Totals::recount`] is to be called with it after a report.
    pub(super) fn running(&self) -> impl Iterator<Item = &Running> {
        self.units.iter().map(|unit| &unit.running)
    }

    /// A unit has ended, well or not.
    pub(super) fn end(&mut self, id: &str, totals: &mut Totals) {
        self.open.retain(|open| open != id);
        self.forget(totals);
    }

    fn forget(&mut self, totals: &mut Totals) {
        while self.open.len() > MOST_OPEN {
            self.open.remove(0);
        }
        while self.units.len() > self.open.len() + MOST_ENDED {
            let Some(at) = self.units.iter().position(|unit| !self.open.contains(&unit.id)) else { return };
            self.settle(at, totals);
        }
    }

    fn settle(&mut self, at: usize, totals: &mut Totals) {
        if let Some(unit) = self.units.remove(at) {
            totals.settle(&unit.running);
        }
    }
}

//! What was used, by model and role: what is settled, and on top of it what units of work report that still run. A unit
//! reports cumulatively; its latest number replaces the earlier one.

use crate::json_scan::Captures;
use crate::usage::{Usage, UsageFlaw, UsageForm, parse};

use super::{ModelRole, ModelUsage};

/// So many models are told apart on one socket; what others use is summed under none.
pub(super) const MOST_MODELS: usize = 32;

/// The sums of one socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    used: Vec<ModelUsage>,
    /// Of each entry, what will not change any more.
    settled: Vec<Usage>,
    turns: u64,
    flaw: Option<UsageFlaw>,
    changed: bool,
}

/// What a unit of work has reported so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    /// The entry that it counts in, once it has reported.
    slot: Option<usize>,
    usage: Usage,
}

impl Running {
    pub(super) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Takes the latest report. The model is that of the first one: a unit is served by one. [`Totals::recount`] must
    /// follow.
    pub(super) fn report(&mut self, usage: Usage, model: Option<&str>, role: ModelRole, totals: &mut Totals) {
        if self.slot.is_none() {
            self.slot = Some(totals.slot(model, role));
            totals.turns += 1;
            totals.changed = true;
        }
        totals.changed |= self.usage != usage;
        self.usage = usage;
    }
}

impl Totals {
    pub(super) fn used(&self) -> &[ModelUsage] {
        &self.used
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    pub(super) fn flaw(&self) -> Option<UsageFlaw> {
        self.flaw
    }

    /// A message begins to be observed.
    pub(super) fn begin(&mut self) {
        self.changed = false;
    }

    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Remembers the first flaw.
    pub(super) fn note(&mut self, flaw: UsageFlaw) {
        self.flaw.get_or_insert(flaw);
    }

    /// Reads the usage at `index`. `None` if there is none, or none that can be read.
    pub(super) fn read(&mut self, form: UsageForm, captures: &Captures, index: usize) -> Option<Usage> {
        let capture = captures.get(index)?;
        if capture.truncated {
            self.note(UsageFlaw::TooLarge);
            return None;
        }
        let report = parse(form, &capture.bytes);
        if let Some(flaw) = report.flaws.first() {
            self.note(*flaw);
        }
        report.usage
    }

    /// Adds a unit that reports once.
    pub(super) fn add(&mut self, usage: &Usage, model: Option<&str>, role: ModelRole) {
        let slot = self.slot(model, role);
        self.settle_in(slot, usage);
        if let Some(entry) = self.used.get_mut(slot) {
            entry.usage.add(usage);
        }
        self.turns += 1;
        self.changed = true;
    }

    /// A unit's last report stands, and the unit is forgotten. The sums do not change by that.
    pub(super) fn settle(&mut self, running: &Running) {
        if let Some(slot) = running.slot {
            self.settle_in(slot, &running.usage);
        }
    }

    /// Puts what is running on top of what is settled.
    pub(super) fn recount<'a>(&mut self, running: impl Iterator<Item = &'a Running>) {
        for (entry, settled) in self.used.iter_mut().zip(&self.settled) {
            entry.usage = *settled;
        }
        for Running { slot, usage } in running {
            if let Some(entry) = slot.and_then(|slot| self.used.get_mut(slot)) {
                entry.usage.add(usage);
            }
        }
    }

    fn settle_in(&mut self, slot: usize, usage: &Usage) {
        if let Some(settled) = self.settled.get_mut(slot) {
            settled.add(usage);
        }
    }

    fn slot(&mut self, model: Option<&str>, role: ModelRole) -> usize {
        let find = |used: &[ModelUsage], model: Option<&str>| {
            used.iter().position(|entry| entry.role == role && entry.model.as_deref() == model)
        };
        if let Some(slot) = find(&self.used, model) {
            return slot;
        }
        let model = model.filter(|_| self.used.len() < MOST_MODELS);
        if model.is_none()
            && let Some(slot) = find(&self.used, None)
        {
            return slot;
        }
        self.used.push(ModelUsage { model: model.map(str::to_owned), usage: Usage::default(), role });
        self.settled.push(Usage::default());
        self.used.len() - 1
    }
}

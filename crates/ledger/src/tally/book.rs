//! The tallies of everything, counted from the journal.

use std::fmt;

use aiproxy_config::snapshot::Scope;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::entities::scope_named;
use super::{Amounts, Calendar, Charge, Entities, Periods, Tally, divide};
use crate::entry::Entry;

/// What each key, user, group, department, channel and credential used. A credential is called `channel/credential`.
///
/// Serialised it is a list of scope, id and tally, whatever the format.
#[derive(Clone, Debug, Default)]
pub struct TallyBook {
    tallies: Entities<Tally>,
}

impl TallyBook {
    /// Counts one call.
    pub fn add_entry(&mut self, entry: &Entry<'_>, calendar: &Calendar) {
        let periods = calendar.periods(entry.started_unix_ms);
        let charge = Charge {
            counted: entry.counted,
            tokens: entry.usage.map_or(0, |usage| usage.total_tokens()),
            cost: entry.cost,
        };
        let attempts = entry.attempts.iter().map(|attempt| {
            let tokens = attempt.usage.map_or(0, |usage| usage.total_tokens());
            let amounts = Amounts { requests: 0, tokens, cost: attempt.cost.unwrap_or(0) };
            ((attempt.channel_id, attempt.credential_id), amounts)
        });
        let last = entry.channel_id.zip(entry.credential_id);
        let all = divide(charge, last, attempts, |(channel, credential), amounts| {
            self.add(Scope::Channel, channel, &periods, amounts);
            self.add(Scope::Credential, &format!("{channel}/{credential}"), &periods, amounts);
        });
        if all.is_nothing() {
            return;
        }
        let department = entry.department.filter(|department| !department.is_empty());
        let callers = [(Scope::Key, entry.key_id), (Scope::User, entry.user_id), (Scope::Department, department)];
        for (scope, id) in callers.into_iter().filter_map(|(scope, id)| Some((scope, id?))) {
            self.add(scope, id, &periods, all);
        }
        for group in &entry.groups {
            self.add(Scope::Group, group, &periods, all);
        }
    }

    /// What one entity used, if it is known.
    #[must_use]
    pub fn get(&self, scope: Scope, id: &str) -> Option<&Tally> {
        self.tallies.get(scope, id)
    }

    /// Everything that is known, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Scope, &str, &Tally)> {
        self.tallies.iter()
    }

    fn add(&mut self, scope: Scope, id: &str, periods: &Periods, amounts: Amounts) {
        self.tallies.update(scope, id, Tally::default, |tally| tally.add(periods, amounts));
    }
}

impl PartialEq for TallyBook {
    fn eq(&self, other: &Self) -> bool {
        self.tallies.len() == other.tallies.len()
            && self.iter().all(|(scope, id, tally)| other.get(scope, id) == Some(tally))
    }
}

impl Serialize for TallyBook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // With its length, which a compact coding writes first.
        let all: Vec<_> = self.iter().map(|(scope, id, tally)| (scope.as_str(), id, tally)).collect();
        serializer.collect_seq(all)
    }
}

impl<'de> Deserialize<'de> for TallyBook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BookVisitor)
    }
}

struct BookVisitor;

impl<'de> Visitor<'de> for BookVisitor {
    type Value = TallyBook;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of scope, id and tally")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<TallyBook, A::Error> {
        let mut book = TallyBook::default();
        while let Some((scope, id, tally)) = all.next_element::<(String, String, Tally)>()? {
            let scope = scope_named(&scope).ok_or_else(|| A::Error::custom("an unknown kind of entity"))?;
            book.tallies.update(scope, &id, Tally::default, |known| known.merge(&tally));
        }
        Ok(book)
    }
}

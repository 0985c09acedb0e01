//! Async work stays where it began: a DashScope task, a file, a batch or a stored response exists only in the account
//! that made it, so later calls that name it go to the same credential.
//!
//! Remembered in this process, for as many as there is room. What is not known is routed like any other call.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use aiproxy_config::snapshot::{Channel, Credential};
use aiproxy_llm::peek::stable_hash;

use crate::record::Record;
use crate::route::Candidate;

/// How many ids are remembered; the oldest are forgotten first.
const WORKS_LIMIT: usize = 65_536;

/// A credential of a channel, by the hashes of their ids: these outlive a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Maker(u64);

impl Maker {
    /// The one who makes things with this credential.
    pub(crate) fn of(channel: &Channel, credential: &Credential) -> Self {
        Self(stable_hash(&[channel.id.as_bytes(), credential.id.as_bytes()]))
    }
}

/// Who made what.
#[derive(Debug, Default)]
pub(crate) struct Works(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    makers: HashMap<u64, Maker>,
    order: VecDeque<u64>,
}

impl Works {
    /// The channel and credential that made one of the things called `ids`; the first that is known decides.
    pub(crate) fn maker_among<'snapshot, 'id>(
        &self,
        channels: &[Candidate<'snapshot>],
        ids: impl Iterator<Item = Cow<'id, str>>,
    ) -> Option<(Candidate<'snapshot>, usize)> {
        if let [only] = channels
            && only.channel.credentials.len() == 1
        {
            return None;
        }
        let all = || {
            channels.iter().flat_map(|candidate| {
                let credentials = candidate.channel.credentials.iter().enumerate();
                credentials.map(|(index, credential)| (*candidate, index, Maker::of(candidate.channel, credential)))
            })
        };
        ids.filter_map(|id| self.maker_of(&id))
            .find_map(|maker| all().find(|(.., other)| *other == maker))
            .map(|(candidate, credential, _)| (candidate, credential))
    }

    fn maker_of(&self, id: &str) -> Option<Maker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).makers.get(&hash(id)).copied()
    }

    /// The call of `record` made the things called `ids`.
    pub(crate) fn remember(&self, ids: &[String], record: &Record) {
        let Some(place) = record.place else { return };
        let channel = &record.snapshot.channels[place.channel];
        self.add(ids, Maker::of(channel, &channel.credentials[place.credential]));
    }

    fn add(&self, ids: &[String], maker: Maker) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let id = hash(id);
            if known.makers.insert(id, maker).is_none() {
                known.order.push_back(id);
            }
            if known.order.len() > WORKS_LIMIT
                && let Some(oldest) = known.order.pop_front()
            {
                known.makers.remove(&oldest);
            }
        }
    }
}

fn hash(id: &str) -> u64 {
    stable_hash(&[id.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let works = Works::default();
        for number in 0..=WORKS_LIMIT {
            works.add(&[format!("task-{number}")], Maker(number as u64));
        }
        assert_eq!(works.maker_of("task-0"), None);
        assert_eq!(works.maker_of("task-1"), Some(Maker(1)));
        works.add(&["task-1".into()], Maker(7));
        assert_eq!(works.maker_of("task-1"), Some(Maker(7)), "the newest word counts");
        let known = works.0.lock().unwrap();
        assert_eq!((known.makers.len(), known.order.len()), (WORKS_LIMIT, WORKS_LIMIT));
    }
}

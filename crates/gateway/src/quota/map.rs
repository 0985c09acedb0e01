//! The counters that go with one snapshot, found by its indices.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, OnceLock};

use aiproxy_config::snapshot::{ProxyKey, Scope, Snapshot};
use aiproxy_ledger::Entry;
use aiproxy_ledger::tally::{Amounts, Calendar, Charge, TallyBook, divide};

use super::{Counter, Quotas, Reservations};
use crate::limits::Lease;
use crate::record::Place;

type Cell = OnceLock<Arc<Counter>>;
/// A user, its groups and its department.
type UserCell = OnceLock<Box<[Arc<Counter>]>>;

/// Where everything of one snapshot is counted. Counters are found when they are first needed; from then on a call finds
/// its own without looking at an id.
#[derive(Debug)]
pub struct QuotaMap {
    quotas: Arc<Quotas>,
    calendar: Calendar,
    /// By the address of the key, which the snapshot keeps alive and in place. Keys have no index.
    keys: HashMap<usize, Cell, BuildHasherDefault<AddressHasher>>,
    /// By the user's index.
    users: Box<[UserCell]>,
    channels: Box<[ChannelCells]>,
}

#[derive(Debug, Default)]
struct ChannelCells {
    channel: Cell,
    credentials: Box<[Cell]>,
}

/// Spreads addresses over the map (Fibonacci hashing): nobody outside chooses them.
#[derive(Clone, Copy, Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize((*byte).into());
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A call that has ended, as its record tells. `attempts` are what tries used although they failed, each at its place;
/// the charge's cost has theirs in it, its tokens have not.
pub(crate) struct Finished<'call, Attempts> {
    pub(crate) started_unix_ms: u64,
    pub(crate) key: Option<&'call Arc<ProxyKey>>,
    /// Channel and credential used last.
    pub(crate) place: Option<Place>,
    pub(crate) charge: Charge,
    /// Tokens of the answer, where there was one.
    pub(crate) answer: Option<u64>,
    pub(crate) attempts: Attempts,
}

impl QuotaMap {
    pub(super) fn new(quotas: Arc<Quotas>, snapshot: &Snapshot) -> Self {
        let cells = |count: usize| (0..count).map(|_| Cell::new()).collect();
        let channels = snapshot
            .channels
            .iter()
            .map(|channel| ChannelCells { channel: Cell::new(), credentials: cells(channel.credentials.len()) });
        Self {
            quotas,
            calendar: Calendar::new(snapshot.system.timezone.clone()),
            keys: snapshot.keys.values().map(|key| (address(key), Cell::new())).collect(),
            users: snapshot.users.iter().map(|_| OnceLock::new()).collect(),
            channels: channels.collect(),
        }
    }

    /// Where periods begin.
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// Counts a call of another process that hands over to this one, as the ledger has it.
    pub fn add_entry(&self, entry: &Entry<'_>) {
        let mut book = TallyBook::default();
        book.add_entry(entry, &self.calendar);
        self.quotas.restore(&book);
    }

    /// The counter of one entity by its id: not for calls.
    pub(crate) fn counter(&self, scope: Scope, id: &str) -> Arc<Counter> {
        self.quotas.counter(scope, id)
    }

    /// Counts a call of `snapshot`, the one that this belongs to. What it reserved in `leases` goes at the same moment,
    /// entity by entity.
    pub(crate) fn settle<Attempts: Iterator<Item = (Place, Amounts)>>(
        &self,
        snapshot: &Snapshot,
        finished: Finished<'_, Attempts>,
        leases: &mut [Option<Box<dyn Lease>>],
    ) {
        let Finished { started_unix_ms, key, place, charge, answer, attempts } = finished;
        let periods = self.calendar.periods(started_unix_ms);
        let mut add = |counter: &Arc<Counter>, amounts: Amounts| {
            // The request comes with the reservation and the answer. What a failed attempt used comes alone.
            if amounts.requests == 0 {
                counter.settle(None, &periods, amounts, None);
                return;
            }
            let mut quotas = leases.iter_mut().flatten().map(|lease| lease.reservations());
            let held = quotas.find_map(|held: &mut Reservations| held.take(counter));
            counter.settle(held, &periods, amounts, answer);
        };
        let all = divide(charge, place, attempts, |place, amounts| {
            let counters = self.place(snapshot, place);
            counters.into_iter().flatten().for_each(|counter| add(counter, amounts));
        });
        let Some(key) = key.filter(|_| !all.is_nothing()) else { return };
        match self.keys.get(&address(key)) {
            Some(cell) => add(cell.get_or_init(|| self.counter(Scope::Key, &key.id)), all),
            None => add(&self.counter(Scope::Key, &key.id), all),
        }
        for counter in self.user(snapshot, key.user) {
            add(counter, all);
        }
    }

    /// Adds what a running call used to everything it belongs to, without ending it.
    pub(crate) fn charge(
        &self,
        snapshot: &Snapshot,
        started_unix_ms: u64,
        key: &Arc<ProxyKey>,
        place: Option<Place>,
        amounts: Amounts,
    ) {
        if amounts.is_nothing() {
            return;
        }
        let periods = self.calendar.periods(started_unix_ms);
        let add = |counter: &Arc<Counter>| counter.settle(None, &periods, amounts, None);
        place.and_then(|place| self.place(snapshot, place)).into_iter().flatten().for_each(add);
        match self.keys.get(&address(key)) {
            Some(cell) => add(cell.get_or_init(|| self.counter(Scope::Key, &key.id))),
            None => add(&self.counter(Scope::Key, &key.id)),
        }
        self.user(snapshot, key.user).iter().for_each(add);
    }

    fn user(&self, snapshot: &Snapshot, index: usize) -> &[Arc<Counter>] {
        let (Some(cell), Some(user)) = (self.users.get(index), snapshot.users.get(index)) else { return &[] };
        cell.get_or_init(|| {
            let groups = user.groups.iter().map(|group| self.counter(Scope::Group, group));
            let department = Some(&user.department).filter(|department| !department.is_empty());
            let department = department.map(|department| self.counter(Scope::Department, department));
            [self.counter(Scope::User, &user.id)].into_iter().chain(groups).chain(department).collect()
        })
    }

    fn place(&self, snapshot: &Snapshot, place: Place) -> Option<[&Arc<Counter>; 2]> {
        let channel = snapshot.channels.get(place.channel)?;
        let credential = channel.credentials.get(place.credential)?;
        let cells = self.channels.get(place.channel)?;
        let of_credential = cells.credentials.get(place.credential)?;
        Some([
            cells.channel.get_or_init(|| self.counter(Scope::Channel, &channel.id)),
            of_credential.get_or_init(|| self.counter(Scope::Credential, &format!("{}/{}", channel.id, credential.id))),
        ])
    }
}

fn address(key: &Arc<ProxyKey>) -> usize {
    Arc::as_ptr(key).addr()
}

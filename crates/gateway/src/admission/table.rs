//! Entries by network that go away by themselves, in bounded memory.
//!
//! A shard looks for entries that are over when it has doubled since it last looked, and the owner of the table has one
//! shard looked through every now and then. Both give memory back. A shard full of live entries takes no more.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::network::Network;

/// Locks a table is divided into. A power of two.
pub(super) const SHARDS: usize = 64;
/// Entries below which a shard does not look for those that are over.
const SWEEP_THRESHOLD: usize = 64;
/// Nanoseconds between two looks of the same shard, so that a full one is not looked through for every newcomer.
const SWEEP_PAUSE: u64 = 100_000_000;

/// Something that stops mattering at some time.
pub(super) trait Expires {
    /// Whether it is the same as if it were not there, from `now` on.
    fn is_over(&self, now: u64) -> bool;
}

/// Entries by network, shared by threads. Times are nanoseconds since the owner's start.
pub(super) struct Table<Entry> {
    shards: Box<[Mutex<Shard<Entry>>]>,
    /// Random, so that nobody can choose addresses that all meet in one shard.
    hasher: RandomState,
    held: AtomicUsize,
    shard_limit: usize,
}

struct Shard<Entry> {
    entries: HashMap<Network, Entry>,
    swept_at: u64,
    sweep_threshold: usize,
}

/// A locked shard.
pub(super) struct ShardGuard<'table, Entry> {
    shard: MutexGuard<'table, Shard<Entry>>,
    table: &'table Table<Entry>,
}

impl<Entry: Expires> Table<Entry> {
    /// A table for up to `limit` entries.
    pub(super) fn new(limit: usize) -> Self {
        let shard_limit = limit.div_ceil(SHARDS);
        let sweep_threshold = SWEEP_THRESHOLD.min(shard_limit);
        let shard = || Mutex::new(Shard { entries: HashMap::new(), swept_at: 0, sweep_threshold });
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            held: AtomicUsize::new(0),
            shard_limit,
        }
    }

    /// Entries held, including those that are over and not yet noticed.
    pub(super) fn len(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether nothing is held: one load.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shard of `network`.
    pub(super) fn lock(&self, network: Network) -> ShardGuard<'_, Entry> {
        self.guard(self.hasher.hash_one(network) as usize % SHARDS)
    }

    /// Drops what is over in one shard.
    pub(super) fn sweep(&self, index: usize, now: u64) {
        if !self.is_empty() {
            self.guard(index).sweep(now);
        }
    }

    fn guard(&self, index: usize) -> ShardGuard<'_, Entry> {
        // An entry is valid after every single write to it, so a panic elsewhere leaves nothing half done.
        ShardGuard { shard: self.shards[index].lock().unwrap_or_else(PoisonError::into_inner), table: self }
    }

    /// Entries for which memory is reserved.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        (0..SHARDS).map(|index| self.guard(index).shard.entries.capacity()).sum()
    }
}

impl<Entry: Expires> ShardGuard<'_, Entry> {
    /// The entry of `network`, unless it is over.
    pub(super) fn get_mut(&mut self, network: Network, now: u64) -> Option<&mut Entry> {
        self.shard.entries.get_mut(&network).filter(|entry| !entry.is_over(now))
    }

    /// Holds `entry` for `network`, in place of one that is over. False if the shard is full of live entries.
    pub(super) fn insert(&mut self, network: Network, entry: Entry, now: u64) -> bool {
        if let Some(held) = self.shard.entries.get_mut(&network) {
            *held = entry;
            return true;
        }
        let is_due = now >= self.shard.swept_at.saturating_add(SWEEP_PAUSE);
        if self.shard.entries.len() >= self.shard.sweep_threshold && is_due {
            self.sweep(now);
        }
        if self.shard.entries.len() >= self.table.shard_limit {
            return false;
        }
        self.shard.entries.insert(network, entry);
        self.table.held.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn sweep(&mut self, now: u64) {
        let shard = &mut *self.shard;
        let before = shard.entries.len();
        shard.entries.retain(|_, entry| !entry.is_over(now));
        let after = shard.entries.len();
        // Room for as many again, lest the next entries make it grow at once.
        if shard.entries.capacity() > 8 * after {
            shard.entries.shrink_to(2 * after);
        }
        shard.swept_at = now;
        shard.sweep_threshold = (2 * after).max(SWEEP_THRESHOLD).min(self.table.shard_limit);
        self.table.held.fetch_sub(before - after, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    struct Until(u64);

    impl Expires for Until {
        fn is_over(&self, now: u64) -> bool {
            self.0 <= now
        }
    }

    fn network(number: u32) -> Network {
        Network::of(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    fn insert(table: &Table<Until>, number: u32, until: u64, now: u64) -> bool {
        table.lock(network(number)).insert(network(number), Until(until), now)
    }

    #[test]
    fn an_entry_that_is_over_is_not_found_and_its_place_is_taken() {
        let table = Table::new(SHARDS);
        assert!(insert(&table, 1, 10, 0));
        assert!(table.lock(network(1)).get_mut(network(1), 9).is_some());
        assert!(table.lock(network(1)).get_mut(network(1), 10).is_none());
        assert!(insert(&table, 1, 20, 10));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_table_full_of_live_entries_takes_no_more_until_some_are_over() {
        let table = Table::new(2 * SHARDS);
        let taken = (0..10_000).filter(|number| insert(&table, *number, SWEEP_PAUSE, 0)).count();
        assert_eq!((taken, table.len()), (2 * SHARDS, 2 * SHARDS));
        let taken = (0..10_000).filter(|number| insert(&table, 10_000 + *number, u64::MAX, SWEEP_PAUSE)).count();
        assert_eq!((taken, table.len()), (2 * SHARDS, 2 * SHARDS));
    }

    #[test]
    fn a_shard_that_doubles_drops_what_is_over() {
        let table = Table::new(1 << 20);
        for number in 0..200_000 {
            let now = u64::from(number) * SWEEP_PAUSE / 10;
            assert!(insert(&table, number, now + SWEEP_PAUSE, now));
        }
        assert!(table.len() <= SHARDS * (SWEEP_THRESHOLD + 1));
    }
}

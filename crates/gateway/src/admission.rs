//! What happens to a call before any key is looked at: how fast calls may come, and who is refused for guessing keys.
//!
//! One [`Admission`] serves all workers and outlives config reloads; the rules come with each question, so a reload
//! holds from the next call on. Nothing here knows requests, keys or answers: an address and a rule go in, a decision
//! comes out. What is held is bounded and goes away by itself (see `table.rs`).

mod bucket;
mod network;
mod observation;
mod table;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aiproxy_config::snapshot::{BadCredentials, Rate, RateLimit};
use aiproxy_core::time::{self, Instant};

use self::bucket::{AddressBucket, Pace, SharedBucket};
use self::network::Network;
use self::observation::Observation;
use self::table::{SHARDS, Table};

/// Addresses whose token bucket is held at once, at most. About 5 MiB.
const BUCKET_LIMIT: usize = 196_608;
/// Addresses with failures on count that are held at once, at most. About 14 MiB, and 9 more
/// if 16 known keys are remembered of each.
const OBSERVATION_LIMIT: usize = 65_536;
/// Time between two looks for entries that are over. Each looks at one of the 64 shards.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How fast calls came so far, and from where unknown keys came. One per process.
pub(crate) struct Admission {
    started: Instant,
    global: SharedBucket,
    buckets: Table<AddressBucket>,
    observations: Table<Observation>,
    next_sweep: AtomicU64,
    next_shard: AtomicUsize,
    denied_global: AtomicU64,
    denied_ip: AtomicU64,
    denied_bad_credentials: AtomicU64,
    blocks: AtomicU64,
}

/// Why a call may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Too many calls altogether.
    Global {
        /// Time after which a call passes, if no other comes before it.
        retry_after: Duration,
    },
    /// Too many calls from this address.
    Ip {
        /// Time after which a call from this address passes, if no other comes before it.
        retry_after: Duration,
    },
}

impl Denied {
    /// Time after which another try makes sense.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Global { retry_after } | Self::Ip { retry_after } => retry_after,
        }
    }
}

/// Calls denied since the start, by what denied them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Denials {
    /// By the bucket of all calls together.
    pub(crate) global: u64,
    /// By the bucket of their address.
    pub(crate) ip: u64,
    /// Because of unknown keys that came from their address.
    pub(crate) bad_credentials: u64,
}

impl Admission {
    /// Nobody has called yet.
    pub(crate) fn new() -> Self {
        Self {
            started: time::now(),
            global: SharedBucket::default(),
            buckets: Table::new(BUCKET_LIMIT),
            observations: Table::new(OBSERVATION_LIMIT),
            next_sweep: AtomicU64::new(0),
            next_shard: AtomicUsize::new(0),
            denied_global: AtomicU64::new(0),
            denied_ip: AtomicU64::new(0),
            denied_bad_credentials: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
        }
    }

    /// Whether a call from `ip` may go on. Where nothing is configured and nothing is held, it costs two loads.
    ///
    /// A denied call takes nothing from either bucket.
    pub(crate) fn admit(&self, ip: IpAddr, limits: &RateLimit) -> Result<(), Denied> {
        let is_unlimited = limits.global.is_none() && limits.per_ip.is_none();
        if is_unlimited && self.buckets.is_empty() && self.observations.is_empty() {
            return Ok(());
        }
        let now = self.now();
        self.sweep_one_shard(now);
        let outcome = match limits.per_ip {
            Some(rate) => self.admit_address(Network::of(ip), rate, limits.global, now),
            None => self.admit_global(limits.global, now),
        };
        match outcome {
            Err(Denied::Global { .. }) => self.denied_global.fetch_add(1, Ordering::Relaxed),
            Err(Denied::Ip { .. }) => self.denied_ip.fetch_add(1, Ordering::Relaxed),
            Ok(()) => 0,
        };
        outcome
    }

    /// Somebody at `ip` presented an unknown key. Returns how long the answer should wait: zero at first, 50 ms more
    /// for each failure from a third of the limit on, at most 1 s.
    pub(crate) fn bad_credential(&self, ip: IpAddr, rule: Option<&BadCredentials>) -> Duration {
        let Some(rule) = rule else { return Duration::ZERO };
        let now = self.now();
        let network = Network::of(ip);
        let failure = {
            let mut shard = self.observations.lock(network);
            match shard.get_mut(network, now) {
                Some(observation) => observation.fail(rule, now),
                None => {
                    let mut observation = Observation::default();
                    let failure = observation.fail(rule, now);
                    if !shard.insert(network, observation, now) {
                        // So many addresses fail at once that making answers wait would only pile up connections.
                        return Duration::ZERO;
                    }
                    failure
                }
            }
        };
        if let Some(failures) = failure.blocked_after {
            self.blocks.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                client.address = %network,
                failures,
                block_seconds = rule.block.as_secs(),
                "an address presented too many unknown keys and is refused for a while; if it is a load balancer, list it in system.trusted_proxies"
            );
        }
        failure.delay
    }

    /// How much longer `ip` is refused for its unknown keys; `None` means the call may go on. Where no address has
    /// failures on count, it costs one load.
    ///
    /// `known_key` is the beginning of the digest of the key that was presented, if that key is known. It is remembered
    /// while the address has failures on count, and goes on working while the address is refused: one broken script
    /// must not lock out an office behind one address.
    pub(crate) fn blocked(
        &self,
        ip: IpAddr,
        known_key: Option<u64>,
        rule: Option<&BadCredentials>,
    ) -> Option<Duration> {
        let rule = rule?;
        if self.observations.is_empty() {
            return None;
        }
        let now = self.now();
        let network = Network::of(ip);
        let left = self.observations.lock(network).get_mut(network, now)?.refused(known_key, rule, now)?;
        self.denied_bad_credentials.fetch_add(1, Ordering::Relaxed);
        Some(left)
    }

    /// Addresses held: those with calls not yet refilled, and those with failures on count. At most 262,144.
    pub(crate) fn held_addresses(&self) -> usize {
        self.buckets.len() + self.observations.len()
    }

    /// How often an address came to be refused for its unknown keys. Each time is one warning in the log.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Calls denied since the start.
    pub(crate) fn denials(&self) -> Denials {
        Denials {
            global: self.denied_global.load(Ordering::Relaxed),
            ip: self.denied_ip.load(Ordering::Relaxed),
            bad_credentials: self.denied_bad_credentials.load(Ordering::Relaxed),
        }
    }

    /// The address is asked first. Its shard stays locked while the bucket of all calls is asked, so that nothing has to
    /// be given back: a token taken for a moment could deny somebody else.
    fn admit_address(&self, network: Network, rate: Rate, global: Option<Rate>, now: u64) -> Result<(), Denied> {
        let pace = Pace::of(rate);
        let mut shard = self.buckets.lock(network);
        if let Some(bucket) = shard.get_mut(network, now) {
            let next = bucket.next(pace, now).map_err(|wait| Denied::Ip { retry_after: wait })?;
            self.admit_global(global, now)?;
            *bucket = next;
        } else {
            // An address without a bucket has a full one. It gets an entry only if the call passes.
            self.admit_global(global, now)?;
            if let Ok(next) = AddressBucket::default().next(pace, now) {
                // A table full of live entries leaves the address to the bucket of all calls.
                shard.insert(network, next, now);
            }
        }
        Ok(())
    }

    fn admit_global(&self, rate: Option<Rate>, now: u64) -> Result<(), Denied> {
        let Some(rate) = rate else { return Ok(()) };
        self.global.take(Pace::of(rate), now).map_err(|wait| Denied::Global { retry_after: wait })
    }

    /// Inserts sweep the shard they go to; this reaches the shards that nobody comes to any more.
    fn sweep_one_shard(&self, now: u64) {
        let due = self.next_sweep.load(Ordering::Relaxed);
        let next = now.saturating_add(nanoseconds(SWEEP_INTERVAL));
        let is_mine =
            now >= due && self.next_sweep.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_mine {
            let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
            self.buckets.sweep(index, now);
            self.observations.sweep(index, now);
        }
    }

    /// Nanoseconds since the start.
    fn now(&self) -> u64 {
        nanoseconds(time::now().saturating_duration_since(self.started))
    }
}

/// `duration` in whole nanoseconds; 584 years are the most.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! Limits counted in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aiproxy_config::snapshot::{Limited, Limits, Scope};
use aiproxy_core::time::{self, Instant};

use super::counter::{Counter, Full, Taken};
use super::{Demand, Exceeded, Lease, LimitStore, Limiters, Reserving, Used, What};
use crate::quota::{self, Over, QuotaMap, Quotas, Reservations, When};

/// How long to wait when running calls hold what is left of a quota: they end when they end.
const MOMENT: Duration = Duration::from_secs(1);

/// Counts by scope and id, kept while a snapshot or a running call needs them.
pub struct ProcessLimits {
    started: Instant,
    counters: Mutex<HashMap<Identity, Weak<Counter>>>,
    quotas: Arc<Quotas>,
}

/// What a count belongs to, whatever its limits are.
type Identity = (Scope, Box<str>);

impl Default for ProcessLimits {
    fn default() -> Self {
        Self { started: time::now(), counters: Mutex::default(), quotas: Arc::default() }
    }
}

impl LimitStore for ProcessLimits {
    fn resolve(&self, limited: &[Limited], quotas: &Arc<QuotaMap>) -> Arc<dyn Limiters> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = HashMap::with_capacity(limited.len());
        let resolved = limited.iter().map(|limited| {
            let key = (limited.scope, limited.id.clone());
            let counter = counters.get(&key).and_then(Weak::upgrade).unwrap_or_default();
            kept.insert(key, Arc::downgrade(&counter));
            let has_quotas = !limited.quotas.is_empty();
            let quota = has_quotas.then(|| quotas.counter(limited.scope, &limited.id));
            Entity { limited: limited.clone(), counter, quota }
        });
        let entities = resolved.collect();
        // A limit that is gone may come back while calls that it counted still run.
        counters.retain(|_, counter| counter.strong_count() > 0);
        counters.extend(kept);
        Arc::new(ProcessLimiters { started: self.started, entities, quotas: quotas.clone() })
    }

    fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }
}

struct ProcessLimiters {
    started: Instant,
    entities: Box<[Entity]>,
    quotas: Arc<QuotaMap>,
}

/// Something with limits or quotas, and what was used of them.
struct Entity {
    limited: Limited,
    counter: Arc<Counter>,
    /// Where it has quotas.
    quota: Option<Arc<quota::Counter>>,
}

impl Limiters for ProcessLimiters {
    fn reserve<'call>(&'call self, indices: &'call [u32], demand: Demand) -> Reserving<'call> {
        Reserving::Ready(Some(self.take(indices, demand)))
    }

    fn used_up(&self, indices: &[u32]) -> Option<Exceeded> {
        let when = When::new(self.quotas.calendar(), time::unix_ms());
        let entities = indices.iter().filter_map(|index| self.entities.get(*index as usize));
        entities.filter_map(|entity| Some((entity, entity.quota.as_ref()?))).find_map(|(entity, counter)| {
            let over = counter.used_up(&entity.limited.quotas, &when)?;
            Some(exceeded(entity.limited.scope, &over, &when))
        })
    }

    fn has_quotas(&self, indices: &[u32]) -> bool {
        indices.iter().filter_map(|index| self.entities.get(*index as usize)).any(|entity| entity.quota.is_some())
    }
}

impl ProcessLimiters {
    fn take(&self, indices: &[u32], demand: Demand) -> Result<Box<dyn Lease>, Exceeded> {
        let now_ms = milliseconds(self.started);
        let taken = Vec::with_capacity(indices.len());
        let mut lease = ProcessLease { started: self.started, taken, reservations: Reservations::default() };
        let mut when = None;
        for entity in indices.iter().filter_map(|index| self.entities.get(*index as usize)) {
            if let Err(exceeded) = self.take_one(entity, &demand, now_ms, &mut when, &mut lease) {
                Box::new(lease).refund();
                return Err(exceeded);
            }
        }
        Ok(Box::new(lease))
    }

    fn take_one<'call>(
        &'call self,
        entity: &Entity,
        demand: &Demand,
        now_ms: u64,
        when: &mut Option<When<'call>>,
        lease: &mut ProcessLease,
    ) -> Result<(), Exceeded> {
        let Limited { scope, id, limits, quotas } = &entity.limited;
        if *limits != Limits::default() {
            let taken = entity.counter.take(limits, *demand, now_ms);
            let taken = taken.map_err(|Full { what, limit, remaining, wait }| Exceeded {
                scope: *scope,
                what,
                limit,
                remaining,
                wait,
            })?;
            lease.taken.push((entity.counter.clone(), taken));
        }
        if let Some(counter) = &entity.quota {
            let when = when.get_or_insert_with(|| {
                When::new(self.quotas.calendar(), demand.started_unix_ms.unwrap_or_else(time::unix_ms))
            });
            let reserved = lease.reservations.add(counter, (*scope, id, quotas), demand, when);
            reserved.map_err(|over| exceeded(*scope, &over, when))?;
        }
        Ok(())
    }
}

fn exceeded(scope: Scope, over: &Over, when: &When<'_>) -> Exceeded {
    let Over { quota, used, is_used_up, .. } = *over;
    let resets = when.resets(quota.per);
    let wait = if is_used_up {
        // Nothing is left to wait for where the clock has gone on since the call began.
        resets.map(|moment| {
            let ms = u64::try_from(moment.unix_s).unwrap_or(0).saturating_mul(1000);
            Duration::from_millis(ms.saturating_sub(time::unix_ms()))
        })
    } else {
        Some(MOMENT)
    };
    let what = What::Quota { unit: quota.unit, per: quota.per, resets, is_used_up };
    Exceeded { scope, what, limit: quota.amount, remaining: quota.amount.saturating_sub(used), wait }
}

struct ProcessLease {
    started: Instant,
    taken: Vec<(Arc<Counter>, Taken)>,
    reservations: Reservations,
}

impl Lease for ProcessLease {
    fn settle(&mut self, used: Used) {
        let now_ms = milliseconds(self.started);
        for (counter, taken) in &mut self.taken {
            match used {
                Used::Tokens { input, output } => counter.settle(taken, input, output, now_ms),
                Used::Unknown => taken.keep(),
                Used::Nothing => {}
            }
        }
    }

    fn end(&mut self) {
        for (counter, taken) in self.taken.drain(..) {
            counter.end(taken);
        }
    }

    fn reservations(&mut self) -> &mut Reservations {
        &mut self.reservations
    }

    fn refund(mut self: Box<Self>) {
        for (counter, taken) in self.taken.drain(..) {
            counter.refund(taken);
        }
    }
}

impl Drop for ProcessLease {
    fn drop(&mut self) {
        self.end();
    }
}

fn milliseconds(started: Instant) -> u64 {
    time::now().saturating_duration_since(started).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use aiproxy_config::snapshot::Snapshot;

    use super::*;

    const CALL: Demand = Demand {
        input_tokens: 10,
        most_output_tokens: None,
        uses_tokens: true,
        cost: 0,
        output_cost: 0,
        started_unix_ms: None,
    };

    fn resolve(store: &ProcessLimits, limited: &[Limited]) -> Arc<dyn Limiters> {
        store.resolve(limited, &Arc::new(store.quotas().resolve(&Snapshot::default())))
    }

    fn limited(id: &str, limits: Limits) -> Limited {
        Limited { scope: Scope::Key, id: id.into(), limits, quotas: Box::default() }
    }

    fn concurrent(limit: u64) -> Limits {
        Limits { concurrent: Some(limit), ..Limits::default() }
    }

    fn requests(limit: u64) -> Limits {
        Limits { requests_per_minute: Some(limit), ..Limits::default() }
    }

    fn tokens(limit: u64) -> Limits {
        Limits { tokens_per_minute: Some(limit), ..Limits::default() }
    }

    async fn take(limiters: &Arc<dyn Limiters>, indices: &[u32]) -> Result<Box<dyn Lease>, Exceeded> {
        limiters.reserve(indices, CALL).await
    }

    #[tokio::test(start_paused = true)]
    async fn one_hundred_at_once_against_five_let_five_in() {
        let limiters = resolve(&ProcessLimits::default(), &[limited("a", concurrent(5))]);
        let threads: Vec<_> = (0..100)
            .map(|_| {
                let limiters = limiters.clone();
                std::thread::spawn(move || match limiters.reserve(&[0], CALL) {
                    Reserving::Ready(Some(Ok(lease))) => Some(lease),
                    _ => None,
                })
            })
            .collect();
        let leases: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(leases.len(), 5);
        drop(leases);
        assert!(take(&limiters, &[0]).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_refused_by_one_limit_takes_nothing_from_the_others() {
        let limiters = resolve(&ProcessLimits::default(), &[limited("a", requests(10)), limited("b", requests(1))]);
        let _first = take(&limiters, &[0, 1]).await.unwrap();
        for _ in 0..50 {
            let exceeded = take(&limiters, &[0, 1]).await.err().unwrap();
            assert_eq!((exceeded.what, exceeded.limit), (What::Requests, 1));
        }
        for _ in 0..9 {
            take(&limiters, &[0]).await.ok().unwrap();
        }
        assert!(take(&limiters, &[0]).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_is_the_truth() {
        let limiters = resolve(&ProcessLimits::default(), &[limited("a", requests(2))]);
        drop(take(&limiters, &[0]).await.unwrap());
        tokio::time::advance(Duration::from_secs(20)).await;
        drop(take(&limiters, &[0]).await.unwrap());
        tokio::time::advance(Duration::from_millis(700)).await;
        let wait = take(&limiters, &[0]).await.err().unwrap().wait.unwrap();
        assert_eq!(wait, Duration::from_millis(39_300));
        tokio::time::advance(wait - Duration::from_millis(1)).await;
        assert!(take(&limiters, &[0]).await.is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(take(&limiters, &[0]).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_reserved_and_settled_to_the_truth() {
        let store = ProcessLimits::default();
        let limiters = resolve(&store, &[limited("a", tokens(100))]);
        let count = || {
            let counters = store.counters.lock().unwrap();
            let counter = counters[&(Scope::Key, "a".into())].upgrade().unwrap();
            (counter.running(), counter.tokens(milliseconds(store.started)))
        };
        let mut lease = take(&limiters, &[0]).await.unwrap();
        assert_eq!(count(), (1, 10), "the prompt's estimate");
        lease.settle(Used::Tokens { input: 40, output: 30 });
        drop(lease);
        assert_eq!(count(), (0, 70), "what the provider said");

        let most = Demand { most_output_tokens: Some(2), ..CALL };
        let lease = limiters.reserve(&[0], most).await.unwrap();
        assert_eq!(count(), (1, 82), "the average answer is 3, but the caller wants 2 at most");
        drop(lease);
        assert_eq!(count(), (0, 70), "not settled: given back");
        let mut lease = take(&limiters, &[0]).await.unwrap();
        lease.settle(Used::Unknown);
        drop(lease);
        assert_eq!(count(), (0, 83), "nobody knows: the estimate stands");

        let huge = Demand { input_tokens: 1_000_000, ..CALL };
        let exceeded = limiters.reserve(&[0], huge).await.err().unwrap();
        assert_eq!((exceeded.what, exceeded.wait), (What::Tokens, Some(Duration::from_secs(60))));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(limiters.reserve(&[0], huge).await.is_ok(), "larger than the limit: needs the whole minute");
        assert!(limiters.reserve(&[0], Demand { uses_tokens: false, ..CALL }).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn counts_outlive_a_reload_and_follow_changed_limits() {
        let store = ProcessLimits::default();
        let before = resolve(&store, &[limited("a", requests(2))]);
        let _running = take(&before, &[0]).await.unwrap();
        take(&before, &[0]).await.unwrap();
        let after = resolve(&store, &[limited("new", requests(1)), limited("a", requests(3))]);
        drop(before);
        assert!(take(&after, &[1]).await.is_ok());
        assert!(take(&after, &[1]).await.is_err());
        assert!(take(&after, &[0]).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_at_nine_tenths_of_the_limit_is_never_refused() {
        let limiters = resolve(&ProcessLimits::default(), &[limited("a", requests(600))]);
        for _ in 0..9 * 3600 {
            assert!(take(&limiters, &[0]).await.is_ok());
            tokio::time::advance(Duration::from_nanos(1_000_000_000 / 9)).await;
        }
    }
}

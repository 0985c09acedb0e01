//! Limits counted in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aiproxy_config::snapshot::{Limited, Scope};
use aiproxy_core::time::{self, Instant};

use super::counter::{Counter, Full, Taken};
use super::{Demand, Exceeded, Lease, LimitStore, Limiters, Reserving, Used};

/// Counts by scope and id, kept while a snapshot or a running call needs them.
pub struct ProcessLimits {
    started: Instant,
    counters: Mutex<HashMap<Identity, Weak<Counter>>>,
}

/// What a count belongs to, whatever its limits are.
type Identity = (Scope, Box<str>);

impl Default for ProcessLimits {
    fn default() -> Self {
        Self { started: time::now(), counters: Mutex::default() }
    }
}

impl LimitStore for ProcessLimits {
    fn resolve(&self, limited: &[Limited]) -> Arc<dyn Limiters> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = HashMap::with_capacity(limited.len());
        let resolved = limited.iter().map(|limited| {
            let key = (limited.scope, limited.id.clone());
            let counter = counters.get(&key).and_then(Weak::upgrade).unwrap_or_default();
            kept.insert(key, Arc::downgrade(&counter));
            (limited.clone(), counter)
        });
        let limited = resolved.collect();
        // A limit that is gone may come back while calls that it counted still run.
        counters.retain(|_, counter| counter.strong_count() > 0);
        counters.extend(kept);
        Arc::new(ProcessLimiters { started: self.started, limited })
    }
}

struct ProcessLimiters {
    started: Instant,
    limited: Box<[(Limited, Arc<Counter>)]>,
}

impl Limiters for ProcessLimiters {
    fn reserve<'call>(&'call self, indices: &'call [u32], demand: Demand) -> Reserving<'call> {
        Reserving::Ready(Some(self.take(indices, demand)))
    }
}

impl ProcessLimiters {
    fn take(&self, indices: &[u32], demand: Demand) -> Result<Box<dyn Lease>, Exceeded> {
        let now_ms = milliseconds(self.started);
        let mut lease = ProcessLease { started: self.started, taken: Vec::with_capacity(indices.len()) };
        for (limited, counter) in indices.iter().filter_map(|index| self.limited.get(*index as usize)) {
            match counter.take(&limited.limits, demand, now_ms) {
                Ok(taken) => lease.taken.push((counter.clone(), taken)),
                Err(Full { what, limit, remaining, wait }) => {
                    Box::new(lease).refund();
                    return Err(Exceeded { scope: limited.scope, what, limit, remaining, wait });
                }
            }
        }
        Ok(Box::new(lease))
    }
}

struct ProcessLease {
    started: Instant,
    taken: Vec<(Arc<Counter>, Taken)>,
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

    fn refund(mut self: Box<Self>) {
        for (counter, taken) in self.taken.drain(..) {
            counter.refund(taken);
        }
    }
}

impl Drop for ProcessLease {
    fn drop(&mut self) {
        for (counter, taken) in self.taken.drain(..) {
            counter.end(taken);
        }
    }
}

fn milliseconds(started: Instant) -> u64 {
    time::now().saturating_duration_since(started).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aiproxy_config::snapshot::Limits;

    use super::super::What;
    use super::*;

    const CALL: Demand = Demand { input_tokens: 10, most_output_tokens: None, uses_tokens: true };

    fn limited(id: &str, limits: Limits) -> Limited {
        Limited { scope: Scope::Key, id: id.into(), limits }
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
        let limiters = ProcessLimits::default().resolve(&[limited("a", concurrent(5))]);
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
        let limiters = ProcessLimits::default().resolve(&[limited("a", requests(10)), limited("b", requests(1))]);
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
        let limiters = ProcessLimits::default().resolve(&[limited("a", requests(2))]);
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
        let limiters = store.resolve(&[limited("a", tokens(100))]);
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
        let before = store.resolve(&[limited("a", requests(2))]);
        let _running = take(&before, &[0]).await.unwrap();
        take(&before, &[0]).await.unwrap();
        let after = store.resolve(&[limited("new", requests(1)), limited("a", requests(3))]);
        drop(before);
        assert!(take(&after, &[1]).await.is_ok());
        assert!(take(&after, &[1]).await.is_err());
        assert!(take(&after, &[0]).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_at_nine_tenths_of_the_limit_is_never_refused() {
        let limiters = ProcessLimits::default().resolve(&[limited("a", requests(600))]);
        for _ in 0..9 * 3600 {
            assert!(take(&limiters, &[0]).await.is_ok());
            tokio::time::advance(Duration::from_nanos(1_000_000_000 / 9)).await;
        }
    }
}

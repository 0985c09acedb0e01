//! What the benchmark calls of the inside: the decisions of one call without its IO.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use aiproxy_config::snapshot::{KeyDigest, Snapshot};
use aiproxy_llm::dialect::Dialect;

use crate::limits::{Demand, Lease, ProcessLimits};
use crate::permit::Caller;
use crate::plan::{Next, Plan};
use crate::route;
use crate::serving::Serving;
use crate::share::Sequence;

/// A small chat.
const DEMAND: Demand = Demand {
    input_tokens: 20,
    most_output_tokens: Some(100),
    uses_tokens: true,
    cost: 0,
    output_cost: 0,
    started_unix_ms: None,
};

/// Planning and limits of calls on one snapshot.
pub struct Planning {
    serving: Serving,
    sequence: Sequence,
}

impl Planning {
    /// Everything healthy, nothing used yet.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { serving: Serving::new(snapshot, None, &ProcessLimits::default()), sequence: Sequence::new() }
    }

    /// One call with the key of this digest: candidates, the caller's limits, the order, the first target and its own
    /// limits; then all of it is given back. True if a target was found and every limit let the call through.
    pub fn one_call(&self, key: &KeyDigest, model: &str, conversation: Option<u64>) -> bool {
        let Some(key) = self.serving.keys.get(key) else { return false };
        let caller = Caller::of(&self.serving, key);
        let channels = route::candidates(&self.serving, caller.user, caller.key, None, Dialect::Openai, false);
        let Ok(channels) = channels.and_then(|channels| route::serving(channels, Some(model))) else { return false };
        let Some(_caller_lease) = self.reserve(&caller.limited()) else { return false };
        let share = self.sequence.next();
        let mut plan = Plan::new(&self.serving, channels, Some(model), key.failover, conversation, share);
        let Next::Try(target, _) = plan.next(1) else { return false };
        let own: Vec<u32> = target.channel.limited.into_iter().chain(target.credential.limited).collect();
        self.reserve(&own).is_some()
    }

    fn reserve(&self, limited: &[u32]) -> Option<Box<dyn Lease>> {
        let reserving = pin!(self.serving.limits.reserve(limited, DEMAND));
        match reserving.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(lease) => lease.ok(),
            Poll::Pending => None,
        }
    }
}

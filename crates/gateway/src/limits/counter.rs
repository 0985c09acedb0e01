//! What is counted for one key, user, group, channel or credential.

use aiproxy_config::snapshot::Limits;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::window::Window;
use super::{Demand, What};

/// How much of the newest call goes into the average answer.
const NEWEST: f64 = 0.1;

/// The counts, shared by all snapshots that know the same scope and id.
#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<Counts>);

#[derive(Debug, Default)]
pub(super) struct Counts {
    window: Window,
    running: u64,
    /// Output tokens of a call of late; what is reserved for the next answer.
    average_output: f64,
}

/// Why a counter gave nothing; see [`super::Exceeded`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    pub(super) what: What,
    pub(super) limit: u64,
    pub(super) remaining: u64,
    pub(super) wait: Option<Duration>,
}

/// What was taken from a counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    slot: u64,
    tokens: u64,
}

impl Counter {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one call and its tokens, or says which limit is in the way, how much it allows, and for how long.
    pub(super) fn take(&self, limits: &Limits, demand: Demand, now_ms: u64) -> Result<Taken, Full> {
        let mut counts = self.counts();
        counts.window.advance(now_ms);
        if let Some(limit) = limits.concurrent
            && counts.running >= limit
        {
            return Err(Full { what: What::Concurrent, limit, remaining: 0, wait: None });
        }
        if let Some(limit) = limits.requests_per_minute
            && counts.window.requests() >= limit
        {
            let wait = counts.window.wait(now_ms, |requests, _| requests < limit);
            let wait = Some(Duration::from_millis(wait));
            return Err(Full { what: What::Requests, limit, remaining: 0, wait });
        }
        let mut tokens = 0;
        if let Some(limit) = limits.tokens_per_minute
            && demand.uses_tokens
        {
            let output = counts.average_output as u64;
            let output = demand.most_output_tokens.map_or(output, |most| most.min(output));
            // A call that is larger than the limit alone must still be possible: it needs the whole minute.
            tokens = demand.input_tokens.saturating_add(output).clamp(1, limit);
            let fits = |used: u64| used.saturating_add(tokens) <= limit;
            if !fits(counts.window.tokens()) {
                let wait = counts.window.wait(now_ms, |_, used| fits(used));
                let wait = Some(Duration::from_millis(wait));
                let remaining = limit.saturating_sub(counts.window.tokens());
                return Err(Full { what: What::Tokens, limit, remaining, wait });
            }
        }
        counts.running += 1;
        let slot = counts.window.add(now_ms, 1, tokens);
        Ok(Taken { slot, tokens })
    }

    /// Replaces the estimate by the truth. What was used beyond it counts from now on.
    pub(super) fn settle(&self, taken: &mut Taken, input: u64, output: u64, now_ms: u64) {
        let mut counts = self.counts();
        counts.average_output += (output as f64 - counts.average_output) * NEWEST;
        let used = input.saturating_add(output);
        if used <= taken.tokens {
            counts.window.take_back(taken.slot, 0, taken.tokens - used);
        } else {
            counts.window.advance(now_ms);
            counts.window.add(now_ms, 0, used - taken.tokens);
        }
        taken.tokens = 0;
    }

    /// Ends a call; tokens that were not settled are given back.
    pub(super) fn end(&self, taken: Taken) {
        let mut counts = self.counts();
        counts.running = counts.running.saturating_sub(1);
        counts.window.take_back(taken.slot, 0, taken.tokens);
    }

    /// Ends a call that never came.
    pub(super) fn refund(&self, taken: Taken) {
        let mut counts = self.counts();
        counts.running = counts.running.saturating_sub(1);
        counts.window.take_back(taken.slot, 1, taken.tokens);
    }

    /// Calls running now.
    #[cfg(test)]
    pub(super) fn running(&self) -> u64 {
        self.counts().running
    }

    /// Tokens of the last 60 seconds.
    #[cfg(test)]
    pub(super) fn tokens(&self, now_ms: u64) -> u64 {
        let mut counts = self.counts();
        counts.window.advance(now_ms);
        counts.window.tokens()
    }
}

impl Taken {
    /// The estimate stands: nothing is given back when the call ends.
    pub(super) fn keep(&mut self) {
        self.tokens = 0;
    }
}

//! What was used in the last 60 seconds.
//!
//! Uses within one second share a slot, and a slot counts until its *last* use is 60 seconds old: never more than the
//! limit in any 60 seconds, and exact for calls that come at once. An idle window holds nothing.

use std::collections::VecDeque;

/// How far back a window looks, in milliseconds.
pub(super) const WINDOW_MS: u64 = 60_000;
/// Uses this close to each other share a slot.
const SLOT_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
struct Slot {
    first_ms: u64,
    last_ms: u64,
    requests: u64,
    tokens: u64,
}

/// Requests and tokens of the last 60 seconds. Times are milliseconds since any fixed moment and never run backwards.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: VecDeque<Slot>,
    requests: u64,
    tokens: u64,
}

impl Window {
    /// Forgets what is older than the window.
    pub(super) fn advance(&mut self, now_ms: u64) {
        while let Some(slot) = self.slots.front().filter(|slot| slot.last_ms + WINDOW_MS <= now_ms) {
            self.requests -= slot.requests;
            self.tokens -= slot.tokens;
            self.slots.pop_front();
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Adds a use; the slot it went into is needed to take something back.
    pub(super) fn add(&mut self, now_ms: u64, requests: u64, tokens: u64) -> u64 {
        self.requests += requests;
        self.tokens = self.tokens.saturating_add(tokens);
        match self.slots.back_mut().filter(|slot| now_ms < slot.first_ms + SLOT_MS) {
            Some(slot) => {
                slot.last_ms = slot.last_ms.max(now_ms);
                slot.requests += requests;
                slot.tokens = slot.tokens.saturating_add(tokens);
                slot.first_ms
            }
            None => {
                self.slots.push_back(Slot { first_ms: now_ms, last_ms: now_ms, requests, tokens });
                now_ms
            }
        }
    }

    /// Takes back what was added to the slot that began at `slot`. What has left the window is gone anyway.
    pub(super) fn take_back(&mut self, slot: u64, requests: u64, tokens: u64) {
        // Most calls are shorter than a second.
        let found = match self.slots.back() {
            Some(newest) if newest.first_ms == slot => self.slots.back_mut(),
            _ => {
                let index = self.slots.binary_search_by_key(&slot, |slot| slot.first_ms);
                index.ok().and_then(|index| self.slots.get_mut(index))
            }
        };
        let Some(slot) = found else { return };
        let (requests, tokens) = (requests.min(slot.requests), tokens.min(slot.tokens));
        slot.requests -= requests;
        slot.tokens -= tokens;
        self.requests -= requests;
        self.tokens -= tokens;
    }

    /// Milliseconds until `fits(requests, tokens)` holds for what is left in the window by then.
    pub(super) fn wait(&self, now_ms: u64, fits: impl Fn(u64, u64) -> bool) -> u64 {
        let (mut requests, mut tokens) = (self.requests, self.tokens);
        let mut wait = 0;
        for slot in &self.slots {
            if fits(requests, tokens) {
                break;
            }
            requests -= slot.requests;
            tokens -= slot.tokens;
            wait = (slot.last_ms + WINDOW_MS).saturating_sub(now_ms);
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_counts_for_sixty_seconds_and_no_longer() {
        let mut window = Window::default();
        window.add(0, 3, 10);
        window.add(400, 1, 0);
        window.advance(60_399);
        assert_eq!((window.requests(), window.tokens()), (4, 10));
        assert_eq!(window.wait(60_399, |requests, _| requests < 4), 1);
        window.advance(60_400);
        assert_eq!((window.requests(), window.tokens(), window.slots.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_taken_back_leaves_the_slot_it_went_into() {
        let mut window = Window::default();
        let first = window.add(0, 1, 100);
        window.add(5_000, 1, 7);
        window.take_back(first, 1, 60);
        assert_eq!((window.requests(), window.tokens()), (1, 47));
        window.take_back(first, 5, 500);
        assert_eq!((window.requests(), window.tokens()), (1, 7), "no more than is there");
        window.advance(60_000);
        window.take_back(first, 1, 1);
        assert_eq!((window.requests(), window.tokens()), (1, 7), "what has left the window is gone");
    }

    /// Against the plain rule: a use counts while it is younger than 60 s (plus what its slot's last use adds).
    #[test]
    fn no_sixty_seconds_ever_hold_more_than_was_counted() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut window = Window::default();
        let mut uses: Vec<u64> = Vec::new();
        let mut now = 0;
        for _ in 0..20_000 {
            now += random.u64(..300);
            window.advance(now);
            let true_count = uses.iter().rev().take_while(|used| **used + WINDOW_MS > now).count() as u64;
            assert!(window.requests() >= true_count);
            let slack = uses.iter().rev().take_while(|used| **used + WINDOW_MS + SLOT_MS > now).count() as u64;
            assert!(window.requests() <= slack);
            if window.requests() < 100 {
                window.add(now, 1, 0);
                uses.push(now);
            }
        }
        assert!(window.slots.len() <= 62);
    }
}

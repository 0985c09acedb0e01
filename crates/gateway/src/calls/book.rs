//! The calls there are, by the ids that the provider gave them: whose they are, and in which account they live.
//!
//! An id is remembered after its call is over, so that it never becomes anybody's. One that this process never saw (a SIP
//! call, which begins at the provider; a call of another instance) belongs to the first user who names it here. Such ids
//! are random and told to nobody but those who run the call.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiproxy_config::snapshot::User;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::record::bounded;
use crate::refusal::Refusal;
use crate::route::Candidate;
use crate::state::Gateway;

/// How many calls are remembered that are over, or never began here; the oldest are forgotten first.
const REMEMBERED: usize = 65_536;

/// The calls.
#[derive(Default)]
pub(super) struct Book(Mutex<Known>);

#[derive(Default)]
struct Known {
    calls: HashMap<Box<str>, Call>,
    /// Those that are not running here.
    order: VecDeque<Box<str>>,
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Id of the user whose it is.
    pub(super) user: Box<str>,
    /// Ids of the channel and the credential that it lives at.
    pub(super) channel: Box<str>,
    pub(super) credential: Box<str>,
    /// Set off when it was hung up by its owner.
    pub(super) hung_up: CancellationToken,
    /// Whether its sideband runs here.
    is_running: bool,
}

impl Call {
    /// A call of `user` that lives at this credential.
    pub(super) fn new(user: &str, channel: &str, credential: &str) -> Self {
        Self {
            user: user.into(),
            channel: channel.into(),
            credential: credential.into(),
            hung_up: CancellationToken::new(),
            is_running: false,
        }
    }
}

impl Book {
    /// Remembers a call that does not run here, unless the id is known.
    pub(super) fn claim(&self, id: &str, call: Call) {
        let mut known = self.known();
        if !known.calls.contains_key(id) {
            known.calls.insert(id.into(), call);
            known.remember(id);
        }
    }

    /// The call with this id.
    pub(super) fn find(&self, id: &str) -> Option<Call> {
        self.known().calls.get(id).cloned()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn remember(&mut self, id: &str) {
        self.order.push_back(id.into());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.calls.remove(&oldest);
        }
    }
}

/// Enters a call that runs here until the result is dropped. Nothing if another call of that id is running.
pub(super) fn begin(gateway: &Arc<Gateway>, id: &str, call: Call) -> Option<Entered> {
    let mut known = gateway.calls.book.known();
    match known.calls.get(id) {
        Some(other) if other.is_running => return None,
        // It ran before, or was named before it was known here.
        Some(_) => known.order.retain(|remembered| **remembered != *id),
        None => {}
    }
    let hung_up = call.hung_up.clone();
    known.calls.insert(id.into(), Call { is_running: true, ..call });
    drop(known);
    Some(Entered { gateway: gateway.clone(), id: id.into(), hung_up })
}

/// A call that runs here.
pub(super) struct Entered {
    gateway: Arc<Gateway>,
    id: Box<str>,
    /// Set off when it was hung up by its owner.
    pub(super) hung_up: CancellationToken,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut known = self.gateway.calls.book.known();
        if let Some(call) = known.calls.get_mut(&self.id) {
            call.is_running = false;
            known.remember(&self.id);
        }
    }
}

/// Where the call `id` lives, among the `channels` that `user` may use: a channel and the index of its credential. `None`:
/// nobody here knows that id, and it may be asked for anywhere. A call of somebody else is not there.
pub(crate) fn call_place<'snapshot>(
    gateway: &Gateway,
    user: &User,
    channels: &[Candidate<'snapshot>],
    id: &str,
) -> Result<Option<(Candidate<'snapshot>, usize)>, Refusal> {
    let Some(call) = gateway.calls.book.find(id) else { return Ok(None) };
    if call.user != user.id {
        return Err(not_found(id));
    }
    let candidate = channels.iter().find(|candidate| candidate.channel.id == call.channel);
    let place = candidate.and_then(|candidate| {
        let credentials = &candidate.channel.credentials;
        let credential = credentials.iter().position(|credential| credential.id == call.credential)?;
        Some((*candidate, credential))
    });
    place.map(Some).ok_or_else(|| not_found(id))
}

/// The same words for a call of somebody else as for one that does not exist.
fn not_found(id: &str) -> Refusal {
    let message = format!("No session found for call_id {}.", bounded(id));
    Refusal::new(StatusCode::NOT_FOUND, "no_such_route", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_who_names_a_call_of_elsewhere_is_its_owner() {
        let book = Book::default();
        book.claim("rtc_1", Call::new("user1", "c", "k"));
        book.claim("rtc_1", Call::new("user2", "c", "k"));
        assert_eq!(&*book.find("rtc_1").unwrap().user, "user1");
        assert!(book.find("rtc_2").is_none());
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let book = Book::default();
        for number in 0..=REMEMBERED {
            book.claim(&format!("rtc_{number}"), Call::new("user1", "c", "k"));
        }
        assert!(book.find("rtc_0").is_none());
        assert!(book.find("rtc_1").is_some());
        let known = book.known();
        assert_eq!((known.calls.len(), known.order.len()), (REMEMBERED, REMEMBERED));
    }
}

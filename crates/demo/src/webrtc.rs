//! OpenAI's side of WebRTC calls (`protocols.md` §5): who is called, who listens in, and how a call ends.
//!
//! A call is made by an SDP offer and answered at once. It then lives in a task of its own with a UDP socket of its own
//! (`peer.rs`): sound comes back as it was sent, and the data channel `oai-events` carries the same events as a realtime
//! WebSocket (`conversation.rs`). Sidebands see every server event and may send client events. Nothing here knows HTTP.

#[cfg(test)]
pub(crate) mod caller;
mod conversation;
mod peer;
mod sockets;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiproxy_core::tasks::Tasks;
use aiproxy_core::time::{self, Instant};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot};

use self::conversation::Conversation;
use self::peer::Peer;
use self::sockets::Sockets;

/// Calls at a time: each holds a socket and some buffers.
const MOST_CALLS: usize = 256;
/// Server events that a sideband may be behind before it loses some.
const SIDEBAND_EVENTS: usize = 1024;
/// Client events of all sidebands of a call that wait for it.
const WAITING_CLIENT_EVENTS: usize = 64;
/// How long nobody can attach to a call of [`LATE_MODEL`].
const LATE: Duration = Duration::from_secs(1);
/// A model whose calls cannot be attached to at first, as it happens at the real provider.
const LATE_MODEL: &str = "demo-realtime-late";
/// A model whose calls can never be attached to.
const UNATTACHABLE_MODEL: &str = "demo-realtime-unattachable";

/// All calls of a demo upstream.
#[derive(Debug)]
pub(crate) struct Calls {
    tasks: Tasks,
    address: IpAddr,
    /// The wait between two events of a session.
    pace: Duration,
    live: Live,
}

/// The running calls by id.
type Live = Arc<Mutex<HashMap<String, Line>>>;

/// How others reach a running call. A call ends when its line is dropped.
#[derive(Debug)]
struct Line {
    events: broadcast::Sender<Arc<str>>,
    client_events: mpsc::Sender<Value>,
    /// From when on somebody may attach; `None`: never.
    attachable_from: Option<Instant>,
    _hangup: oneshot::Sender<()>,
}

/// A call that was just answered.
#[derive(Debug)]
pub(crate) struct Answered {
    /// `rtc_demo_…`.
    pub(crate) id: String,
    /// The SDP answer, with CRLF line ends.
    pub(crate) sdp: String,
}

/// Why there is no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoCall {
    /// The offer is no SDP, or asks for what no answer can give; in the words of who read it.
    BadOffer(String),
    /// Too many calls at once, or no socket left for one more.
    Busy,
}

/// A sideband's share of a call.
pub(crate) struct Attachment {
    /// Server events as JSON texts. Closed when the call has ended; a reader that is too slow is told that it lags.
    pub(crate) events: broadcast::Receiver<Arc<str>>,
    /// Takes client events, one JSON value each. Closed when the call has ended.
    pub(crate) client_events: mpsc::Sender<Value>,
}

impl Calls {
    /// No calls yet. They will run on `tasks`, be reached at 127.0.0.1 and at `address`, where the upstream listens, and
    /// leave `pace` between two events of a session.
    pub(crate) fn new(tasks: Tasks, address: IpAddr, pace: Duration) -> Self {
        Self { tasks, address, pace, live: Live::default() }
    }

    /// Answers `offer` with a session of `model`. The call lives until it is hung up, the peer leaves or the tasks stop.
    ///
    /// Must be called on a tokio runtime; without one it is [`NoCall::Busy`].
    pub(crate) fn answer(&self, offer: &str, model: &str, session: Option<&Value>) -> Result<Answered, NoCall> {
        // The lock is held over the answer, so that two offers at once cannot both be the last that fits.
        let mut live = self.live();
        if live.len() >= MOST_CALLS || self.tasks.is_stopped() {
            return Err(NoCall::Busy);
        }
        let sockets = Sockets::bind(self.address).map_err(|_| NoCall::Busy)?;
        let (events, _) = broadcast::channel(SIDEBAND_EVENTS);
        let conversation = Conversation::new(model, session, self.pace, events.clone());
        let (peer, sdp) = Peer::answer(offer, sockets, conversation)?;

        let id = format!("rtc_demo_{}", uuid::Uuid::new_v4().simple());
        let (client_events, heard) = mpsc::channel(WAITING_CLIENT_EVENTS);
        let (hangup, hung_up) = oneshot::channel();
        let line = Line { events, client_events, attachable_from: attachable_from(model), _hangup: hangup };
        live.insert(id.clone(), line);
        let listed = Listed { id: id.clone(), live: self.live.clone() };
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move {
            // Taken off the list in any case, even if the call ends in a panic.
            let _listed = listed;
            peer.talk(heard, hung_up, tasks).await;
        });
        Ok(Answered { id, sdp })
    }

    /// Lets a sideband into a call; `None` if there is no such call, or if it cannot be attached to (yet).
    pub(crate) fn attach(&self, id: &str) -> Option<Attachment> {
        let live = self.live();
        let line = live.get(id)?;
        line.attachable_from.filter(|from| *from <= time::now())?;
        Some(Attachment { events: line.events.subscribe(), client_events: line.client_events.clone() })
    }

    /// Whether a call is running.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.live().contains_key(id)
    }

    /// Ends a call; false if there is none of this id (any more).
    pub(crate) fn hang_up(&self, id: &str) -> bool {
        self.live().remove(id).is_some()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        lock(&self.live)
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Attachment").finish_non_exhaustive()
    }
}

/// Takes a call off the list when its task ends.
struct Listed {
    id: String,
    live: Live,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.live).remove(&self.id);
    }
}

/// No line is ever left half changed, so that a panic elsewhere does not spoil the list.
fn lock(live: &Live) -> MutexGuard<'_, HashMap<String, Line>> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attachable_from(model: &str) -> Option<Instant> {
    match model {
        UNATTACHABLE_MODEL => None,
        LATE_MODEL => Some(time::now() + LATE),
        _ => Some(time::now()),
    }
}

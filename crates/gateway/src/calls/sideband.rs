//! One call after it began: what it uses, and when it is over. The task here has the record of the call; it ends with it.
//!
//! The gateway's own socket is attached first. Attached, it is read until the provider closes it, which is the end of the
//! call. Where it gets lost it is attached again. A call that cannot be read is hung up, unless the config says otherwise.
//! A call that may not go on (its key, its quota, its time, the process) is hung up, and heard out for a moment: the last
//! response tells what it used only when it is done.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_config::snapshot::{KeyDigest, ModelRule, Unattached as Policy};
use aiproxy_core::time::{self, Instant};
use aiproxy_llm::realtime::{Protocol, SessionMeter};

use super::account::{CallAccount, Unattached};
use super::book::Entered;
use super::socket::{Heard, Socket};
use crate::permit::Caller;
use crate::record::{Checkpoints, End, OpenRecord, bounded};
use crate::refusal::Refusal;
use crate::sessions::{Ending, Subject, Watch};
use crate::state::Worker;

/// Pauses between two tries to attach: the first, and the longest.
const ATTACH_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_ATTACH_PAUSE: Duration = Duration::from_secs(2);
/// A socket that lives shorter is not worth much; after so many of them in a row nobody tries again.
const SHORT_LIFE: Duration = Duration::from_secs(10);
const MOST_SHORT_LIVES: u32 = 5;
/// How long the last try to attach may take.
const LAST_TRY: Duration = Duration::from_millis(500);
/// How long the last words of a call are waited for that was hung up here, and by its owner.
const LAST_WORDS: Duration = Duration::from_secs(1);
const GOODBYE: Duration = Duration::from_secs(5);
/// How long before running calls are cut a call is hung up.
const BEFORE_CUT: Duration = Duration::from_secs(2);

/// Why a call is not read any more.
#[derive(Debug)]
enum Why {
    /// It is over.
    Over,
    /// Its owner hung up.
    HungUp,
    /// It may not go on.
    Revoked(Refusal),
    /// It has lasted as long as its channel allows.
    Timeout,
    /// The process is about to end.
    Shutdown,
    /// Nobody can tell what it uses.
    Unattached,
}

/// Follows a call to its end.
pub(super) async fn follow(
    worker: Arc<Worker>,
    account: CallAccount,
    entered: Entered,
    key: KeyDigest,
    record: OpenRecord,
) {
    let _counted = worker.gateway.count_webrtc_call();
    let mut bounds = Bounds::new(&worker, &entered, key, &record);
    let mut line = Line::new(worker, account, key, record);
    let why = tokio::select! {
        why = bounds.reached() => why,
        why = line.listen() => why,
    };
    line.end(why).await;
}

/// What ends a call from outside.
struct Bounds {
    watch: Watch,
    hung_up: tokio_util::sync::CancellationToken,
    /// When its time is over.
    total: Option<Instant>,
    /// When it is hung up because the process ends.
    cut: Option<Instant>,
    grace: Duration,
}

impl Bounds {
    fn new(worker: &Arc<Worker>, entered: &Entered, key: KeyDigest, record: &OpenRecord) -> Self {
        let subject = Subject {
            key,
            client_ip: record.client_ip,
            channel: record.channel_id().unwrap_or_default().into(),
            credential: record.credential_id().unwrap_or_default().into(),
        };
        let total = record.place.map(|place| record.snapshot.channels[place.channel].timeouts.total);
        let total = total.filter(|total| !total.is_zero()).map(|total| record.started + total);
        Self {
            watch: Watch::begin(worker, subject),
            hung_up: entered.hung_up.clone(),
            total,
            cut: None,
            grace: record.snapshot.system.shutdown_timeout.saturating_sub(BEFORE_CUT),
        }
    }

    /// Waits for the first of them.
    async fn reached(&mut self) -> Why {
        loop {
            let ending = tokio::select! {
                ending = poll_fn(|context| self.watch.poll(context)) => ending,
                () = self.hung_up.cancelled() => return Why::HungUp,
                () = until(self.total) => return Why::Timeout,
                () = until(self.cut) => return Why::Shutdown,
            };
            match ending {
                Ending::Revoked(refusal) => return Why::Revoked(refusal),
                Ending::Draining => self.cut = Some(time::now() + self.grace),
            }
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The gateway's line to a call.
struct Line {
    worker: Arc<Worker>,
    account: CallAccount,
    key: KeyDigest,
    record: OpenRecord,
    meter: Box<SessionMeter>,
    socket: Option<Socket>,
    was_attached: bool,
    /// Whether something may have been used before anybody listened.
    was_late: bool,
    checkpoints: Checkpoints,
}

impl Line {
    fn new(worker: Arc<Worker>, account: CallAccount, key: KeyDigest, record: OpenRecord) -> Self {
        let asked = record.real_model.as_deref().or(record.model_asked.as_deref());
        let meter = Box::new(SessionMeter::new(Protocol::Realtime, asked));
        Self {
            worker,
            account,
            key,
            record,
            meter,
            socket: None,
            was_attached: false,
            was_late: false,
            checkpoints: Checkpoints::default(),
        }
    }

    /// Reads the call until it is over or cannot be read.
    async fn listen(&mut self) -> Why {
        let mut short_lives = 0;
        loop {
            match self.attach().await {
                Ok(socket) => self.socket = Some(socket),
                // It was there and is not any more.
                Err(Unattached::NoSuchCall) if self.was_attached => return Why::Over,
                Err(_) => return Why::Unattached,
            }
            self.was_attached = true;
            let attached_at = time::now();
            match self.hear().await {
                Ok(Heard::End) => return Why::Over,
                Ok(_) => {}
                Err(refusal) => return Why::Revoked(refusal),
            }
            tracing::info!(request.id = %self.record.id, call.id = %self.account.id, "the socket of a call was lost");
            self.socket = None;
            if attached_at.elapsed() >= SHORT_LIFE {
                short_lives = 0;
            } else if short_lives == MOST_SHORT_LIVES {
                return Why::Unattached;
            } else {
                tokio::time::sleep(ATTACH_PAUSE * 2_u32.pow(short_lives)).await;
                short_lives += 1;
            }
        }
    }

    /// Tries to attach for as long as the config says. A call that has just begun may not be known everywhere yet.
    async fn attach(&mut self) -> Result<Socket, Unattached> {
        let serving = self.worker.gateway.snapshot();
        let deadline = time::now() + serving.system.realtime.attach_timeout;
        let message_limit = serving.system.websocket.message_limit;
        let mut pause = ATTACH_PAUSE;
        let mut last = Unattached::Failed;
        loop {
            let patience = deadline.max(time::now() + LAST_TRY);
            match tokio::time::timeout_at(patience, self.account.open(&self.worker, message_limit)).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(Unattached::NoSuchCall)) if self.was_attached => return Err(Unattached::NoSuchCall),
                Ok(Err(Unattached::Refused(status))) => {
                    tracing::warn!(call.id = %self.account.id, %status, "the upstream refuses the socket of a call");
                    return Err(Unattached::Refused(status));
                }
                Ok(Err(why)) => last = why,
                Err(_) => return Err(last),
            }
            self.was_late = true;
            let left = deadline.saturating_duration_since(time::now());
            if left.is_zero() {
                tracing::warn!(call.id = %self.account.id, why = ?last, "no socket could be attached to a call");
                return Err(last);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_ATTACH_PAUSE);
        }
    }

    /// Hears the call out until it ends or the socket is lost, or until it uses a model that its key may not use: what is
    /// said over the data channel nobody can hold back.
    async fn hear(&mut self) -> Result<Heard, Refusal> {
        loop {
            let heard = self.hear_more().await;
            if heard != Heard::Use {
                return Ok(heard);
            }
            self.permit_transcription()?;
        }
    }

    /// The same, whatever it uses.
    async fn hear_out(&mut self) -> Heard {
        loop {
            let heard = self.hear_more().await;
            if heard != Heard::Use {
                return heard;
            }
        }
    }

    async fn hear_more(&mut self) -> Heard {
        loop {
            let Some(socket) = &mut self.socket else { return Heard::Loss };
            let due = self.checkpoints.later();
            let heard = tokio::select! {
                heard = socket.hear(&mut self.meter) => heard,
                () = until(due) => {
                    self.keep();
                    continue;
                }
            };
            self.record.progress(self.meter.used());
            if heard != Heard::Use {
                return heard;
            }
            self.checkpoints.changed();
            self.keep();
            return heard;
        }
    }

    /// The model that writes down what the user says may be changed during the call.
    fn permit_transcription(&self) -> Result<(), Refusal> {
        let Some(model) = self.meter.transcription_model() else { return Ok(()) };
        let serving = self.worker.gateway.snapshot();
        let Some(key) = serving.keys.get(&self.key) else { return Ok(()) };
        let channel = self.record.channel_id().and_then(|id| serving.channel_by_id.get(id));
        let aliases = channel.and_then(|index| serving.channels.get(*index)).into_iter().flat_map(|channel| {
            channel.models.iter().filter_map(|rule| match rule {
                ModelRule::Alias { alias, real } if **real == *model => Some(&**alias),
                _ => None,
            })
        });
        let caller = Caller::of(&serving, key);
        let is_allowed = [model].into_iter().chain(aliases).any(|name| caller.may_use(name));
        if is_allowed { Ok(()) } else { Err(Refusal::model_not_allowed(model)) }
    }

    /// Keeps what is known, if it is time to, should the process not live to see the end of the call.
    fn keep(&mut self) {
        if self.checkpoints.is_due() {
            self.take_over();
            self.record.checkpoint();
        }
    }

    fn take_over(&mut self) {
        if let Some(model) = self.meter.model() {
            self.record.model_served = Some(bounded(model));
        }
        let flaw = self.meter.flaw().map(|flaw| flaw.as_str());
        self.record.usage_flaw = flaw.or(self.was_late.then_some("attached_late"));
        self.record.progress(self.meter.used());
    }

    /// Ends the call, if it is not over, and closes its record.
    async fn end(mut self, why: Why) {
        tracing::info!(request.id = %self.record.id, call.id = %self.account.id, why = why.as_str(), "a call ends");
        let mut is_over = true;
        let (end, code) = match why {
            Why::Over => (End::Complete, None),
            Why::HungUp => {
                drop(tokio::time::timeout(GOODBYE, self.hear_out()).await);
                (End::Complete, None)
            }
            Why::Revoked(refusal) => {
                is_over = self.hang_up().await;
                (refusal.end, Some(refusal.code))
            }
            Why::Timeout => {
                is_over = self.hang_up().await;
                (End::Timeout, Some("upstream_timeout"))
            }
            Why::Shutdown => {
                is_over = self.hang_up().await;
                (End::Shutdown, Some("draining"))
            }
            Why::Unattached if self.record.snapshot.system.realtime.unattached == Policy::Unmetered => {
                is_over = false;
                (End::Complete, None)
            }
            Why::Unattached => {
                is_over = self.hang_up().await;
                (End::UpstreamError, Some("upstream_invalid"))
            }
        };
        self.record.end = end;
        self.record.error_code = code;
        self.take_over();
        if self.was_attached {
            // It was read from its beginning: what was not told was not used.
            self.record.demand.uses_tokens = false;
        }
        if !is_over {
            tracing::warn!(request.id = %self.record.id, call.id = %self.account.id, "a call goes on unmetered");
            self.record.usage_flaw = Some("unmetered");
        }
        self.record.close();
    }

    /// Hangs up, and hears the last words. False if the call may go on.
    async fn hang_up(&mut self) -> bool {
        let cancels = self.meter.cancel();
        if let Some(socket) = &mut self.socket {
            // A response that is cancelled tells what it used.
            cancels.iter().for_each(|cancel| socket.say(cancel));
        }
        let (worker, account) = (self.worker.clone(), self.account.clone());
        let mut hanging_up = Box::pin(async move { account.hang_up(&worker).await });
        let told = tokio::select! {
            heard = self.hear_out(), if self.socket.is_some() => Err(heard),
            is_over = &mut hanging_up => Ok(is_over),
        };
        match told {
            Ok(true) => {
                drop(tokio::time::timeout(LAST_WORDS, self.hear_out()).await);
                true
            }
            Ok(false) => false,
            Err(Heard::End) => true,
            // Nothing more can be heard, but that it ends must be made sure of.
            Err(_) => hanging_up.await,
        }
    }
}

impl Drop for Line {
    /// However the call ends, what it used is in its record.
    fn drop(&mut self) {
        self.take_over();
    }
}

impl Why {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Over => "it is over",
            Self::HungUp => "its owner hung up",
            Self::Revoked(_) => "it may not go on",
            Self::Timeout => "its time is over",
            Self::Shutdown => "the gateway stops",
            Self::Unattached => "nobody can tell what it uses",
        }
    }
}

//! The other end of one call: ICE, DTLS, SRTP and SCTP by `str0m`, which knows neither sockets nor clocks; both are here.
//!
//! The peer is an ICE-lite one, as servers are: it waits for the caller's checks and answers to wherever they come from.
//! So it needs no candidate of the caller; browsers hide theirs behind `.local` names that nobody else can resolve.
//!
//! `str0m` asks that everything it wants to send is taken from it after each change before the next one (`drain`).

use std::time::Duration;

use aiproxy_core::tasks::Tasks;
use aiproxy_core::time::{self, Instant};
use serde_json::Value;
use str0m::change::SdpOffer;
use str0m::channel::{ChannelData, ChannelId};
use str0m::media::MediaData;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcError};
use tokio::sync::{mpsc, oneshot};

use super::NoCall;
use super::conversation::Conversation;
use super::sockets::{Arrival, Sockets};

/// The data channel that carries events; others are not looked at.
const CHANNEL: &str = "oai-events";
/// How long the caller has to get through.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How long a lost caller has to come back. `str0m` needs 15 s to call it lost, so that it is 30 s all in all.
const RECONNECT_WITHIN: Duration = Duration::from_secs(15);
/// The provider ends sessions after an hour (`protocols.md` §4).
const LONGEST_CALL: Duration = Duration::from_secs(60 * 60);
/// Larger ones do not reach a WebRTC peer.
const LARGEST_DATAGRAM: usize = 2048;
/// What the data channel buffers. It must hold the largest message, which is as large as what a client may send.
const CHANNEL_BUFFER: usize = 1024 * 1024;

/// One call.
#[derive(Debug)]
pub(super) struct Peer {
    rtc: Box<Rtc>,
    sockets: Sockets,
    conversation: Conversation,
    channel: Option<ChannelId>,
    /// Until when a caller that is not connected is waited for; `None` while it is.
    patience: Option<Instant>,
    end: Instant,
    is_closed: bool,
}

impl Peer {
    /// Reads an offer and makes its answer.
    pub(super) fn answer(offer: &str, sockets: Sockets, conversation: Conversation) -> Result<(Self, String), NoCall> {
        let offer = SdpOffer::from_sdp_string(offer).map_err(|error| NoCall::BadOffer(error.to_string()))?;
        let now = time::now();
        let config = Rtc::builder().set_ice_lite(true).clear_codecs().enable_opus(true, false);
        let mut rtc = Box::new(config.set_sctp_max_buffered_amount(CHANNEL_BUFFER).build(now.into_std()));
        for address in sockets.addresses() {
            if let Ok(candidate) = Candidate::host(address, Protocol::Udp) {
                rtc.add_local_candidate(candidate);
            }
        }
        let answer = rtc.sdp_api().accept_offer(offer).map_err(|error| NoCall::BadOffer(error.to_string()))?;
        let (patience, end) = (Some(now + CONNECT_WITHIN), now + LONGEST_CALL);
        let peer = Self { rtc, sockets, conversation, channel: None, patience, end, is_closed: false };
        Ok((peer, answer.to_sdp_string()))
    }

    /// Talks until the caller leaves or is lost, somebody hangs up, or the tasks stop.
    pub(super) async fn talk(
        mut self,
        mut client_events: mpsc::Receiver<Value>,
        mut hung_up: oneshot::Receiver<()>,
        tasks: Tasks,
    ) {
        let mut datagram = vec![0; LARGEST_DATAGRAM];
        while let Ok(Some(wake)) = self.drive() {
            let taken = tokio::select! {
                _ = &mut hung_up => break,
                () = tasks.stopped() => break,
                arrival = self.sockets.receive(&mut datagram) => self.take(arrival, &datagram),
                Some(event) = client_events.recv(), if self.conversation.has_room() => {
                    self.conversation.hear(&event);
                    Ok(())
                }
                () = tokio::time::sleep_until(wake) => self.rtc.handle_input(Input::Timeout(time::now().into_std())),
            };
            if taken.is_err() {
                break;
            }
        }
        // The caller shall know at once. If it does not, it notices that nobody answers its checks any more.
        self.rtc.close().and_then(|()| self.drain()).ok();
    }

    /// Sends all that can be sent now. Tells when there is more to do, or `None` when the call is over.
    fn drive(&mut self) -> Result<Option<Instant>, RtcError> {
        loop {
            let timeout = self.drain()?;
            let now = time::now();
            let end = self.patience.map_or(self.end, |patience| patience.min(self.end));
            if self.is_closed || !self.rtc.is_alive() || now >= end {
                return Ok(None);
            }
            self.conversation.advance(now);
            if self.channel.is_none() {
                self.conversation.forget_old();
            }
            if self.conversation.is_overrun() {
                return Ok(None);
            }
            if !self.send_event() {
                return Ok(Some(self.conversation.due().unwrap_or(end).min(end).min(timeout)));
            }
        }
    }

    /// Takes all output and the time when `str0m` wants to be woken.
    fn drain(&mut self) -> Result<Instant, RtcError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => return Ok(Instant::from_std(at)),
                Output::Transmit(datagram) => self.sockets.send(&datagram),
                Output::Event(event) => self.notice(event),
            }
        }
    }

    fn notice(&mut self, event: Event) {
        match event {
            Event::IceConnectionStateChange(state) if state.is_connected() => self.patience = None,
            Event::IceConnectionStateChange(_) => {
                self.patience.get_or_insert(time::now() + RECONNECT_WITHIN);
            }
            Event::ChannelOpen(id, label) if label == CHANNEL && self.channel.is_none() => {
                self.channel = Some(id);
                self.conversation.open();
            }
            Event::ChannelData(ChannelData { id, data, .. }) if Some(id) == self.channel => {
                self.conversation.hear_text(&data);
            }
            Event::ChannelClose(id) if Some(id) == self.channel => self.channel = None,
            Event::MediaData(sound) => self.echo(sound),
            Event::Closed => self.is_closed = true,
            _ => {}
        }
    }

    /// Sends sound back. What cannot be (the caller does not want to receive) is not missed.
    fn echo(&mut self, sound: MediaData) {
        let Some(writer) = self.rtc.writer(sound.mid) else { return };
        if let Some(payload_type) = writer.match_params(sound.params) {
            writer.write(payload_type, sound.network_time, sound.time, sound.data).ok();
        }
    }

    /// Sends one event over the data channel; false if there is none or no room for it.
    fn send_event(&mut self) -> bool {
        let Some(text) = self.conversation.first() else { return false };
        let Some(mut channel) = self.channel.and_then(|id| self.rtc.channel(id)) else { return false };
        // One that is larger than what the buffer holds or the caller takes (an error) can never be sent.
        let is_done = text.len() > CHANNEL_BUFFER || channel.write(false, text.as_bytes()).unwrap_or(true);
        if is_done {
            self.conversation.remove_first();
        }
        is_done
    }

    /// Takes a datagram, if it is of this call at all.
    fn take(&mut self, arrival: Arrival, buffer: &[u8]) -> Result<(), RtcError> {
        let Arrival { source, destination, length } = arrival;
        let Ok(received) = Receive::new(Protocol::Udp, source, destination, &buffer[..length]) else { return Ok(()) };
        let input = Input::Receive(time::now().into_std(), received);
        if self.rtc.accepts(&input) { self.rtc.handle_input(input) } else { Ok(()) }
    }
}

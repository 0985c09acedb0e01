//! Test help: the calling end of a WebRTC call, as a browser is one.

use std::net::SocketAddr;
use std::time::Duration;

use aiproxy_core::time::{self, Instant};
use serde_json::Value;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::channel::ChannelId;
use str0m::media::{Direction, Frequency, MediaKind, MediaTime, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::net::UdpSocket;

/// How long anything that is expected may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A caller with a microphone and the data channel `oai-events`.
pub(crate) struct Caller {
    rtc: Box<Rtc>,
    socket: UdpSocket,
    address: SocketAddr,
    pending: Option<SdpPendingOffer>,
    audio: Mid,
    channel: Option<ChannelId>,
    spoken: u64,
    /// The events that came over the data channel.
    pub(crate) events: Vec<Value>,
    /// The sound that came back.
    pub(crate) sounds: Vec<Vec<u8>>,
    /// The other end said goodbye.
    pub(crate) is_closed: bool,
}

impl Caller {
    /// A caller on loopback and its offer.
    pub(crate) async fn new() -> (Self, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut rtc = Box::new(Rtc::new(time::now().into_std()));
        rtc.add_local_candidate(Candidate::host(address, Protocol::Udp).unwrap()).unwrap();
        let mut api = rtc.sdp_api();
        let audio = api.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None);
        api.add_channel("oai-events".to_owned());
        let (offer, pending) = api.apply().unwrap();
        let caller = Self {
            rtc,
            socket,
            address,
            pending: Some(pending),
            audio,
            channel: None,
            spoken: 0,
            events: Vec::new(),
            sounds: Vec::new(),
            is_closed: false,
        };
        (caller, offer.to_sdp_string())
    }

    /// Where this caller sends from.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the answer to the offer.
    pub(crate) fn take_answer(&mut self, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.rtc.sdp_api().accept_answer(self.pending.take().unwrap(), answer).unwrap();
        self.drain();
    }

    /// Sends and receives until `done`, for which it must not take long.
    pub(crate) async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let talk = async {
            let mut datagram = [0; 2048];
            loop {
                let wake = self.drain();
                if done(self) {
                    return;
                }
                let now = || time::now().into_std();
                let input = tokio::select! {
                    received = self.socket.recv_from(&mut datagram) => {
                        // A hung up end answers with ICMP "port unreachable".
                        let Ok((length, source)) = received else { continue };
                        let contents = Receive::new(Protocol::Udp, source, self.address, &datagram[..length]);
                        Input::Receive(now(), contents.unwrap())
                    }
                    () = tokio::time::sleep_until(wake) => Input::Timeout(now()),
                };
                self.rtc.handle_input(input).unwrap();
            }
        };
        let is_done = tokio::time::timeout(PATIENCE, talk).await.is_ok();
        assert!(is_done, "it did not happen: {:?}, {} sounds", self.kinds(), self.sounds.len());
    }

    /// Waits for an event of this type, and gives the last one.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        self.until(|caller| caller.kinds().contains(&kind)).await;
        self.events.iter().rfind(|event| event["type"] == kind).unwrap().clone()
    }

    /// The types of all events so far.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(|event| event["type"].as_str().unwrap()).collect()
    }

    /// Sends text over the data channel, which must be open.
    pub(crate) fn send(&mut self, text: &str) {
        let mut channel = self.rtc.channel(self.channel.unwrap()).unwrap();
        assert!(channel.write(false, text.as_bytes()).unwrap());
        self.drain();
    }

    /// Sends one Opus packet of 20 ms.
    pub(crate) fn speak(&mut self, packet: &[u8]) {
        let writer = self.rtc.writer(self.audio).unwrap();
        let payload_type = writer.payload_params().next().unwrap().pt();
        let at = MediaTime::new(self.spoken * 960, Frequency::FORTY_EIGHT_KHZ);
        self.spoken += 1;
        writer.write(payload_type, time::now().into_std(), at, packet.to_vec()).unwrap();
        self.drain();
    }

    /// Says goodbye.
    pub(crate) fn leave(&mut self) {
        self.rtc.close().unwrap();
        self.drain();
    }

    fn drain(&mut self) -> Instant {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => return Instant::from_std(at),
                Output::Transmit(datagram) => {
                    self.socket.try_send_to(&datagram.contents, datagram.destination).ok();
                }
                Output::Event(Event::ChannelOpen(id, _)) => self.channel = Some(id),
                Output::Event(Event::ChannelData(data)) => {
                    self.events.push(serde_json::from_slice(&data.data).unwrap());
                }
                Output::Event(Event::MediaData(sound)) => self.sounds.push(sound.data.to_vec()),
                Output::Event(Event::Closed) => self.is_closed = true,
                Output::Event(_) => {}
            }
        }
    }
}

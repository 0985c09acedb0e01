//! The gateway's own socket to a call: it listens. What it hears goes to the meter; what it says are pongs, pings of its own
//! so that a connection that died is noticed, and the request to finish when the call is about to be hung up.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aiproxy_llm::realtime::SessionMeter;
use aiproxy_llm::websocket::{Control, Decoder, Opcode, Piece, Sender, Violation, encode, encode_close};
use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use crate::timer::Deadline;
use crate::upstream::io::{BoxIo, poll_read_once};
use crate::upstream::pool::Connection;

/// Silence after which it is asked whether anybody is there; as long again without an answer, and nobody is.
const SILENCE: Duration = Duration::from_secs(20);
/// What may wait to be written. A peer that takes none of it is gone.
const WAITING_LIMIT: usize = 64 * 1024;

/// Close codes that say that the socket ends and not the call (RFC 6455 §7.4.1 and its registry): going away, an internal
/// error, a restart, try again later.
const NOT_OF_THE_CALL: [u16; 4] = [1001, 1011, 1012, 1013];

/// A socket to a call.
pub(super) struct Socket {
    io: BoxIo,
    /// What came behind the handshake.
    unread: BytesMut,
    decoder: Decoder,
    waiting: BytesMut,
    silence: Deadline,
    is_asked: bool,
}

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// More was used.
    Use,
    /// The call is over.
    End,
    /// The socket is lost. The call may go on.
    Loss,
}

impl Socket {
    /// A socket on a connection whose handshake is done.
    pub(super) fn new(connection: Connection, message_limit: u64) -> Self {
        let mut silence = Deadline::default();
        silence.set_after(SILENCE);
        Self {
            io: connection.io,
            unread: connection.unread,
            decoder: Decoder::new(Sender::Server, message_limit),
            waiting: BytesMut::new(),
            silence,
            is_asked: false,
        }
    }

    /// Listens until something is heard that matters. May be dropped and called again.
    pub(super) async fn hear(&mut self, meter: &mut SessionMeter) -> Heard {
        poll_fn(|context| self.poll_hear(context, meter)).await
    }

    /// Says `text`, as soon as [`Self::hear`] is called again.
    pub(super) fn say(&mut self, text: &str) {
        self.frame(Opcode::Text, text.as_bytes());
    }

    fn poll_hear(&mut self, context: &mut Context<'_>, meter: &mut SessionMeter) -> Poll<Heard> {
        loop {
            if self.waiting.len() > WAITING_LIMIT || self.poll_write(context).is_err() {
                return Poll::Ready(Heard::Loss);
            }
            let taken = if self.unread.is_empty() {
                let (decoder, waiting) = (&mut self.decoder, &mut self.waiting);
                let read = poll_read_once(&mut self.io, context, |bytes| {
                    if bytes.is_empty() { Some(Heard::Loss) } else { take(decoder, waiting, meter, bytes) }
                });
                match read {
                    Poll::Ready(Ok(heard)) => heard,
                    Poll::Ready(Err(_)) => Some(Heard::Loss),
                    Poll::Pending => {
                        if self.silence.poll(context).is_pending() {
                            return Poll::Pending;
                        }
                        if std::mem::replace(&mut self.is_asked, true) {
                            return Poll::Ready(Heard::Loss);
                        }
                        self.frame(Opcode::Ping, b"");
                        self.silence.set_after(SILENCE);
                        continue;
                    }
                }
            } else {
                let bytes = self.unread.split();
                take(&mut self.decoder, &mut self.waiting, meter, &bytes)
            };
            self.silence.set_after(SILENCE);
            self.is_asked = false;
            if let Some(heard) = taken {
                if heard == Heard::End {
                    // The answer to a goodbye; whether it arrives matters to nobody.
                    self.poll_write(context).ok();
                }
                return Poll::Ready(heard);
            }
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while !self.waiting.is_empty() {
            match Pin::new(&mut self.io).poll_write(context, &self.waiting) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.waiting.advance(written?),
                Poll::Pending => return Ok(()),
            }
        }
        match Pin::new(&mut self.io).poll_flush(context) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) {
        put(&mut self.waiting, |out| encode(opcode, payload, Some(mask()), out));
    }
}

/// Takes bytes as they came.
fn take(decoder: &mut Decoder, waiting: &mut BytesMut, meter: &mut SessionMeter, bytes: &[u8]) -> Option<Heard> {
    let (mut rest, mut heard, mut scratch) = (bytes, None, Vec::new());
    loop {
        let ends_message = match decoder.next(&mut rest) {
            Ok(None) => return heard,
            Ok(Some(Piece::Head(head))) => head.ends_frame() && head.ends_message(),
            Ok(Some(Piece::Payload(payload))) => {
                meter.feed(payload.kind, payload.unmask_into(&mut scratch));
                payload.ends_frame && payload.ends_message
            }
            Ok(Some(Piece::Control(Control::Ping(payload)))) => {
                put(waiting, |out| encode(Opcode::Pong, &payload, Some(mask()), out));
                false
            }
            Ok(Some(Piece::Control(Control::Pong(_)))) => false,
            Ok(Some(Piece::Control(Control::Close(close)))) => {
                put(waiting, |out| encode_close(close.as_ref(), Some(mask()), out));
                let is_of_the_call = close.is_none_or(|close| !NOT_OF_THE_CALL.contains(&close.code));
                return Some(if is_of_the_call { Heard::End } else { Heard::Loss });
            }
            Err(violation) => {
                note(violation);
                return Some(Heard::Loss);
            }
        };
        if ends_message && meter.end() {
            heard = Some(Heard::Use);
        }
    }
}

fn note(violation: Violation) {
    tracing::warn!(error = %violation, "the socket of a call broke the rules of framing");
}

fn put(waiting: &mut BytesMut, write: impl FnOnce(&mut Vec<u8>)) {
    let mut frame = Vec::new();
    write(&mut frame);
    waiting.extend_from_slice(&frame);
}

/// We are the client of an upstream, and a client masks (RFC 6455 §5.3).
fn mask() -> [u8; 4] {
    fastrand::u32(..).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use aiproxy_llm::realtime::Protocol;
    use aiproxy_llm::websocket::Close;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const DONE: &str = r#"{"type":"response.done","response":{"id":"r","status":"completed","usage":{"total_tokens":30,"input_tokens":20,"output_tokens":10}}}"#;

    fn connected() -> (Socket, DuplexStream, SessionMeter) {
        let (ours, theirs) = duplex(64 * 1024);
        let socket = Socket::new(Connection::new(Box::new(ours), 0), 64 << 20);
        (socket, theirs, SessionMeter::new(Protocol::Realtime, Some("m")))
    }

    fn framed(opcode: Opcode, payload: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        encode(opcode, payload.as_bytes(), None, &mut frame);
        frame
    }

    fn closed(code: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_close(Some(&Close { code, reason: "".into() }), None, &mut frame);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn use_is_heard_however_the_bytes_are_cut() {
        for cut in [1, 2, 7, 100, 1000] {
            let (mut socket, mut peer, mut meter) = connected();
            let wire = [framed(Opcode::Text, "{\"type\":\"session.created\"}"), framed(Opcode::Text, DONE)].concat();
            let feeding = async {
                for piece in wire.chunks(cut) {
                    peer.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let (heard, ()) = tokio::join!(socket.hear(&mut meter), feeding);
            assert_eq!(heard, Heard::Use);
            let used = meter.used()[0].usage;
            assert_eq!((used.input, used.output), (Some(20), Some(10)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_is_answered_with_a_masked_pong() {
        let (mut socket, mut peer, mut meter) = connected();
        peer.write_all(&framed(Opcode::Ping, "p")).await.unwrap();
        peer.write_all(&closed(1000)).await.unwrap();
        assert_eq!(socket.hear(&mut meter).await, Heard::End);
        let mut answer = [0; 7];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!((answer[0], answer[1], answer[6] ^ answer[2]), (0x8A, 0x81, b'p'));
    }

    #[tokio::test(start_paused = true)]
    async fn a_goodbye_of_the_call_is_told_from_one_of_the_socket() {
        for (code, expected) in
            [(1000, Heard::End), (1008, Heard::End), (4000, Heard::End), (1001, Heard::Loss), (1011, Heard::Loss)]
        {
            let (mut socket, mut peer, mut meter) = connected();
            peer.write_all(&closed(code)).await.unwrap();
            assert_eq!(socket.hear(&mut meter).await, expected, "{code}");
        }
        let (mut socket, peer, mut meter) = connected();
        drop(peer);
        assert_eq!(socket.hear(&mut meter).await, Heard::Loss);
        let (mut socket, mut peer, mut meter) = connected();
        peer.write_all(&[0x81, 0xFF]).await.unwrap();
        assert_eq!(socket.hear(&mut meter).await, Heard::Loss, "a server does not mask");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_silent_is_asked_and_then_given_up() {
        let (mut socket, mut peer, mut meter) = connected();
        let start = tokio::time::Instant::now();
        let (heard, asked_after) = tokio::join!(socket.hear(&mut meter), async {
            let mut ping = [0; 6];
            peer.read_exact(&mut ping).await.unwrap();
            assert_eq!((ping[0], ping[1]), (0x89, 0x80));
            start.elapsed()
        });
        assert_eq!((heard, asked_after, start.elapsed()), (Heard::Loss, SILENCE, 2 * SILENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_is_kept() {
        let (mut socket, mut peer, mut meter) = connected();
        let answering = async {
            for _ in 0..5 {
                let mut ping = [0; 6];
                peer.read_exact(&mut ping).await.unwrap();
                peer.write_all(&framed(Opcode::Pong, "")).await.unwrap();
            }
            peer.write_all(&closed(1000)).await.unwrap();
        };
        let (heard, ()) = tokio::join!(socket.hear(&mut meter), answering);
        assert_eq!(heard, Heard::End);
    }
}

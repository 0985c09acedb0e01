//! One side of a tunnel: a socket to a peer, what is still to be written to it, and where it stands in its closing.
//!
//! Frames that pass are written as they came, with no copy as long as the peer takes them. Frames of ours go in
//! between, and only there: a pong or a close never falls into the middle of a frame, a text of ours never into the
//! middle of a fragmented message.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aiproxy_llm::websocket::{Close, Decoder, Opcode, Sender, encode, encode_close};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::timer::Deadline;
use crate::upstream::io::poll_read_through;

/// What may wait to be written to one peer. Beyond this nothing more is read for it: back-pressure. Until then pings of
/// the other peer are still answered.
const WAITING_LIMIT: usize = 256 * 1024;

/// A peer.
pub(super) struct Leg<S> {
    io: S,
    /// Reads its frames.
    pub(super) decoder: Decoder,
    /// What came behind the handshake and was not read yet.
    unread: BytesMut,
    /// What could not be written at once.
    waiting: BytesMut,
    /// How long the peer may take nothing of it.
    patience: Duration,
    stalled: Deadline,
    /// Whether our frames to it are masked: we are the client of an upstream (RFC 6455 §5.3).
    masks: bool,
    /// What was passed on to it ends inside of a frame, or between the fragments of a message.
    is_mid_frame: bool,
    is_mid_message: bool,
    /// Frames of ours that wait for the end of a frame.
    pong: Option<Box<[u8]>>,
    close: Option<Option<Close>>,
    /// Whether our close frame went out, the peer's came, or the connection ended.
    pub(super) has_sent_close: bool,
    pub(super) has_got_close: bool,
    pub(super) is_gone: bool,
    is_shut: bool,
    /// Whether the relay knows that it is gone.
    is_missed: bool,
    /// Something was written that may not have left yet.
    is_unflushed: bool,
    is_last_word: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Leg<S> {
    /// A peer whose frames are those of a `sender`.
    pub(super) fn new(io: S, sender: Sender, unread: BytesMut, message_limit: u64, patience: Duration) -> Self {
        Self {
            io,
            decoder: Decoder::new(sender, message_limit),
            unread,
            waiting: BytesMut::new(),
            patience,
            stalled: Deadline::default(),
            masks: sender == Sender::Server,
            is_mid_frame: false,
            is_mid_message: false,
            pong: None,
            close: None,
            has_sent_close: false,
            has_got_close: false,
            is_gone: false,
            is_shut: false,
            is_missed: false,
            is_unflushed: false,
            is_last_word: false,
        }
    }

    /// Reads once and shows what came to `consume`; an empty slice is the end.
    pub(super) fn poll_read<R>(
        &mut self,
        context: &mut Context<'_>,
        consume: impl FnOnce(&mut Context<'_>, &mut Decoder, &[u8]) -> R,
    ) -> Poll<io::Result<R>> {
        let Self { io, decoder, unread, .. } = self;
        if !unread.is_empty() {
            let bytes = std::mem::take(unread);
            return Poll::Ready(Ok(consume(context, decoder, &bytes)));
        }
        poll_read_through(io, context, |context, bytes| consume(context, decoder, bytes))
    }

    /// Whether anything more is read from the peer.
    pub(super) fn is_heard(&self) -> bool {
        !self.is_gone && !self.is_last_word
    }

    /// Whether what was passed on ends inside of a frame.
    pub(super) fn is_mid_frame(&self) -> bool {
        self.is_mid_frame
    }

    /// Whether the peer still takes what passes: it was not told goodbye, or what it was told waits for the end of a frame.
    pub(super) fn is_open(&self) -> bool {
        !self.is_gone && !self.has_sent_close && (self.close.is_none() || self.is_mid_frame)
    }

    /// Whether goodbye was said, or is about to be.
    pub(super) fn is_closing(&self) -> bool {
        self.has_sent_close || self.close.is_some()
    }

    /// Whether more may be read for this peer.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_LIMIT
    }

    /// Whether something of ours waits for the end of the frame that is on its way.
    pub(super) fn waits_for_frame_end(&self) -> bool {
        self.pong.is_some() || self.close.is_some()
    }

    /// Whether everything was written.
    pub(super) fn is_flushed(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Passes bytes of frames on, if the peer still takes them.
    pub(super) fn pass(&mut self, context: &mut Context<'_>, wire: &[u8]) {
        if wire.is_empty() || !self.is_open() {
            return;
        }
        self.is_unflushed = true;
        let mut rest = wire;
        while self.waiting.is_empty() && !rest.is_empty() {
            match Pin::new(&mut self.io).poll_write(context, rest) {
                Poll::Ready(Ok(written)) if written > 0 => rest = &rest[written.min(rest.len())..],
                Poll::Ready(_) => return self.lose(),
                Poll::Pending => break,
            }
        }
        self.waiting.extend_from_slice(rest);
    }

    /// Tells where what was passed on so far ends. What waited for the end of a frame goes out.
    pub(super) fn stands(&mut self, is_mid_frame: bool, is_mid_message: bool) {
        self.is_mid_frame = is_mid_frame;
        self.is_mid_message = is_mid_message;
        if is_mid_frame {
            return;
        }
        // One for each frame that passes is as bounded as those are.
        if let Some(payload) = self.pong.take().filter(|_| !self.has_sent_close) {
            self.frame(Opcode::Pong, &payload);
        }
        if let Some(close) = self.close.take() {
            self.close(close);
        }
    }

    /// Answers a ping. Of several that wait only the last is answered (RFC 6455 §5.5.3): a peer that sends pings and reads
    /// nothing fills no memory.
    pub(super) fn pong(&mut self, payload: Box<[u8]>) {
        if self.is_mid_frame || !self.has_room() {
            self.pong = Some(payload);
        } else if !self.has_sent_close {
            self.frame(Opcode::Pong, &payload);
        }
    }

    /// Says a text of ours. Not possible inside of somebody else's message, and then left out; as it is for a peer that
    /// does not read.
    pub(super) fn say(&mut self, text: &str) {
        if self.has_room() && !self.is_mid_message && !self.is_mid_frame && !self.is_closing() {
            self.frame(Opcode::Text, text.as_bytes());
        }
    }

    /// Says goodbye, once; after the frame that is on its way.
    pub(super) fn close(&mut self, close: Option<Close>) {
        if self.has_sent_close {
            return;
        }
        if self.is_mid_frame {
            self.close.get_or_insert(close);
            return;
        }
        let mut frame = Vec::new();
        encode_close(close.as_ref(), self.mask(), &mut frame);
        self.put(&frame);
        self.has_sent_close = true;
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        encode(opcode, payload, self.mask(), &mut frame);
        self.put(&frame);
    }

    fn mask(&self) -> Option<[u8; 4]> {
        self.masks.then(|| fastrand::u32(..).to_ne_bytes())
    }

    fn put(&mut self, frame: &[u8]) {
        if !self.is_gone {
            self.waiting.extend_from_slice(frame);
            self.is_unflushed = true;
        }
    }

    /// A whole message of ours in the place of one that was held.
    pub(super) fn replace(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.is_open() {
            self.frame(opcode, payload);
        }
    }

    /// The connection ended, or cannot be used any more.
    pub(super) fn lose(&mut self) {
        self.is_gone = true;
        self.is_unflushed = false;
        self.waiting = BytesMut::new();
        self.unread = BytesMut::new();
    }

    /// Whether the connection was lost and nobody has been told yet.
    pub(super) fn take_loss(&mut self) -> bool {
        self.is_gone && !std::mem::replace(&mut self.is_missed, true)
    }

    /// Writes what waits. True if that changed something; a peer that takes nothing for too long is given up.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> bool {
        let mut has_written = false;
        while !self.waiting.is_empty() && !self.is_gone {
            match Pin::new(&mut self.io).poll_write(context, &self.waiting) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.waiting.advance(written.min(self.waiting.len()));
                    self.stalled.set(None);
                    has_written = true;
                }
                Poll::Ready(_) => {
                    self.lose();
                    return true;
                }
                Poll::Pending => {
                    self.stalled.arm(self.patience);
                    if self.stalled.poll(context).is_ready() {
                        self.lose();
                        return true;
                    }
                    break;
                }
            }
        }
        if has_written
            && self.has_room()
            && !self.is_mid_frame
            && let Some(payload) = self.pong.take()
        {
            self.pong(payload);
        }
        if self.waiting.is_empty() {
            self.stalled.set(None);
            if self.waiting.capacity() > 0 {
                self.waiting = BytesMut::new();
            }
        }
        if self.is_unflushed && !self.is_gone {
            match Pin::new(&mut self.io).poll_flush(context) {
                Poll::Ready(Ok(())) => self.is_unflushed = false,
                Poll::Ready(Err(_)) => {
                    self.lose();
                    return true;
                }
                Poll::Pending => {}
            }
        }
        if self.is_last_word && self.is_flushed() && !self.is_unflushed {
            self.lose();
        }
        has_written
    }

    /// What waits is still written, and then the connection is given up.
    pub(super) fn lose_after_writing(&mut self) {
        self.is_last_word = true;
    }

    /// Closes our side of the connection. True once nothing is left to do.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> bool {
        if !self.is_gone && !self.is_shut {
            self.is_shut = Pin::new(&mut self.io).poll_shutdown(context).is_ready();
        }
        self.is_gone || self.is_shut
    }
}

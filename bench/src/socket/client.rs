//! The caller's end of a socket: it says its message, and checks every byte of the answer.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use aiproxy_llm::websocket::{Opcode, encode};
use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::conversation::Conversation;
use super::frames::Frames;
use super::handshake::Handshake;
use crate::caller::{CALL_LIMIT, Target};
use crate::load::{Outcome, Repeated, nanos};
use crate::payload::Random;

/// Normal closure (RFC 6455 §7.4.1).
const GOODBYE: [u8; 2] = 1000_u16.to_be_bytes();

/// What is said and heard, apart from the connection.
struct Exchange {
    conversation: Arc<Conversation>,
    /// The message as a frame, with the mask of this socket.
    question: Vec<u8>,
    frames: Frames,
    expected: Vec<u8>,
    number: u64,
}

impl Exchange {
    /// True when the answer is whole.
    fn hear(&mut self, read: usize) -> Result<bool> {
        self.frames.add(read)?;
        let Some((opcode, said)) = self.frames.next()? else { return Ok(false) };
        self.conversation.answer(self.number, &mut self.expected);
        if opcode != self.conversation.opcode || said != self.expected {
            let (said, expected) = (String::from_utf8_lossy(said), String::from_utf8_lossy(&self.expected));
            bail!("message {} is {opcode:?} {said:.300} instead of {expected:.300}", self.number);
        }
        self.number += 1;
        Ok(true)
    }
}

/// An open socket.
pub(super) struct Socket {
    stream: TcpStream,
    exchange: Exchange,
}

impl Socket {
    /// Opens one with a key of its own.
    pub(super) async fn open(target: &Target, conversation: &Arc<Conversation>, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed.wrapping_add(77));
        let key = target.keys.get(random.below(target.keys.len())).context("keys")?;
        let handshake = Handshake::new(conversation.path, key, &mut random);
        let mut stream = TcpStream::connect(target.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        tokio::time::timeout(CALL_LIMIT, handshake.shake(&mut stream)).await.context("no handshake in time")??;
        // Never a mask of zeros, which would be none.
        let mask = ((random.next() >> 32) as u32 | 1).to_ne_bytes();
        let mut question = Vec::new();
        encode(conversation.opcode, &conversation.question, Some(mask), &mut question);
        let frames = Frames::new(conversation.longest(), false);
        let conversation = Arc::clone(conversation);
        Ok(Self { stream, exchange: Exchange { conversation, question, frames, expected: Vec::new(), number: 0 } })
    }

    async fn exchange(&mut self) -> Result<()> {
        let Self { stream, exchange } = self;
        stream.write_all(&exchange.question).await.context("send")?;
        loop {
            let read = stream.read(exchange.frames.space()).await.context("receive")?;
            if exchange.hear(read)? {
                return Ok(());
            }
        }
    }

    /// Says goodbye and waits until it is said back.
    pub(super) async fn close(mut self) -> Result<()> {
        let mut goodbye = Vec::new();
        encode(Opcode::Close, &GOODBYE, Some([1, 2, 3, 4]), &mut goodbye);
        self.stream.write_all(&goodbye).await.context("send")?;
        let frames = &mut self.exchange.frames;
        let answered = async {
            loop {
                let read = self.stream.read(frames.space()).await.context("receive")?;
                frames.add(read)?;
                if let Some((opcode, said)) = frames.next()? {
                    let is_same = opcode == Opcode::Close && said == GOODBYE;
                    ensure!(is_same, "{opcode:?} {said:02X?} instead of the goodbye");
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(CALL_LIMIT, answered).await.context("no goodbye in time")?
    }

    /// The same, for a thread of its own.
    pub(super) fn into_blocking(self) -> Result<BlockingSocket> {
        let stream = self.stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(CALL_LIMIT))?;
        Ok(BlockingSocket { stream, exchange: self.exchange })
    }
}

impl Repeated for Socket {
    /// One turn.
    async fn once(&mut self, outcome: &mut Outcome) -> Result<()> {
        for _ in 0..self.exchange.conversation.turn() {
            let sent = Instant::now();
            self.exchange().await?;
            outcome.latencies.push(nanos(sent.elapsed()));
            outcome.events += 2;
        }
        outcome.calls += 1;
        Ok(())
    }
}

/// A socket whose waiting is the kernel's.
pub(super) struct BlockingSocket {
    stream: std::net::TcpStream,
    exchange: Exchange,
}

impl BlockingSocket {
    pub(super) fn exchange(&mut self) -> Result<()> {
        let Self { stream, exchange } = self;
        stream.write_all(&exchange.question).context("send")?;
        loop {
            let read = stream.read(exchange.frames.space()).context("receive")?;
            if exchange.hear(read)? {
                return Ok(());
            }
        }
    }

    pub(super) fn into_async(self) -> Result<Socket> {
        self.stream.set_nonblocking(true)?;
        Ok(Socket { stream: TcpStream::from_std(self.stream)?, exchange: self.exchange })
    }
}

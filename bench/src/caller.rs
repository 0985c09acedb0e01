//! One caller: a keep-alive connection, a request whose key changes with every call, and what a good answer is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::payload::{self, Random, Request};
use crate::wire::{Response, Tally};

/// No call of any workload takes this long.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(20);

/// Where calls go, with whose keys, and what must come back.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) body: Arc<Vec<u8>>,
    /// The keys to choose from: 10,000 proxy keys, or only the real one if the call goes straight to the upstream.
    pub(crate) keys: Arc<Vec<String>>,
    pub(crate) expected: Expected,
}

/// Cheap to check on every call; the self-check looks closer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    Bytes(u64),
    Events(u64),
}

impl Expected {
    pub(crate) fn verify(self, tally: &Tally) -> Result<()> {
        ensure!(tally.status == 200, "status {} instead of 200", tally.status);
        match self {
            Self::Bytes(bytes) => ensure!(tally.bytes == bytes, "{} bytes instead of {bytes}", tally.bytes),
            Self::Events(events) => {
                ensure!(tally.events == events, "{} events instead of {events}", tally.events);
                ensure!(tally.ends_with_done(), "a stream without [DONE] at its end");
            }
        }
        Ok(())
    }
}

/// The request of one connection, patched in place before each call.
pub(crate) struct Script {
    request: Request,
    keys: Arc<Vec<String>>,
    random: Random,
}

impl Script {
    pub(crate) fn new(target: &Target, seed: u64) -> Self {
        let first = target.keys.first().map_or("", String::as_str);
        Self {
            request: Request::new(first, &target.body),
            keys: Arc::clone(&target.keys),
            random: Random::new(seed.wrapping_add(77)),
        }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        if let Some(key) = self.keys.get(self.random.below(self.keys.len())) {
            let at = self.request.key_at;
            self.request.bytes[at..at + key.len()].copy_from_slice(key.as_bytes());
        }
        &self.request.bytes
    }
}

pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    script: Script,
    expected: Expected,
}

impl Connection {
    pub(crate) fn new(target: &Target, seed: u64) -> Self {
        Self {
            address: target.address,
            stream: None,
            buffer: vec![0; 16 * 1024],
            script: Script::new(target, seed),
            expected: target.expected,
        }
    }

    pub(crate) async fn connect(&mut self) -> Result<()> {
        let stream = TcpStream::connect(self.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// One call, checked. `first_byte` runs when the answer begins.
    pub(crate) async fn call(&mut self, first_byte: impl FnOnce()) -> Result<Tally> {
        if self.stream.is_none() {
            self.connect().await?;
        }
        let stream = self.stream.as_mut().context("connected")?;
        stream.write_all(self.script.next()).await.context("send")?;
        let mut first_byte = Some(first_byte);
        let mut response = Response::default();
        loop {
            let read = stream.read(&mut self.buffer).await.context("receive")?;
            ensure!(read > 0, "the connection was closed before the answer was complete");
            if let Some(first_byte) = first_byte.take() {
                first_byte();
            }
            if response.feed(&self.buffer[..read])? {
                self.expected.verify(&response.tally)?;
                return Ok(response.tally);
            }
        }
    }
}

/// A single exchange on a connection of its own, with the whole answer kept: for readiness and the self-check.
pub(crate) async fn once(address: SocketAddr, request: &[u8]) -> Result<Tally> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request).await?;
        let mut response = Response::capturing();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = stream.read(&mut buffer).await?;
            ensure!(read > 0, "closed early (response begun: {})", response.has_begun());
            if response.feed(&buffer[..read])? {
                return Ok(response.tally);
            }
        }
    };
    tokio::time::timeout(CALL_LIMIT, exchange).await.context("no answer in time")?
}

/// All proxy keys, once.
pub(crate) fn proxy_keys() -> Arc<Vec<String>> {
    Arc::new((0..payload::USERS).map(payload::proxy_key).collect())
}

//! Idle connections of one worker, by endpoint.
//!
//! Never shared between cores: taking and giving back is a map lookup without contention. A connection is given out
//! only if nothing has come in on it since it was put back, so a peer's goodbye is noticed before a request is written.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aiproxy_core::time::{self, Instant};
use bytes::BytesMut;

use super::io::{BoxIo, is_quiet};

/// Bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Idle connections kept per endpoint and worker. Default 512.
    pub idle_per_endpoint: usize,
    /// A connection idle for longer is closed. Below what most providers keep (60 s and more). Default 50 s.
    pub idle_timeout: Duration,
    /// A connection older than this is not used again, so that a changed address is followed. Default 5 min.
    pub max_age: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { idle_per_endpoint: 512, idle_timeout: Duration::from_secs(50), max_age: Duration::from_secs(300) }
    }
}

/// A connection to an upstream, between or during exchanges.
pub struct Connection {
    /// The byte stream.
    pub io: BoxIo,
    /// Bytes that came but were not consumed yet: a response head that is not complete.
    pub unread: BytesMut,
    /// Whether an earlier exchange was completed on it.
    pub reused: bool,
    pool_key: u64,
    opened_at: Instant,
    idle_since: Instant,
}

impl Connection {
    /// A fresh connection to the endpoint with `pool_key`.
    pub fn new(io: BoxIo, pool_key: u64) -> Self {
        let now = time::now();
        Self { io, unread: BytesMut::new(), reused: false, pool_key, opened_at: now, idle_since: now }
    }
}

/// Idle connections.
#[derive(Default)]
pub struct Pool {
    limits: PoolLimits,
    idle: Mutex<HashMap<u64, Vec<Connection>>>,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: PoolLimits) -> Self {
        Self { limits, idle: Mutex::default() }
    }

    /// The most recently used idle connection to an endpoint that is still good, if there is one.
    pub fn take(&self, pool_key: u64, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(&pool_key)?;
        while let Some(mut connection) = connections.pop() {
            let fresh = now.saturating_duration_since(connection.idle_since) < self.limits.idle_timeout
                && now.saturating_duration_since(connection.opened_at) < self.limits.max_age;
            if fresh && is_quiet(&mut *connection.io) {
                return Some(connection);
            }
        }
        None
    }

    /// Gives a connection back after a whole exchange.
    pub fn put(&self, mut connection: Connection) {
        let now = time::now();
        if !connection.unread.is_empty() || now.saturating_duration_since(connection.opened_at) >= self.limits.max_age {
            return;
        }
        connection.unread = BytesMut::new();
        connection.reused = true;
        connection.idle_since = now;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry(connection.pool_key).or_default();
        if connections.len() < self.limits.idle_per_endpoint {
            connections.push(connection);
        }
    }

    /// Closes what has been idle for too long. Called now and then by the worker.
    pub fn sweep(&self) {
        let now = time::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, connections| {
            connections.retain_mut(|connection| {
                now.saturating_duration_since(connection.idle_since) < self.limits.idle_timeout
                    && is_quiet(&mut *connection.io)
            });
            !connections.is_empty()
        });
    }

    /// How many idle connections are held to each endpoint, by its pool key.
    pub fn idle(&self) -> Vec<(u64, usize)> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.iter().map(|(pool_key, connections)| (*pool_key, connections.len())).collect()
    }

    /// How many idle connections are held.
    pub fn len(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }

    /// Whether no idle connection is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pooled(pool: &Pool) -> DuplexStream {
        let (ours, theirs) = duplex(64);
        pool.put(Connection::new(Box::new(ours), 7));
        theirs
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_connection_is_used_again_and_only_for_its_endpoint() {
        let pool = Pool::new(PoolLimits::default());
        let _peer = pooled(&pool);
        assert!(pool.take(8, time::now()).is_none());
        assert!(pool.take(7, time::now()).is_some_and(|connection| connection.reused));
        assert!(pool.take(7, time::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ended_or_spoke_unasked_is_not_used_again() {
        let pool = Pool::new(PoolLimits::default());
        drop(pooled(&pool));
        assert!(pool.take(7, time::now()).is_none());
        pooled(&pool).write_all(b"HTTP/1.1 408").await.unwrap();
        assert!(pool.take(7, time::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn age_and_idleness_end_a_connection() {
        let limits = PoolLimits { idle_per_endpoint: 1, ..PoolLimits::default() };
        let pool = Pool::new(limits);
        let _peers = (pooled(&pool), pooled(&pool));
        assert_eq!(pool.len(), 1, "the bound per endpoint holds");
        tokio::time::advance(limits.idle_timeout).await;
        pool.sweep();
        assert!(pool.is_empty());
        let _peer = pooled(&pool);
        tokio::time::advance(limits.idle_timeout).await;
        assert!(pool.take(7, time::now()).is_none());
    }
}

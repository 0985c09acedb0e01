//! Many sockets: opened, made to talk at a fixed rate, closed. The closed loop is the one of all calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::task::JoinSet;

use super::client::{BlockingSocket, Socket};
use super::conversation::Conversation;
use crate::caller::Target;
use crate::load::{Outcome, Repeated, START_DELAY, paced};

/// Handshakes, first turns and goodbyes that go on at the same time.
const AT_A_TIME: usize = 64;

/// Opens `count` sockets; each then has one turn behind it.
pub(super) async fn open(target: &Target, conversation: &Arc<Conversation>, count: usize) -> Result<Vec<Socket>> {
    let one = |number: usize| {
        let (target, conversation) = (target.clone(), Arc::clone(conversation));
        async move {
            let mut socket = Socket::open(&target, &conversation, number as u64).await?;
            socket.once(&mut Outcome::default()).await?;
            anyhow::Ok(socket)
        }
    };
    a_few_at_a_time((0..count).map(one)).await.with_context(|| format!("opening {count} sockets"))
}

/// Says goodbye on all of them.
pub(super) async fn close(sockets: Vec<Socket>) -> Result<()> {
    a_few_at_a_time(sockets.into_iter().map(Socket::close)).await.context("closing")?;
    Ok(())
}

async fn a_few_at_a_time<T: Send + 'static>(
    mut all: impl Iterator<Item = impl Future<Output = Result<T>> + Send + 'static>,
) -> Result<Vec<T>> {
    let mut tasks = JoinSet::new();
    let mut done = Vec::new();
    loop {
        while tasks.len() < AT_A_TIME
            && let Some(next) = all.next()
        {
            tasks.spawn(next);
        }
        let Some(one) = tasks.join_next().await else { return Ok(done) };
        done.push(one??);
    }
}

/// Every socket talks in a thread of its own, all together `per_second` exchanges a second (open loop), until each has
/// had so many turns.
pub(super) async fn at_rate(sockets: &mut Vec<Socket>, exchanges: u32, per_second: u32) -> Result<Outcome> {
    let blocking = sockets.drain(..).map(Socket::into_blocking).collect::<Result<Vec<_>>>()?;
    let (outcome, blocking) = tokio::task::spawn_blocking(move || threads(blocking, exchanges, per_second)).await??;
    *sockets = blocking.into_iter().map(BlockingSocket::into_async).collect::<Result<Vec<_>>>()?;
    Ok(outcome)
}

fn threads(
    mut sockets: Vec<BlockingSocket>,
    exchanges: u32,
    per_second: u32,
) -> Result<(Outcome, Vec<BlockingSocket>)> {
    let begun = Instant::now() + START_DELAY;
    let step = Duration::from_secs(1) / per_second;
    let count = sockets.len();
    let mut total = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..exchanges)
            .zip(sockets.iter_mut())
            .map(|(first, socket)| {
                let numbers = (first..exchanges).step_by(count);
                scope.spawn(move || paced(begun, step, numbers, |outcome| talk(socket, outcome)))
            })
            .collect();
        let mut total = Outcome::default();
        for thread in threads {
            total.add(thread.join().map_err(|_| anyhow!("a load thread broke off"))??);
        }
        anyhow::Ok(total)
    })?;
    total.seconds = begun.elapsed().as_secs_f64();
    Ok((total, sockets))
}

fn talk(socket: &mut BlockingSocket, outcome: &mut Outcome) -> Result<()> {
    socket.exchange()?;
    outcome.events += 2;
    Ok(())
}

//! The load: closed loop over keep-alive connections, fixed rate, and many streams at a time.
//!
//! Each returns when a fixed number of calls is done, or its time is up. Any wrong answer ends it with an error.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::task::JoinSet;

use crate::caller::{CALL_LIMIT, Connection, Script, Target};
use crate::wire::Response;

/// No measured run takes longer; what is not done by then is not begun.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// Between the decision to send at a fixed rate and the first call: time for the threads to start.
pub(crate) const START_DELAY: Duration = Duration::from_millis(20);
/// Over this long the streams of one run begin, one after the other.
const STREAM_RAMP: Duration = Duration::from_millis(400);

/// What a run did, and how long each call took in nanoseconds.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) calls: u64,
    pub(crate) events: u64,
    pub(crate) seconds: f64,
    pub(crate) latencies: Vec<u64>,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.events += other.events;
        self.latencies.extend(other.latencies);
    }
}

/// What is done again and again: a call on its connection, a turn on its socket.
pub(crate) trait Repeated: Send + 'static {
    /// Once more, noted in `outcome`.
    fn once(&mut self, outcome: &mut Outcome) -> impl Future<Output = Result<()>> + Send;
}

impl Repeated for Connection {
    async fn once(&mut self, outcome: &mut Outcome) -> Result<()> {
        let sent = Instant::now();
        let tally = self.call(|| {}).await?;
        outcome.latencies.push(nanos(sent.elapsed()));
        outcome.calls += 1;
        outcome.events += tally.events;
        Ok(())
    }
}

/// Connections that survive from the warm-up into the measured run.
pub(crate) fn connections(target: &Target, count: usize) -> Vec<Connection> {
    (0..count).map(|number| Connection::new(target, number as u64)).collect()
}

/// Every connection calls again as soon as it has its answer, until `calls` are done together.
pub(crate) async fn closed_loop(connections: &mut Vec<impl Repeated>, calls: u64) -> Result<Outcome> {
    let left = Arc::new(AtomicU64::new(calls));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections.drain(..) {
        let left = Arc::clone(&left);
        tasks.spawn(async move {
            let mut outcome = Outcome::default();
            while begun.elapsed() < RUN_LIMIT && take_one(&left) {
                connection.once(&mut outcome).await?;
            }
            anyhow::Ok((connection, outcome))
        });
    }
    let all = async {
        let mut total = Outcome::default();
        while let Some(done) = tasks.join_next().await {
            let (connection, outcome) = done??;
            connections.push(connection);
            total.add(outcome);
        }
        anyhow::Ok(total)
    };
    let mut total = tokio::time::timeout(RUN_LIMIT + CALL_LIMIT, all).await.context("a call did not end")??;
    total.seconds = begun.elapsed().as_secs_f64();
    Ok(total)
}

fn take_one(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// Calls at a fixed rate whatever the answers do (open loop), on `threads` connections in turn.
///
/// Blocking threads, because sleeping is more exact than tokio's timer of a millisecond.
fn fixed_rate(target: &Target, threads: u32, calls: u32, per_second: u32) -> Result<Outcome> {
    let begun = Instant::now() + START_DELAY;
    let step = Duration::from_secs(1) / per_second;
    let mut total = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || rate_thread(target, thread, begun, step, (threads, calls))))
            .collect();
        let mut total = Outcome::default();
        for worker in workers {
            total.add(worker.join().map_err(|_| anyhow!("a load thread broke off"))??);
        }
        anyhow::Ok(total)
    })?;
    total.seconds = begun.elapsed().as_secs_f64();
    Ok(total)
}

/// Opens what the proxy keeps open towards its upstream.
pub(crate) async fn warm_up(target: &Target, connections: u32, calls: u64) -> Result<()> {
    closed_loop(&mut self::connections(target, connections as usize), calls).await.context("warm-up")?;
    Ok(())
}

/// [`fixed_rate`] from a thread of its own.
pub(crate) async fn in_background(target: &Target, threads: u32, calls: u32, per_second: u32) -> Result<Outcome> {
    let target = target.clone();
    tokio::task::spawn_blocking(move || fixed_rate(&target, threads, calls, per_second)).await?
}

fn rate_thread(target: &Target, thread: u32, begun: Instant, step: Duration, all: (u32, u32)) -> Result<Outcome> {
    let (threads, calls) = all;
    let mut script = Script::new(target, u64::from(thread));
    let mut stream = TcpStream::connect(target.address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(CALL_LIMIT))?;
    let mut buffer = vec![0; 16 * 1024];
    paced(begun, step, (thread..calls).step_by(threads as usize), |_| {
        stream.write_all(script.next())?;
        let mut response = Response::default();
        loop {
            let read = stream.read(&mut buffer)?;
            ensure!(read > 0, "the connection was closed before the answer was complete");
            if response.feed(&buffer[..read])? {
                return target.expected.verify(&response.tally);
            }
        }
    })
}

/// Does `call` for each of `numbers`, which is due so many steps after `begun`. A call that was due while the one before
/// had not ended counts from when it was due, so that a stall is charged to every call that it delayed (coordinated
/// omission); a thread that merely overslept counts from when it woke.
pub(crate) fn paced(
    begun: Instant,
    step: Duration,
    numbers: impl Iterator<Item = u32>,
    mut call: impl FnMut(&mut Outcome) -> Result<()>,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for number in numbers {
        let due = begun + step * number;
        let early = due.saturating_duration_since(Instant::now());
        let counted_from = if early.is_zero() {
            due
        } else {
            std::thread::sleep(early);
            Instant::now()
        };
        call(&mut outcome)?;
        outcome.latencies.push(nanos(counted_from.elapsed()));
        outcome.calls += 1;
        ensure!(begun.elapsed() < RUN_LIMIT, "the proxy cannot follow the rate");
    }
    Ok(outcome)
}

/// `count` streams, all open at the same time; `sample` is called every 50 ms with how many have begun and not ended.
pub(crate) async fn streams(target: &Target, count: usize, mut sample: impl FnMut(u64)) -> Result<Outcome> {
    let open = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, mut connection) in connections(target, count).into_iter().enumerate() {
        let open = Arc::clone(&open);
        let delay = STREAM_RAMP.mul_f64(number as f64 / count as f64);
        tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            let sent = Instant::now();
            let mut first_byte = Duration::ZERO;
            let tally = connection
                .call(|| {
                    first_byte = sent.elapsed();
                    open.fetch_add(1, Ordering::Relaxed);
                })
                .await?;
            open.fetch_sub(1, Ordering::Relaxed);
            anyhow::Ok(Outcome { calls: 1, events: tally.events, latencies: vec![nanos(first_byte)], seconds: 0.0 })
        });
    }
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let mut total = Outcome::default();
    while !tasks.is_empty() {
        tokio::select! {
            _ = tick.tick() => sample(open.load(Ordering::Relaxed)),
            Some(done) = tasks.join_next() => total.add(done??),
        }
        ensure!(begun.elapsed() < RUN_LIMIT, "the streams did not end");
    }
    total.seconds = begun.elapsed().as_secs_f64();
    Ok(total)
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! The only place that reads a clock.
//!
//! Both clocks follow tokio's, so that a test which pauses time (`tokio::time::pause`) moves them too.

use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;
pub use tokio::time::Instant;

/// The monotonic clock: for durations and deadlines.
pub fn now() -> Instant {
    Instant::now()
}

/// A point of the monotonic clock together with the wall clock read at the same moment.
struct Anchor {
    instant: Instant,
    unix: Duration,
}

/// The wall clock, in whole milliseconds since 1970-01-01 UTC.
///
/// Reads the operating system each time: it must follow a clock that is set right while the gateway runs. Under a paused
/// test clock it advances with that clock instead.
pub fn unix_ms() -> u64 {
    if cfg!(debug_assertions) { paused_unix_ms() } else { system_unix().as_millis() as u64 }
}

/// The wall clock as a timestamp.
pub fn timestamp() -> Timestamp {
    Timestamp::from_millisecond(unix_ms() as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[expect(clippy::disallowed_methods, reason = "this module is the time source")]
fn system_unix() -> Duration {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn paused_unix_ms() -> u64 {
    static ANCHOR: OnceLock<Anchor> = OnceLock::new();
    let anchor = ANCHOR.get_or_init(|| Anchor { instant: now(), unix: system_unix() });
    (anchor.unix + now().saturating_duration_since(anchor.instant)).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_advances_with_a_paused_clock() {
        let before = unix_ms();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(unix_ms() - before, 60_000);
    }
}

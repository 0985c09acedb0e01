//! How many calls may be sent a second time. An upstream that is down must not be asked twice as often as one that is
//! up: further attempts are a share of calls, with a floor so that a quiet gateway may always retry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aiproxy_config::snapshot::RetryBudget as Settings;
use aiproxy_core::time::{self, Instant};

/// Seconds of allowance that can be saved up.
const SAVED_SECONDS: f64 = 10.0;

/// The budget of the process.
#[derive(Debug, Default)]
pub(crate) struct RetryBudget {
    /// Calls that came since somebody last looked at the account.
    calls: AtomicU64,
    account: Mutex<Option<Account>>,
}

#[derive(Debug)]
struct Account {
    balance: f64,
    at: Instant,
}

impl RetryBudget {
    /// A call came: it brings its share.
    pub(crate) fn deposit(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a call may be sent a second time.
    pub(crate) fn withdraw(&self, settings: &Settings) -> bool {
        let now = time::now();
        let floor = settings.per_second * SAVED_SECONDS;
        // Calls of the last seconds may save up more than the floor, but not without end.
        let most = floor.max(1_000.0 * settings.share);
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let account = account.get_or_insert(Account { balance: floor, at: now });
        let passed = now.saturating_duration_since(account.at).as_secs_f64();
        account.at = now;
        if account.balance < floor {
            account.balance = (account.balance + passed * settings.per_second).min(floor);
        }
        let shares = self.calls.swap(0, Ordering::Relaxed) as f64 * settings.share;
        account.balance = (account.balance + shares).min(most.max(account.balance));
        let may = account.balance >= 1.0;
        if may {
            account.balance -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_quiet_gateway_may_retry_and_a_storm_may_not() {
        let settings = Settings { share: 0.2, per_second: 10.0 };
        let budget = RetryBudget::default();
        let granted = (0..1_000).filter(|_| budget.withdraw(&settings)).count();
        assert_eq!(granted, 100, "ten seconds' worth at once");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..1_000).filter(|_| budget.withdraw(&settings)).count(), 10);
        for _ in 0..500 {
            budget.deposit();
        }
        assert_eq!((0..1_000).filter(|_| budget.withdraw(&settings)).count(), 100, "a fifth of five hundred calls");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_nothing() {
        let settings = Settings { share: 0.0, per_second: 0.0 };
        let budget = RetryBudget::default();
        budget.deposit();
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(!budget.withdraw(&settings));
    }
}

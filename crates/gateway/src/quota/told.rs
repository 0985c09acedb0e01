//! What is said of quotas that are used up: to the log once in each period, to the caller with each answer.

use aiproxy_config::snapshot::{Quota, QuotaUnit, Scope};

use super::{Over, When};

/// Which quotas of one entity were reported, and in which period. As many as there are kinds of quotas, at most.
#[derive(Debug, Default)]
pub(super) struct Told(Vec<(Quota, i64)>);

impl Told {
    /// Whether this was not said yet of the period that began at `start`. From now on it was.
    pub(super) fn is_news(&mut self, quota: &Quota, start: i64) -> bool {
        let kind = |quota: &Quota| (quota.unit, quota.per, quota.soft);
        match self.0.iter_mut().find(|(told, _)| kind(told) == kind(quota)) {
            Some(told) if *told == (*quota, start) => false,
            Some(told) => {
                *told = (*quota, start);
                true
            }
            None => {
                self.0.push((*quota, start));
                true
            }
        }
    }
}

/// Tells the log, if it does not know.
pub(super) fn event(scope: Scope, id: &str, over: &Over, when: &When<'_>) {
    if !over.is_news {
        return;
    }
    let Quota { unit, per, amount, soft } = over.quota;
    tracing::warn!(
        scope = scope.as_str(),
        id,
        unit = unit.as_str(),
        per = per.as_str(),
        amount,
        used = over.used,
        resets = when.resets(per).map(tracing::field::display),
        "{}",
        if soft { "a soft quota is used up; calls go on" } else { "a quota is used up; calls are refused" }
    );
}

/// What the caller is told of a soft quota: `key tokens/month 120% of 1000000`. Nothing of channels and credentials,
/// which are not the caller's.
pub(super) fn warn(warning: &mut String, scope: Scope, over: &Over) {
    if matches!(scope, Scope::Channel | Scope::Credential) {
        return;
    }
    let Quota { unit, per, amount, .. } = over.quota;
    let separator = if warning.is_empty() { "" } else { ", " };
    let percent = u128::from(over.used) * 100 / u128::from(amount.max(1));
    let (scope, per, of) = (scope.as_str(), per.as_str(), say_amount(unit, amount));
    warning.push_str(&format!("{separator}{scope} {}/{per} {percent}% of {of}", unit.as_str()));
}

/// An amount as people write it: money in whole units with as many decimals as it needs.
pub(crate) fn say_amount(unit: QuotaUnit, amount: u64) -> String {
    if unit != QuotaUnit::Cost {
        return amount.to_string();
    }
    let text = format!("{}.{:06}", amount / 1_000_000, amount % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use aiproxy_config::snapshot::QuotaPeriod;

    use super::*;

    fn quota(amount: u64) -> Quota {
        Quota { unit: QuotaUnit::Tokens, per: QuotaPeriod::Month, amount, soft: true }
    }

    #[test]
    fn a_quota_is_news_once_in_each_period_and_again_when_it_was_changed() {
        let mut told = Told::default();
        let mut is_news = |quota: Quota, start| told.is_news(&quota, start);
        assert!(is_news(quota(5), 1));
        assert!(!is_news(quota(5), 1));
        assert!(is_news(Quota { soft: false, ..quota(5) }, 1));
        assert!(!is_news(quota(5), 1), "another kind does not matter");
        assert!(is_news(quota(6), 1));
        assert!(is_news(quota(6), 2));
        assert!(!is_news(quota(6), 2));
        assert_eq!(told.0.len(), 2);
    }

    #[test]
    fn callers_are_told_of_their_own_quotas() {
        let over = |quota, used| Over { quota, used, is_used_up: true, is_news: false };
        let mut warning = String::new();
        warn(&mut warning, Scope::Channel, &over(quota(5), 5));
        warn(&mut warning, Scope::Credential, &over(quota(5), 5));
        assert_eq!(warning, "");
        warn(&mut warning, Scope::Key, &over(quota(1_000_000), 1_209_999));
        let cost = Quota { unit: QuotaUnit::Cost, per: QuotaPeriod::Total, ..quota(12_500_000) };
        warn(&mut warning, Scope::Department, &over(cost, u64::MAX));
        assert_eq!(warning, "key tokens/month 120% of 1000000, department cost/total 147573952589676% of 12.5");
    }

    #[test]
    fn money_is_written_as_people_write_it() {
        let say = |amount| say_amount(QuotaUnit::Cost, amount);
        assert_eq!([1, 500_000, 5_000_000, 10_000_001].map(say), ["0.000001", "0.5", "5", "10.000001"]);
        assert_eq!(say(u64::MAX), "18446744073709.551615");
        assert_eq!(say_amount(QuotaUnit::Tokens, 1_000_000), "1000000");
    }
}

//! What one currency is worth in another: fixed rates, so that a sum of costs means something and stays what it was.

use super::decimal::scaled;

/// What a currency must look like.
pub const CURRENCY_EXPECTED: &str = "a currency is three capital letters, e.g. `USD`";

/// One, in the unit of rates.
pub(super) const ONE: u64 = 1_000_000_000;

/// What one unit of a currency is worth in the currency of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Three capital letters.
    pub currency: Box<str>,
    /// Its worth in billionths of one unit of the table's currency; never 0.
    pub nano: u64,
    /// The day of the rate; `None` for one of the config, or one that was derived.
    pub as_of: Option<Box<str>>,
    /// Where it was read.
    pub source: Option<Box<str>>,
}

impl Rate {
    /// The largest worth that can be written.
    const LARGEST: u64 = 1_000_000_000;

    /// A rate as it is written, to nine decimals, rounded half up. `None` unless it is more than 0 and at most
    /// 1,000,000,000.
    #[must_use]
    pub fn written(currency: &str, worth: f64) -> Option<Self> {
        let nano = scaled(worth, ONE).filter(|nano| (1..=Self::LARGEST * ONE).contains(nano))?;
        Some(Self { currency: currency.into(), nano, as_of: None, source: None })
    }
}

/// A currency that rows are in, and for which there is no rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRate {
    /// The currency.
    pub currency: Box<str>,
    /// Index of the first of the added rows that is in it; `None` if it is a row of the table itself.
    pub added_row: Option<usize>,
}

/// Whether `text` is a currency's code, as ISO 4217 has them.
#[must_use]
pub fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// The rates of a table, in its own currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) currency: Box<str>,
    pub(super) list: Vec<Rate>,
}

impl Rates {
    /// What one unit of `currency` is worth, in billionths.
    pub(super) fn of(&self, currency: &str) -> Option<u64> {
        if *self.currency == *currency {
            return Some(ONE);
        }
        self.list.iter().find(|rate| *rate.currency == *currency).map(|rate| rate.nano)
    }

    /// The same in another currency: as `written` says; what it does not say is derived, through the old currency.
    pub(super) fn into(self, currency: &str, written: &[Rate]) -> Self {
        let mut list = written.to_vec();
        let is_same = *self.currency == *currency;
        let written = |name: &str| written.iter().find(|rate| *rate.currency == *name).map(|rate| rate.nano);
        // What the old currency is worth in the new one.
        let step = if is_same {
            Some(ONE)
        } else {
            written(&self.currency).or_else(|| divide(u128::from(ONE) * u128::from(ONE), self.of(currency)?))
        };
        let old = Rate { currency: self.currency.clone(), nano: ONE, as_of: None, source: None };
        for rate in self.list.into_iter().chain([old]) {
            if *rate.currency == *currency || written(&rate.currency).is_some() {
                continue;
            }
            if is_same {
                list.push(rate);
            } else if let Some(nano) = step.and_then(|step| divide(u128::from(rate.nano) * u128::from(step), ONE)) {
                list.push(Rate { nano, as_of: None, source: None, ..rate });
            }
        }
        Self { currency: currency.into(), list }
    }
}

/// Rounded half up; `None` where that is nothing or too much.
fn divide(dividend: u128, divisor: u64) -> Option<u64> {
    let divisor = u128::from(divisor);
    let quotient = (dividend + divisor / 2).checked_div(divisor)?;
    u64::try_from(quotient).ok().filter(|quotient| *quotient > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_to_nine_decimals() {
        let nano = |worth| Rate::written("CNY", worth).map(|rate| rate.nano);
        assert_eq!(nano(0.139), Some(139_000_000));
        assert_eq!(nano(0.000_039), Some(39_000));
        assert_eq!(nano(1e9), Some(ONE * ONE));
        for wrong in [0.0, 1e-10, -1.0, 1_000_000_001.0, f64::NAN] {
            assert_eq!(nano(wrong), None, "{wrong}");
        }
    }

    fn rate(currency: &str, nano: u64) -> Rate {
        Rate { currency: currency.into(), nano, as_of: None, source: None }
    }

    fn dollars() -> Rates {
        Rates { currency: "USD".into(), list: vec![rate("CNY", 125_000_000), rate("EUR", 1_250_000_000)] }
    }

    #[test]
    fn a_rate_of_the_config_goes_before_that_of_the_table() {
        let rates = dollars().into("USD", &[rate("CNY", 140_000_000)]);
        assert_eq!(rates.of("USD"), Some(ONE));
        assert_eq!(rates.of("CNY"), Some(140_000_000));
        assert_eq!(rates.of("EUR"), Some(1_250_000_000));
        assert_eq!(rates.of("JPY"), None);
    }

    #[test]
    fn another_currency_is_reached_through_the_old_one() {
        let derived = dollars().into("CNY", &[]);
        assert_eq!(derived.of("CNY"), Some(ONE));
        assert_eq!(derived.of("USD"), Some(8 * ONE));
        assert_eq!(derived.of("EUR"), Some(10 * ONE));

        let written = dollars().into("JPY", &[rate("USD", 150 * ONE)]);
        assert_eq!(written.of("USD"), Some(150 * ONE));
        assert_eq!(written.of("CNY"), Some(18_750_000_000));

        let unknown = dollars().into("JPY", &[]);
        assert_eq!((unknown.of("JPY"), unknown.of("USD"), unknown.of("CNY")), (Some(ONE), None, None));
    }

    #[test]
    fn no_rate_overflows_or_becomes_nothing() {
        let rates = Rates { currency: "USD".into(), list: vec![rate("AAA", u64::MAX), rate("BBB", 1)] };
        assert_eq!(rates.clone().into("AAA", &[]).of("USD"), None);
        assert_eq!(rates.clone().into("CCC", &[rate("USD", u64::MAX)]).of("AAA"), None);
        assert_eq!(rates.into("CCC", &[rate("USD", 1)]).of("BBB"), None);
    }
}

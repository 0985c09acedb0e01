//! Numbers as providers write them, into exact integers; what cannot be a count is refused and remembered.

use serde::Serialize;

/// More than this of anything in one call is a mistake, not a count: a million million.
const ABSURD: u64 = 1_000_000_000_000;

/// What was wrong with a usage report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageFlaw {
    /// A number below zero; it was left out.
    Negative,
    /// A number above 10^12; it was left out.
    Absurd,
    /// Something that is not a whole number where one belongs; it was left out.
    NotACount,
    /// A part larger than its whole, as more cached tokens than input; the part was left out.
    Inconsistent,
    /// The report is not a JSON object that can be read.
    Unreadable,
    /// The report was too large to be kept.
    TooLarge,
}

impl UsageFlaw {
    /// The name used in records and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Negative => "negative",
            Self::Absurd => "absurd",
            Self::NotACount => "not_a_count",
            Self::Inconsistent => "inconsistent",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
        }
    }
}

/// A number in its raw JSON text, which is exact.
pub(super) type Raw<'a> = Option<&'a [u8]>;

/// Reads numbers and collects flaws.
pub(super) struct Reader {
    flaws: Vec<UsageFlaw>,
}

impl Reader {
    pub(super) fn new(flaws: Vec<UsageFlaw>) -> Self {
        Self { flaws }
    }

    pub(super) fn into_flaws(self) -> Vec<UsageFlaw> {
        self.flaws
    }

    /// A whole number. `5.0` is one, as Cohere writes it.
    pub(super) fn count(&mut self, raw: Raw<'_>) -> Option<u64> {
        let raw = raw.filter(|raw| *raw != b"null")?;
        let (value, fraction) = self.decimal(raw, 1)?;
        if fraction {
            return self.refuse(UsageFlaw::NotACount);
        }
        Some(value)
    }

    /// Seconds, with or without a fraction, as milliseconds; a finer fraction is rounded up, as bills are.
    pub(super) fn milliseconds(&mut self, raw: Raw<'_>) -> Option<u64> {
        let raw = raw.filter(|raw| *raw != b"null")?;
        let (value, fraction) = self.decimal(raw, 1000)?;
        Some(value + u64::from(fraction))
    }

    pub(super) fn sum(&mut self, parts: &[Option<u64>]) -> Option<u64> {
        let mut present = parts.iter().flatten().peekable();
        present.peek()?;
        let total = present.fold(0_u64, |total, part| total.saturating_add(*part));
        if total > ABSURD { self.refuse(UsageFlaw::Absurd) } else { Some(total) }
    }

    /// `raw` times `scale`, rounded down, and whether anything was cut off.
    fn decimal(&mut self, raw: &[u8], scale: u64) -> Option<(u64, bool)> {
        if raw.first() == Some(&b'-') {
            let is_zero = raw[1..].iter().all(|byte| matches!(byte, b'0' | b'.'));
            return if is_zero { Some((0, false)) } else { self.refuse(UsageFlaw::Negative) };
        }
        let text = raw.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
        if text.len() != raw.len() {
            return self.exponent(raw, scale);
        }
        let mut parts = text.splitn(2, |byte| *byte == b'.');
        let whole = parts.next().unwrap_or_default();
        let fraction = parts.next().unwrap_or_default();
        if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return self.refuse(UsageFlaw::NotACount);
        }
        let mut value = digits(whole).and_then(|whole| whole.checked_mul(scale));
        let mut unit = scale;
        let mut cut = false;
        for digit in fraction {
            unit /= 10;
            let digit = u64::from(digit - b'0');
            cut |= unit == 0 && digit != 0;
            value = value.and_then(|value| value.checked_add(digit * unit));
        }
        match value {
            Some(value) if value <= ABSURD.saturating_mul(scale) => Some((value, cut)),
            _ => self.refuse(UsageFlaw::Absurd),
        }
    }

    /// `1.5e3`: nobody writes counts so, but JSON allows it. Exact up to 2^53, which is above what is accepted.
    fn exponent(&mut self, raw: &[u8], scale: u64) -> Option<(u64, bool)> {
        let parsed = std::str::from_utf8(raw).ok().and_then(|text| text.parse::<f64>().ok());
        let Some(value) = parsed else { return self.refuse(UsageFlaw::NotACount) };
        let scaled = value * scale as f64;
        if !scaled.is_finite() || scaled > (ABSURD as f64) * (scale as f64) {
            return self.refuse(UsageFlaw::Absurd);
        }
        Some((scaled as u64, scaled.fract() != 0.0))
    }

    /// A part of `whole`, unless together with what the other parts take it is more than that. A part of nothing known
    /// is taken as it is.
    pub(super) fn part(&mut self, part: Option<u64>, taken: Option<u64>, whole: Option<u64>) -> Option<u64> {
        let (Some(size), Some(whole)) = (part, whole) else { return part };
        if size.saturating_add(taken.unwrap_or(0)) > whole { self.refuse(UsageFlaw::Inconsistent) } else { part }
    }

    fn refuse<T>(&mut self, flaw: UsageFlaw) -> Option<T> {
        if !self.flaws.contains(&flaw) {
            self.flaws.push(flaw);
        }
        None
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(raw: &str) -> (Option<u64>, Vec<UsageFlaw>) {
        let mut reader = Reader::new(Vec::new());
        (reader.count(Some(raw.as_bytes())), reader.into_flaws())
    }

    #[test]
    fn counts_are_exact_or_refused() {
        assert_eq!(count("0"), (Some(0), vec![]));
        assert_eq!(count("12.0"), (Some(12), vec![]));
        assert_eq!(count("1.2e1"), (Some(12), vec![]));
        assert_eq!(count("null"), (None, vec![]));
        assert_eq!(count("1000000000000"), (Some(1_000_000_000_000), vec![]));
        assert_eq!(count("1e12"), (Some(1_000_000_000_000), vec![]));
        assert_eq!(count("1000000000001"), (None, vec![UsageFlaw::Absurd]));
        assert_eq!(count("18446744073709551616"), (None, vec![UsageFlaw::Absurd]));
        assert_eq!(count("99999999999999999999999"), (None, vec![UsageFlaw::Absurd]));
        assert_eq!(count("1e400"), (None, vec![UsageFlaw::Absurd]));
        assert_eq!(count("-1"), (None, vec![UsageFlaw::Negative]));
        assert_eq!(count("-1e400"), (None, vec![UsageFlaw::Negative]));
        assert_eq!(count("-Infinity"), (None, vec![UsageFlaw::Negative]));
        assert_eq!(count("-0.0"), (Some(0), vec![]));
        for raw in ["1.5", "1e-3", "\"12\"", "\"NaN\"", "NaN", "Infinity", "true", "{}", "[1]", "1.2.3", "", "e", "1e"]
        {
            assert_eq!(count(raw), (None, vec![UsageFlaw::NotACount]), "{raw}");
        }
    }

    #[test]
    fn flaws_have_the_names_that_records_have() {
        for flaw in [
            UsageFlaw::Negative,
            UsageFlaw::Absurd,
            UsageFlaw::NotACount,
            UsageFlaw::Inconsistent,
            UsageFlaw::Unreadable,
            UsageFlaw::TooLarge,
        ] {
            assert_eq!(serde_json::to_value(flaw).unwrap(), flaw.as_str());
        }
    }

    #[test]
    fn seconds_become_milliseconds() {
        let mut reader = Reader::new(Vec::new());
        for (raw, expected) in [("5", 5000), ("3.7", 3700), ("0.0001", 1), ("1.2345", 1235), ("2e0", 2000)] {
            assert_eq!(reader.milliseconds(Some(raw.as_bytes())), Some(expected), "{raw}");
        }
        assert!(reader.into_flaws().is_empty());
    }
}

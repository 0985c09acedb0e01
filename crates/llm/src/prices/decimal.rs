//! Prices as people write them, into integers without a float's error.

/// `value` times `scale`, a power of ten, as a whole number, rounded half up. `None` if it is negative, not a number,
/// or too large.
///
/// The shortest decimal text that means the float is the one that was written, as long as that had no more than 15
/// significant digits. That text is what is read here, so `0.1` is a tenth and not the float nearest to it.
pub(super) fn scaled(value: f64, scale: u64) -> Option<u64> {
    if !value.is_finite() || value < 0.0 {
        return None;
    }
    let text = value.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut total = whole.trim_start_matches('-').parse::<u64>().ok()?.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.bytes() {
        let digit = u64::from(digit.wrapping_sub(b'0'));
        if unit == 1 {
            // The first digit that does not count any more decides; those after it cannot change it.
            return total.checked_add(u64::from(digit >= 5));
        }
        unit /= 10;
        total = total.checked_add(digit.checked_mul(unit)?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micro_from(value: f64) -> Option<u64> {
        scaled(value, 1_000_000)
    }

    #[test]
    fn what_is_written_is_meant_exactly() {
        for (written, expected) in [
            ("0.1", 100_000),
            ("0.3", 300_000),
            ("2.675", 2_675_000),
            ("1.1", 1_100_000),
            ("0.000001", 1),
            ("4.35", 4_350_000),
            ("-0.0", 0),
            ("1e-6", 1),
            ("1e3", 1_000_000_000),
            ("0.0000005", 1),
            ("0.00000049", 0),
            ("0.0000014", 1),
            ("123456.789012", 123_456_789_012),
        ] {
            assert_eq!(micro_from(written.parse().unwrap()), Some(expected), "{written}");
        }
        // Summed as floats these would be 0.30000000000000004.
        assert_eq!(micro_from(0.1).unwrap() + micro_from(0.2).unwrap(), micro_from(0.3).unwrap());
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for wrong in [-1.0, f64::NAN, f64::INFINITY, 1e19, f64::MAX] {
            assert_eq!(micro_from(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_micro_amount_survives_being_written(micro in 0_u64..1_000_000_000_000_000) {
            let text = format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000);
            assert_eq!(micro_from(text.parse().unwrap()), Some(micro), "{text}");
        }

        #[test]
        fn no_float_panics(value: f64, exponent in 0_u32..13) {
            scaled(value, 10_u64.pow(exponent));
        }
    }
}

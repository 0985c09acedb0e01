//! The log-scale histogram that latencies are kept in: which bin a duration falls into, and what a bin stands for.
//!
//! Eight bins per doubling: `bin = floor(8 * log2(microseconds))`. Bins of any number of hours, series and instances
//! add up in plain SQL, which no percentile does. A bin is 9 % wide and [`bin_value`] is its middle, so a percentile
//! read from the histogram is within 4.5 % of the exact one (plus half a microsecond of rounding).

/// The highest bin: about 2.2 years. Longer durations are counted there.
pub const HIGHEST_BIN: i16 = 8 * 46 + 7;

/// 2^(63 + k/8) for k = 1 to 7, rounded up: where within a doubling the next bin begins.
const STEPS: [u64; 7] = [
    0x8b95_c1e3_ea8b_d6e7,
    0x9837_f051_8db8_a970,
    0xa5fe_d6a9_b151_38eb,
    0xb504_f333_f9de_6485,
    0xc567_2a11_5506_dade,
    0xd744_fcca_d69d_6af5,
    0xeac0_c6e7_dd24_392f,
];

/// The bin of a duration in microseconds. Zero counts as one microsecond. Exact: no floating point is involved.
#[must_use]
pub fn bin_of(us: u64) -> i16 {
    let us = us.max(1);
    let doublings = us.ilog2();
    let mantissa = us << (63 - doublings);
    let step = STEPS.iter().filter(|step| mantissa >= **step).count();
    // At most 8 * 63 + 7.
    ((8 * doublings as usize + step) as i16).min(HIGHEST_BIN)
}

/// The duration in microseconds that a bin stands for: its geometric middle, at most 4.5 % (and half a microsecond)
/// away from anything in it. Bins outside of 0 to [`HIGHEST_BIN`] count as the nearest.
#[must_use]
pub fn bin_value(bin: i16) -> u64 {
    let bin = f64::from(bin.clamp(0, HIGHEST_BIN));
    ((bin + 0.5) / 8.0).exp2().round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_doubling_has_eight_bins() {
        assert_eq!([0, 1, 2, 4, 1024].map(bin_of), [0, 0, 8, 16, 80]);
        assert_eq!([1_000_000, 1_090_508].map(bin_of), [159, 160]);
        assert_eq!(bin_of(u64::MAX), HIGHEST_BIN);
        assert_eq!([bin_value(-1), bin_value(0), bin_value(80)], [1, 1, 1069]);
        assert_eq!(bin_value(i16::MAX), bin_value(HIGHEST_BIN));
    }

    proptest! {
        #[test]
        fn a_bin_is_within_four_and_a_half_percent_of_what_it_holds(us in 1_u64..1 << 46) {
            let error = bin_value(bin_of(us)).abs_diff(us) as f64;
            prop_assert!(error <= us as f64 * 0.0443 + 0.5, "{us}: {error}");
        }

        #[test]
        fn longer_is_never_in_a_lower_bin(one: u64, other: u64) {
            prop_assert_eq!(bin_of(one.min(other)) <= bin_of(one.max(other)), true);
        }
    }
}

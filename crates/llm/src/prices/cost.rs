//! The arithmetic: a row's prices and a usage to an amount.
//!
//! - Input and output are split into their parts, which have prices of their own or that of the whole. Parts that
//!   together exceed the whole overlap (a cached token that is audio): they are taken in the order cached, cache write,
//!   audio, image, until the whole is used up. A part that alone exceeds it was counted apart, and is the whole.
//! - Everything the row has a price for is charged, and added up. Tokens, characters, seconds, images and videos
//!   measure the same work in several ways: what the row has no price for is then another measure of what it charges.
//!   So a transcription is charged by seconds, by tokens, or by both, as the row says, and never by guess.
//! - If nothing of what was reported has a price, the call is unpriced. So it is where the row has prices of tokens but
//!   none for some that were used, and where searches were made that have none.
//! - One rounding, at the end, half up.

use crate::usage::Usage;

use super::rate::ONE;
use super::{Cost, PriceRow, Unit, UnitPrices};

/// Counts are kept in thousandths, as time is.
const MILLI: u128 = 1_000;

/// From thousandths of a unit and prices per million to micro-units.
const SCALE: u128 = MILLI * 1_000_000;

/// What `usage` costs at the prices of `row`, one unit of whose currency is worth `rate` billionths of the table's.
pub(super) fn cost(row: &PriceRow, rate: u64, usage: Option<&Usage>) -> Cost {
    let mut bill = Bill { prices: &row.prices, total: 0, measured: false, unmeasured: false, missing: false };
    let Some(usage) = usage.filter(|usage| !usage.is_empty()) else {
        bill.add_request();
        return if bill.measured { bill.amount(rate) } else { Cost::Unpriced };
    };
    let cache_write = usage.cache_write.max(usage.cache_write_long);
    let input = Split::of(usage.input, [usage.cached, cache_write, usage.audio_input, usage.image_input]);
    let output = Split::of(usage.output, [usage.reasoning, usage.audio_output, usage.image_output]);
    bill.prices = prices_at(row, input.whole);
    bill.add_tokens(&input, &output, usage.cache_write_long.unwrap_or(0));
    for (unit, count) in [(Unit::Image, usage.image), (Unit::Video, usage.video), (Unit::Characters, usage.characters)]
    {
        bill.add_measure(unit, u128::from(count.unwrap_or(0)) * MILLI);
    }
    bill.add_measure(Unit::Seconds, u128::from(usage.seconds_ms.unwrap_or(0)));
    bill.add(Unit::Searches, usage.searches.unwrap_or(0));
    bill.add_request();
    bill.amount(rate)
}

/// The prices of a call with so many input tokens.
fn prices_at(row: &PriceRow, input: u64) -> &UnitPrices {
    let tier = row.tiers.iter().rev().find(|tier| tier.from_input_tokens <= input);
    tier.map_or(&row.prices, |tier| &tier.prices)
}

/// A number of tokens, and how many of them are of which kind.
struct Split<const PARTS: usize> {
    whole: u64,
    parts: [u64; PARTS],
    rest: u64,
}

impl<const PARTS: usize> Split<PARTS> {
    fn of(whole: Option<u64>, parts: [Option<u64>; PARTS]) -> Self {
        let parts = parts.map(|part| part.unwrap_or(0));
        let whole = parts.iter().copied().fold(whole.unwrap_or(0), u64::max);
        let mut rest = whole;
        let parts = parts.map(|part| {
            let taken = part.min(rest);
            rest -= taken;
            taken
        });
        Self { whole, parts, rest }
    }
}

struct Bill<'row> {
    prices: &'row UnitPrices,
    /// Micro-units per million times thousandths.
    total: u128,
    /// Something that was used has a price.
    measured: bool,
    /// Something that was used has none, which is well if something else has.
    unmeasured: bool,
    /// Something was used that must have a price and has none.
    missing: bool,
}

impl Bill<'_> {
    fn add_tokens(&mut self, input: &Split<4>, output: &Split<3>, cache_write_long: u64) {
        if !self.prices.has_tokens() {
            self.unmeasured |= input.whole > 0 || output.whole > 0;
            return;
        }
        let [cached, cache_write, audio_input, image_input] = input.parts;
        let [reasoning, audio_output, image_output] = output.parts;
        let cache_write_long = cache_write_long.min(cache_write);
        for (unit, count) in [
            (Unit::Input, input.rest),
            (Unit::Cached, cached),
            (Unit::CacheWrite, cache_write - cache_write_long),
            (Unit::CacheWriteLong, cache_write_long),
            (Unit::AudioInput, audio_input),
            (Unit::ImageInput, image_input),
            (Unit::Output, output.rest),
            (Unit::Reasoning, reasoning),
            (Unit::AudioOutput, audio_output),
            (Unit::ImageOutput, image_output),
        ] {
            self.add(unit, count);
        }
    }

    /// Something that must have a price if there is any of it.
    fn add(&mut self, unit: Unit, count: u64) {
        if count == 0 {
            return;
        }
        match self.prices.of(unit) {
            Some(price) => self.charge(price, u128::from(count) * MILLI),
            None => self.missing = true,
        }
    }

    /// Something that may be another measure of what has a price.
    fn add_measure(&mut self, unit: Unit, milli: u128) {
        match self.prices.get(unit) {
            _ if milli == 0 => {}
            Some(price) => self.charge(price, milli),
            None => self.unmeasured = true,
        }
    }

    fn add_request(&mut self) {
        if let Some(price) = self.prices.get(Unit::Request) {
            self.charge(price, MILLI);
        }
    }

    fn charge(&mut self, price: u64, milli: u128) {
        self.measured = true;
        self.total = self.total.saturating_add(u128::from(price).saturating_mul(milli));
    }

    /// Whatever saturates on the way is more than an `i64` holds, so that the end is the largest one.
    fn amount(&self, rate: u64) -> Cost {
        if self.missing || self.unmeasured && !self.measured {
            return Cost::Unpriced;
        }
        // The usual currency needs no wide division.
        let (total, scale) = match rate {
            ONE => (self.total, SCALE),
            rate => (self.total.saturating_mul(u128::from(rate)), SCALE * u128::from(ONE)),
        };
        let micro = total.saturating_add(scale / 2) / scale;
        Cost::Priced(i64::try_from(micro).unwrap_or(i64::MAX))
    }
}

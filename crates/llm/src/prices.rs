//! What a call costs: a table of prices per model, and the arithmetic from a `Usage` to money in whole micro-units.
//!
//! The shipped table is data with its date and source per row; a config replaces or overrides it. Everything here is
//! integers, so that the same usage costs the same to the unit wherever and whenever it is priced again. Knows no
//! clock: a price that changes with the hour of the day has one row, and says so in its note.

mod cost;
mod decimal;
mod file;
mod find;
mod glob;
mod name;
mod rate;
mod table;
mod unit;

#[cfg(test)]
mod tests;

pub use file::TableFlaw;
pub use rate::{CURRENCY_EXPECTED, MissingRate, Rate, is_currency};
pub use table::{PriceTable, Settings};
pub use unit::{Unit, UnitPrices};

/// Who sells at a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seller {
    /// One channel, by its id: an override of the config.
    Channel(Box<str>),
    /// Everybody: an override of the config without a channel.
    Everyone,
    /// A kind of provider, as the config names channels' kinds: `openai`, `anthropic`, `gemini`, `dashscope`…
    Family(Box<str>),
}

/// What one model costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRow {
    /// Who sells at this price.
    pub seller: Seller,
    /// The model's name, or a pattern in which `*` stands for any text. A name without its date stands for its dated
    /// snapshots too, unless they have a row of their own.
    pub model: Box<str>,
    /// What the prices are in: three capital letters.
    pub currency: Box<str>,
    /// The prices of calls below the first tier.
    pub prices: UnitPrices,
    /// Prices by the length of the input, which then hold for the whole call. Ascending.
    pub tiers: Box<[Tier]>,
    /// The day on which the price was known to hold, `2026-11-20`. `None` for a row of the config.
    pub as_of: Option<Box<str>>,
    /// Where it was read. `None` for a row of the config.
    pub source: Option<Box<str>>,
    /// What the row leaves out or assumes.
    pub note: Option<Box<str>>,
}

/// Other prices for a call with a long input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The least number of input tokens, cached ones included, of a call that costs this.
    pub from_input_tokens: u64,
    /// Every price of such a call: what the tier does not say is as in the row itself.
    pub prices: UnitPrices,
}

/// What a call cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Micro-units of the table's currency: 1,000,000 are one dollar, where that is the currency. Never negative.
    Priced(i64),
    /// Nobody knows: the model has no price, what was used has none, or the usage is not known. Not the same as free.
    Unpriced,
}

impl Cost {
    /// The micro-units, if they are known.
    #[must_use]
    pub const fn micro(self) -> Option<i64> {
        match self {
            Self::Priced(micro) => Some(micro),
            Self::Unpriced => None,
        }
    }
}

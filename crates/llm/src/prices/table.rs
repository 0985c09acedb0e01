//! A table of prices: the shipped one, one of a file, and either with the settings of a config.

use std::sync::{Arc, LazyLock};

use crate::usage::Usage;

use super::cost::cost;
use super::file;
use super::find::Index;
use super::rate::Rates;
use super::{Cost, MissingRate, PriceRow, Rate, Seller, TableFlaw, UnitPrices};

static SHIPPED: LazyLock<Arc<PriceTable>> = LazyLock::new(|| {
    let table = file::read(include_str!("../../data/prices.json"));
    Arc::new(table.expect("a test reads the same text, which is part of the binary"))
});

/// Prices of models, immutable, in one currency.
#[derive(Clone, Debug)]
pub struct PriceTable {
    version: Box<str>,
    /// Over everything that is not of the shipped table.
    fingerprint: Option<u64>,
    rates: Rates,
    rows: Vec<PriceRow>,
    /// The rate of each row's currency, in billionths.
    row_rates: Vec<u64>,
    index: Index,
}

/// What a config says about prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The currency of all costs. Default: the table's.
    pub currency: Option<Box<str>>,
    /// What one unit of other currencies is worth in it. What is missing is derived from the table's rates.
    pub rates: Vec<Rate>,
    /// Rows that go before those of the table.
    pub rows: Vec<PriceRow>,
}

impl PriceTable {
    /// The table that is part of the binary.
    #[must_use]
    pub fn shipped() -> Arc<Self> {
        Arc::clone(&SHIPPED)
    }

    /// A table of somebody's own, in the format of the shipped one. Its version ends with a hash of what it says.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text, in its order.
    pub fn parse(text: &str) -> Result<Self, Vec<TableFlaw>> {
        let mut table = file::read(text)?;
        let mut hash = Fnv::default();
        hash.rates(&table.rates.currency, &table.rates.list);
        table.rows.iter().for_each(|row| hash.row(row));
        table.fingerprint = Some(hash.0);
        table.version = format!("{}+{}", table.version, hash.short()).into();
        Ok(table)
    }

    /// A table of these parts.
    ///
    /// # Errors
    ///
    /// Currencies of rows for which there is no rate.
    pub(super) fn new(version: &str, rates: Rates, rows: Vec<PriceRow>) -> Result<Self, Vec<MissingRate>> {
        let row_rates = row_rates(&rates, &rows, 0)?;
        let index = Index::new(&rows);
        Ok(Self { version: version.into(), fingerprint: None, rates, rows, row_rates, index })
    }

    /// The same table with the settings of a config: rows before its own, another currency, other rates. The version
    /// then ends with a hash of the settings.
    ///
    /// # Errors
    ///
    /// Currencies of rows for which there is no rate.
    pub fn with(&self, settings: Settings) -> Result<Self, Vec<MissingRate>> {
        let Settings { currency, rates: written, rows } = settings;
        let currency = currency.unwrap_or_else(|| self.rates.currency.clone());
        if currency == self.rates.currency && written.is_empty() && rows.is_empty() {
            return Ok(self.clone());
        }
        let mut hash = self.fingerprint.map_or_else(Fnv::default, Fnv);
        hash.rates(&currency, &written);
        rows.iter().for_each(|row| hash.row(row));
        let added = rows.len();
        let rates = self.rates.clone().into(&currency, &written);
        let rows: Vec<_> = rows.into_iter().chain(self.rows.iter().cloned()).collect();
        let row_rates = row_rates(&rates, &rows, added)?;
        let index = Index::new(&rows);
        let own = self.version.split('+').next().unwrap_or_default();
        let version = format!("{own}+{}", hash.short()).into();
        Ok(Self { version, fingerprint: Some(hash.0), rates, rows, row_rates, index })
    }

    /// What a call cost that `model` served: `usage` as the provider reported it or as it was estimated, `None` if
    /// there is none. `channel` is the channel's id and `family` its kind. For calls that were answered; one that never
    /// was costs nothing, which is not asked here.
    ///
    /// A row of the channel goes before one for everyone, that before one of the family, that before any other
    /// family's. At each of these the exact name goes before a pattern, and a longer pattern before a shorter.
    #[must_use]
    pub fn price(&self, channel: &str, family: &str, model: &str, usage: Option<&Usage>) -> Cost {
        let number = self.index.find(channel, family, model);
        let found = number.and_then(|number| Some((self.rows.get(number)?, *self.row_rates.get(number)?)));
        found.map_or(Cost::Unpriced, |(row, rate)| cost(row, rate, usage))
    }

    /// The row that [`price`](Self::price) takes.
    #[must_use]
    pub fn find(&self, channel: &str, family: &str, model: &str) -> Option<&PriceRow> {
        self.index.find(channel, family, model).and_then(|number| self.rows.get(number))
    }

    /// Which table this is: the shipped one's date, and after a `+` a hash of what a file or a config says instead.
    /// Equal versions give equal costs.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The currency of all costs.
    #[must_use]
    pub fn currency(&self) -> &str {
        &self.rates.currency
    }

    /// What other currencies are worth in it.
    #[must_use]
    pub fn rates(&self) -> &[Rate] {
        &self.rates.list
    }

    /// Every row, in the order in which they are looked at.
    #[must_use]
    pub fn rows(&self) -> &[PriceRow] {
        &self.rows
    }
}

/// The shipped table.
impl Default for PriceTable {
    fn default() -> Self {
        (**SHIPPED).clone()
    }
}

fn row_rates(rates: &Rates, rows: &[PriceRow], added: usize) -> Result<Vec<u64>, Vec<MissingRate>> {
    let mut missing: Vec<MissingRate> = Vec::new();
    let found = rows.iter().enumerate().filter_map(|(number, row)| {
        let rate = rates.of(&row.currency);
        if rate.is_none() && !missing.iter().any(|known| known.currency == row.currency) {
            let added_row = (number < added).then_some(number);
            missing.push(MissingRate { currency: row.currency.clone(), added_row });
        }
        rate
    });
    let found = found.collect();
    if missing.is_empty() { Ok(found) } else { Err(missing) }
}

/// FNV-1a with 64 bits: the same on every machine and in every version of this program, which a hasher of the standard
/// library need not be. Nobody gains anything by a collision here.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// With its end marked, so that `ab` and `c` are not `a` and `bc`.
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.bytes(&[0xff]);
    }

    fn rates(&mut self, currency: &str, rates: &[Rate]) {
        self.text(currency);
        for rate in rates {
            self.text(&rate.currency);
            self.bytes(&rate.nano.to_le_bytes());
        }
    }

    fn row(&mut self, row: &PriceRow) {
        let (kind, seller): (_, &str) = match &row.seller {
            Seller::Channel(id) => ("channel", id),
            Seller::Everyone => ("everyone", ""),
            Seller::Family(family) => ("family", family),
        };
        for text in [kind, seller, &row.model, &row.currency] {
            self.text(text);
        }
        self.prices(&row.prices);
        for tier in &row.tiers {
            self.bytes(&tier.from_input_tokens.to_le_bytes());
            self.prices(&tier.prices);
        }
    }

    fn prices(&mut self, prices: &UnitPrices) {
        for (unit, price) in prices.iter() {
            self.text(unit.as_str());
            self.bytes(&price.to_le_bytes());
        }
    }

    fn short(&self) -> String {
        format!("{:08x}", (self.0 >> 32) ^ (self.0 & 0xffff_ffff))
    }
}

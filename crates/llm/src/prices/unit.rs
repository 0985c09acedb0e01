//! What is billed, as a closed list, and a price for each.

/// Something that is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Unit {
    /// Input tokens that are nothing of what follows.
    Input,
    /// Output tokens that are nothing of what follows.
    Output,
    /// Input tokens read from a cache. Default: as input.
    Cached,
    /// Input tokens written to a cache. Default: as input.
    CacheWrite,
    /// Those written for the longer lifetime. Default: as cache writes.
    CacheWriteLong,
    /// Output tokens spent on reasoning. Default: as output.
    Reasoning,
    /// Input tokens that are audio. Default: as input.
    AudioInput,
    /// Output tokens that are audio. Default: as output.
    AudioOutput,
    /// Input tokens that are images. Default: as input.
    ImageInput,
    /// Output tokens that are images. Default: as output.
    ImageOutput,
    /// Images made.
    Image,
    /// Videos made.
    Video,
    /// Characters spoken.
    Characters,
    /// Seconds of audio or video.
    Seconds,
    /// Searches made.
    Searches,
    /// The call itself.
    Request,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Input,
        Self::Output,
        Self::Cached,
        Self::CacheWrite,
        Self::CacheWriteLong,
        Self::Reasoning,
        Self::AudioInput,
        Self::AudioOutput,
        Self::ImageInput,
        Self::ImageOutput,
        Self::Image,
        Self::Video,
        Self::Characters,
        Self::Seconds,
        Self::Searches,
        Self::Request,
    ];

    /// The name used in the config, the price file and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Cached => "cached",
            Self::CacheWrite => "cache_write",
            Self::CacheWriteLong => "cache_write_long",
            Self::Reasoning => "reasoning",
            Self::AudioInput => "audio_input",
            Self::AudioOutput => "audio_output",
            Self::ImageInput => "image_input",
            Self::ImageOutput => "image_output",
            Self::Image => "image",
            Self::Video => "video",
            Self::Characters => "characters",
            Self::Seconds => "seconds",
            Self::Searches => "searches",
            Self::Request => "request",
        }
    }

    /// The unit of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == name)
    }

    /// How many of it a written price is for: a million tokens or characters, one of anything else.
    #[must_use]
    pub const fn per(self) -> u64 {
        match self {
            Self::Image | Self::Video | Self::Seconds | Self::Searches | Self::Request => 1,
            _ => 1_000_000,
        }
    }

    /// What it is a part of, whose price it has where it has none of its own.
    pub(super) const fn whole(self) -> Option<Self> {
        match self {
            Self::Cached | Self::CacheWrite | Self::AudioInput | Self::ImageInput => Some(Self::Input),
            Self::CacheWriteLong => Some(Self::CacheWrite),
            Self::Reasoning | Self::AudioOutput | Self::ImageOutput => Some(Self::Output),
            _ => None,
        }
    }
}

/// A price for each unit, or none.
///
/// Every price is in micro-units per *million* of the unit, also of those that are written per one: so a second may
/// cost a fraction of a micro-unit, and the arithmetic is the same for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitPrices([Option<u64>; Unit::ALL.len()]);

impl UnitPrices {
    /// The dearest price: a million units of the currency, for a million tokens or for one of what is billed singly.
    pub const LARGEST_WRITTEN: u64 = 1_000_000;

    /// The price of `unit` in micro-units per million of it; `None` if it has none of its own.
    #[must_use]
    pub const fn get(&self, unit: Unit) -> Option<u64> {
        self.0[unit as usize]
    }

    /// Sets the price of `unit`, in micro-units per million of it.
    pub const fn set(&mut self, unit: Unit, price: u64) {
        self.0[unit as usize] = Some(price);
    }

    /// Sets the price of `unit` as it is written: in units of the currency per [`Unit::per`]. `false`, and nothing is
    /// set, unless it is between 0 and [`Self::LARGEST_WRITTEN`].
    #[must_use]
    pub fn set_written(&mut self, unit: Unit, price: f64) -> bool {
        let scale = 1_000_000 / unit.per();
        let parsed = super::decimal::scaled(price, 1_000_000 * scale)
            .filter(|parsed| *parsed <= Self::LARGEST_WRITTEN * 1_000_000 * scale);
        if let Some(parsed) = parsed {
            self.set(unit, parsed);
        }
        parsed.is_some()
    }

    /// Nothing has a price.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Each unit that has a price of its own, and the price in micro-units per million.
    pub fn iter(&self) -> impl Iterator<Item = (Unit, u64)> + '_ {
        Unit::ALL.into_iter().filter_map(|unit| Some((unit, self.get(unit)?)))
    }

    /// These prices, and where there is none those of `base`.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        let mut merged = *base;
        self.iter().for_each(|(unit, price)| merged.set(unit, price));
        merged
    }

    /// The price of `unit`: its own, or that of the whole it belongs to.
    pub(super) fn of(&self, unit: Unit) -> Option<u64> {
        self.get(unit).or_else(|| self.of(unit.whole()?))
    }

    /// Whether any token has a price.
    pub(super) fn has_tokens(&self) -> bool {
        self.0[..Unit::Image as usize].iter().any(Option::is_some)
    }
}

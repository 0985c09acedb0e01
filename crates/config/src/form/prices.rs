//! `system.prices`: what calls cost.

use std::borrow::Cow;

use aiproxy_llm::prices::{Unit, UnitPrices};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{OneOrMany, Pairs};

/// What calls cost. A table of prices is part of the program; what is written here goes before it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Prices")]
pub struct PricesForm {
    /// The currency of all costs and of quotas by cost: three capital letters. Default `USD`.
    #[schemars(example = &"CNY")]
    pub currency: Option<String>,
    /// What one unit of other currencies is worth in it, e.g. `CNY: 0.14`, to nine decimals. Default: as in the table.
    pub rates: Pairs<f64>,
    /// A JSON file that replaces the program's own table, in the same format; relative to the config's directory.
    pub file: Option<String>,
    /// Prices by model, before those of the table: a name, or a pattern in which `*` stands for any text. A name goes
    /// before a pattern, a longer pattern before a shorter, and a price for a channel before one without. A list where
    /// it costs one thing on one channel and another on the next.
    pub models: Pairs<OneOrMany<PriceForm>>,
}

/// An amount of money: a decimal number, to six decimals where it is for a million, to twelve where it is for one.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Money(pub f64);

impl JsonSchema for Money {
    fn schema_name() -> Cow<'static, str> {
        "Money".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": UnitPrices::LARGEST_WRITTEN })
    }
}

/// Declares a form that has a price for each unit beside fields of its own.
macro_rules! with_unit_prices {
    ($(#[$meta:meta])* pub struct $form:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub struct $form {
            $($(#[$field_meta])* pub $field: $type,)*
            /// A million input tokens that are nothing of what follows.
            pub input: Option<Money>,
            /// A million output tokens that are nothing of what follows.
            pub output: Option<Money>,
            /// A million input tokens read from a cache. Default: as `input`.
            pub cached: Option<Money>,
            /// A million input tokens written to a cache. Default: as `input`.
            pub cache_write: Option<Money>,
            /// A million input tokens written to a cache for the longer lifetime. Default: as `cache_write`.
            pub cache_write_long: Option<Money>,
            /// A million output tokens spent on reasoning. Default: as `output`.
            pub reasoning: Option<Money>,
            /// A million input tokens of audio. Default: as `input`.
            pub audio_input: Option<Money>,
            /// A million output tokens of audio. Default: as `output`.
            pub audio_output: Option<Money>,
            /// A million input tokens of images. Default: as `input`.
            pub image_input: Option<Money>,
            /// A million output tokens of images. Default: as `output`.
            pub image_output: Option<Money>,
            /// An image made.
            pub image: Option<Money>,
            /// A video made.
            pub video: Option<Money>,
            /// A million characters spoken.
            pub characters: Option<Money>,
            /// A second of audio or video.
            pub seconds: Option<Money>,
            /// A search made.
            pub searches: Option<Money>,
            /// A call that was answered, whatever else it costs.
            pub request: Option<Money>,
        }

        impl $form {
            /// Every price that is written.
            pub fn prices(&self) -> impl Iterator<Item = (Unit, Money)> {
                let written = |unit| match unit {
                    Unit::Input => self.input,
                    Unit::Output => self.output,
                    Unit::Cached => self.cached,
                    Unit::CacheWrite => self.cache_write,
                    Unit::CacheWriteLong => self.cache_write_long,
                    Unit::Reasoning => self.reasoning,
                    Unit::AudioInput => self.audio_input,
                    Unit::AudioOutput => self.audio_output,
                    Unit::ImageInput => self.image_input,
                    Unit::ImageOutput => self.image_output,
                    Unit::Image => self.image,
                    Unit::Video => self.video,
                    Unit::Characters => self.characters,
                    Unit::Seconds => self.seconds,
                    Unit::Searches => self.searches,
                    Unit::Request => self.request,
                };
                Unit::ALL.into_iter().filter_map(move |unit| Some((unit, written(unit)?)))
            }
        }
    };
}

with_unit_prices! {
    /// What a model costs: units of the currency for a million tokens or characters, and for one of anything else. What
    /// was used and has no price makes the call unpriced.
    #[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields, rename = "Price")]
    pub struct PriceForm {
        /// Id of the channel it costs this on. Default: all.
        pub channel: Option<String>,
        /// What the prices are in. Default: as `prices.currency`.
        pub currency: Option<String>,
        /// Other prices for calls with a long input, in ascending order. Default: none.
        pub tiers: Vec<TierForm>,
    }
}

with_unit_prices! {
    /// What a call with a long input costs, from the first token on. What is not written here is as in the model's own
    /// prices.
    #[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename = "PriceTier")]
    pub struct TierForm {
        /// The least number of input tokens, cached ones included.
        #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
        pub from_input_tokens: u64,
    }
}

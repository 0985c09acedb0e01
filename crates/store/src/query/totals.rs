//! What is added up: one number per column of the rollups, and how each of them is made of raw records. The writer adds
//! records up in Rust, the edges of a range are added up in SQL; the tests hold the two together.

/// Defines [`Totals`] with its columns, each with what one raw record adds to it.
macro_rules! totals {
    ($($(#[doc = $doc:literal])+ $name:ident: $raw:literal $(or $rolled:literal)?,)+) => {
        /// Sums over calls. All of them add up: over ranges, over groups.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[doc = $doc])+ pub $name: i64,)+
        }

        /// Every number.
        pub(super) const COLUMNS: &[Column] = &[$(Column {
            name: stringify!($name),
            raw: $raw,
            rolled: first(&[$($rolled,)? concat!("rollups.", stringify!($name))]),
        },)+];

        impl Totals {
            /// Every number with its name, in the order of the table.
            #[must_use]
            pub fn fields(&self) -> [(&'static str, i64); COLUMNS.len()] {
                [$((stringify!($name), self.$name),)+]
            }

            /// Reads the numbers in the order of [`COLUMNS`].
            pub(super) fn read<E>(mut next: impl FnMut() -> Result<i64, E>) -> Result<Self, E> {
                Ok(Self { $($name: next()?,)+ })
            }

            /// Adds `other`. A sum beyond 64 bits stays at the largest number.
            pub fn add(&mut self, other: &Self) {
                $(self.$name = self.$name.saturating_add(other.$name);)+
            }
        }
    };
}

/// How a number is made. Both tables are joined with `series`.
pub(super) struct Column {
    /// Its name.
    pub(super) name: &'static str,
    /// What one row of `records` adds to it.
    pub(super) raw: &'static str,
    /// What one row of `rollups` adds to it: the column of that name, unless it says otherwise.
    pub(super) rolled: &'static str,
}

const fn first(expressions: &[&'static str]) -> &'static str {
    expressions[0]
}

// A session, that is a WebSocket or a call by WebRTC, lasts as long as its caller likes: see `Entry::is_session`.
totals! {
    /// Calls.
    calls: "1",
    /// Calls with a status below 400 whose end is `complete` or `client_closed`.
    succeeded: "CASE WHEN series.status < 400 AND records.ended IN ('complete', 'client_closed') THEN 1 ELSE 0 END",
    /// Calls that count as requests of their quotas.
    counted: "records.counted",
    /// Calls whose times are counted: all but sessions.
    duration_calls: "CASE WHEN series.protocol IN ('websocket', 'webrtc') THEN 0 ELSE 1 END"
        or "CASE WHEN series.protocol IN ('websocket', 'webrtc') THEN 0 ELSE rollups.calls END",
    /// How long those took together, in microseconds.
    duration_us: "CASE WHEN series.protocol IN ('websocket', 'webrtc') THEN 0 ELSE records.duration_us END"
        or "CASE WHEN series.protocol IN ('websocket', 'webrtc') THEN 0 ELSE rollups.duration_us END",
    /// How long those took to the first byte together, in microseconds.
    first_byte_us: "CASE WHEN series.protocol IN ('websocket', 'webrtc') THEN 0 ELSE COALESCE(records.first_byte_us, 0) END"
        or "CASE WHEN series.protocol IN ('websocket', 'webrtc') THEN 0 ELSE rollups.first_byte_us END",
    /// Those that had a first byte.
    first_byte_calls: "CASE WHEN records.first_byte_us IS NULL OR series.protocol IN ('websocket', 'webrtc') THEN 0 ELSE 1 END"
        or "CASE WHEN series.protocol IN ('websocket', 'webrtc') THEN 0 ELSE rollups.first_byte_calls END",
    /// Body bytes from clients.
    request_bytes: "records.request_bytes",
    /// Body bytes to clients.
    response_bytes: "records.response_bytes",
    /// Input tokens.
    input: "COALESCE(records.input, 0)",
    /// Output tokens.
    output: "COALESCE(records.output, 0)",
    /// Of the input, read from a cache.
    cached: "COALESCE(records.cached, 0)",
    /// Of the input, written to a cache.
    cache_write: "COALESCE(records.cache_write, 0)",
    /// Of the cache writes, those for the longer lifetime.
    cache_write_long: "COALESCE(records.cache_write_long, 0)",
    /// Of the output, reasoning.
    reasoning: "COALESCE(records.reasoning, 0)",
    /// Of the input, audio.
    audio_input: "COALESCE(records.audio_input, 0)",
    /// Of the output, audio.
    audio_output: "COALESCE(records.audio_output, 0)",
    /// Of the input, images.
    image_input: "COALESCE(records.image_input, 0)",
    /// Of the output, images.
    image_output: "COALESCE(records.image_output, 0)",
    /// Images made.
    image: "COALESCE(records.image, 0)",
    /// Videos made.
    video: "COALESCE(records.video, 0)",
    /// Characters spoken.
    characters: "COALESCE(records.characters, 0)",
    /// Searches made.
    searches: "COALESCE(records.searches, 0)",
    /// Audio or video time, in milliseconds.
    seconds_ms: "COALESCE(records.seconds_ms, 0)",
    /// Cost, in millionths of the base currency.
    cost: "COALESCE(records.cost, 0)",
    /// Calls that used something whose price is not known.
    unpriced: "CASE WHEN records.price_version = 'unpriced' THEN 1 ELSE 0 END",
    /// Calls whose usage is an estimate.
    estimated: "CASE WHEN records.usage_source = 'estimated' THEN 1 ELSE 0 END",
}

impl Totals {
    /// Calls that did not succeed.
    #[must_use]
    pub fn failed(&self) -> i64 {
        self.calls.saturating_sub(self.succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_in_the_order_of_their_columns_and_never_wrap() {
        let mut next = 0;
        let mut totals = Totals::read(|| {
            next += 1;
            Ok::<_, ()>(next)
        })
        .unwrap();
        let fields = totals.fields();
        assert_eq!(fields.map(|(name, _)| name).to_vec(), COLUMNS.iter().map(|column| column.name).collect::<Vec<_>>());
        assert_eq!(fields[0], ("calls", 1));
        assert_eq!(fields[26], ("estimated", 27));
        totals.cost = i64::MAX;
        totals.add(&totals.clone());
        assert_eq!((totals.calls, totals.cost), (2, i64::MAX));
    }
}

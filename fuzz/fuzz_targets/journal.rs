//! Segments of the journal: any bytes are frames, an unfinished end or damage, and a frame found behind damage is one.

#![no_main]

use aiproxy_ledger::frame::{Kind, Next, next, resynchronise};
use aiproxy_ledger::{Bodies, Entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    loop {
        rest = match next(rest) {
            Next::Frame { kind, payload, length } => {
                match kind {
                    Kind::Record => drop(Entry::decode(payload)),
                    Kind::Bodies => drop(Bodies::decode(payload)),
                    Kind::Unknown(_) => {}
                }
                &rest[length..]
            }
            Next::Unfinished => return,
            Next::Damaged => match resynchronise(rest) {
                Some(at) => &rest[at..],
                None => return,
            },
        };
    }
});

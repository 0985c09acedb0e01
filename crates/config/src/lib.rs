//! placeholder while being written
mod lookup;
pub mod snapshot;
pub use lookup::{glob_match, key_digest};

//! x

pub mod metrics;

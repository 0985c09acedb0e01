//! Given this text, then exactly this meaning or these problems.

#[cfg(test)]
mod examples;
#[cfg(test)]
mod files;
#[cfg(test)]
mod large;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod meaning;
#[cfg(test)]
mod never_panics;
#[cfg(test)]
mod prices;
#[cfg(test)]
mod problems;
#[cfg(test)]
mod quotas;
#[cfg(test)]
mod realtime;
#[cfg(test)]
mod resilience;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod sinks;
#[cfg(test)]
mod support;
#[cfg(test)]
mod syntax;

//! What a key of AIProxy leads to: one channel with one credential, or three with everything that costs a decision.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use crate::payload;
use crate::subject::Subject;

/// Shares of the three channels.
const WEIGHTS: [u32; 3] = [1, 2, 3];
/// Credentials of each of the three, all alike.
const CREDENTIALS: usize = 2;
/// How far a share may be off.
const TOLERANCE: f64 = 0.02;
/// And this many calls more, because few calls cannot be divided evenly.
const SLACK: f64 = 8.0;

/// Counted on each call, never reached.
pub(crate) const LIMITS: &str =
    "limits: {requests_per_minute: 100000000, tokens_per_minute: 1000000000000, concurrent: 1000000}";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Channels {
    One,
    /// Weights, two credentials each, failover, and limits on everything.
    Three,
}

impl Channels {
    pub(crate) fn of(subject: Subject) -> Self {
        if subject == Subject::ThreeChannels { Self::Three } else { Self::One }
    }

    /// The secrets that the upstream accepts.
    pub(crate) fn real_keys(self) -> Vec<String> {
        match self {
            Self::One => vec![payload::REAL_KEY.to_owned()],
            Self::Three => {
                let of = |channel| (0..CREDENTIALS).map(move |credential| payload::real_key(channel, credential));
                (0..WEIGHTS.len()).flat_map(of).collect()
            }
        }
    }

    /// Key and rules of one user, as fields of a YAML flow mapping.
    pub(crate) fn user(self, id: &str, key: &str) -> String {
        match self {
            Self::One => format!("proxy_key: \"{key}\", channels: [upstream]"),
            Self::Three => format!(
                "proxy_keys: [{{id: \"{id}-key\", key: \"{key}\", {LIMITS}}}], \
                 channels: [channel-0, channel-1, channel-2], failover: true, {LIMITS}"
            ),
        }
    }

    /// Everything below `channels:`.
    pub(crate) fn channels(self, base_url: &str, tls: &str) -> String {
        let mut text = String::new();
        match self {
            Self::One => {
                let (name, key) = ("upstream", format!("api_key: \"{}\"", payload::REAL_KEY));
                channel(&mut text, name, base_url, &format!("    {key}\n{tls}"));
            }
            Self::Three => {
                for (number, weight) in WEIGHTS.into_iter().enumerate() {
                    let rules =
                        format!("    weight: {weight}\n    {LIMITS}\n{tls}{}", credentials(number, CREDENTIALS));
                    channel(&mut text, &format!("channel-{number}"), base_url, &rules);
                }
            }
        }
        text
    }

    /// Limits of all calls and of each address, as lines below `system:`.
    pub(crate) fn rates(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Three => {
                "  rate_limit:\n    requests_per_second: 1000000\n    ip_limit: {requests_per_second: 1000000}\n"
            }
        }
    }

    /// Whether each real key got its share of the calls that the upstream saw.
    pub(crate) fn verify_shares(self, calls: &[u64]) -> Result<()> {
        if self == Self::One {
            return Ok(());
        }
        let all = calls.iter().sum::<u64>() as f64;
        let weight = |at: usize| WEIGHTS.get(at / CREDENTIALS).copied().unwrap_or_default();
        let total = f64::from(WEIGHTS.iter().sum::<u32>()) * CREDENTIALS as f64;
        for (at, &found) in calls.iter().enumerate() {
            let due = all * f64::from(weight(at)) / total;
            ensure!(
                (found as f64 - due).abs() <= due * TOLERANCE + SLACK,
                "shares are not kept: credential {} of channel-{} got {found} calls instead of {due:.0}; all: {calls:?}",
                at % CREDENTIALS + 1,
                at / CREDENTIALS,
            );
        }
        Ok(())
    }
}

fn channel(text: &mut String, id: &str, base_url: &str, rules: &str) {
    writeln!(text, "  {id}:\n    name: {id}\n    kind: openai\n    status: active\n    base_url: \"{base_url}\"").ok();
    text.push_str(rules);
}

/// Credentials of a channel, each with limits.
pub(crate) fn credentials(channel: usize, count: usize) -> String {
    let mut text = String::from("    credentials:\n");
    for credential in 0..count {
        let key = payload::real_key(channel, credential);
        writeln!(text, "      - {{id: credential-{credential}, api_key: \"{key}\", {LIMITS}}}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_within_two_percent() {
        let three = Channels::Three;
        assert!(three.verify_shares(&[1000, 1010, 2000, 2020, 3000, 2970]).is_ok());
        assert!(three.verify_shares(&[1000, 1000, 2000, 2000, 3200, 2800]).is_err());
        assert!(three.verify_shares(&[2000; 6]).is_err());
        assert!(three.verify_shares(&[0, 1, 1, 2, 2, 3]).is_ok(), "few calls cannot be divided evenly");
        assert!(Channels::One.verify_shares(&[7]).is_ok());
    }
}

//! From a caller and a call to one upstream: which channel, which credential, which endpoint. Pure.

use aiproxy_config::glob_match;
use aiproxy_config::snapshot::{Channel, Credential, Endpoint, Kind, ModelRule, ProxyKey, Snapshot, Status, User};
use aiproxy_llm::dialect::Dialect;

use crate::record::Place;

/// Why no channel serves a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The caller has no channel that is switched on and has a credential.
    NoChannel,
    /// `X-AIProxy-Channel` names a channel that this caller is not mapped to.
    ChannelNotAllowed,
    /// None of the caller's channels speaks this dialect.
    NoRoute,
    /// None of the caller's channels serves this model.
    ModelNotServed(Box<str>),
}

/// One upstream, chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'snapshot> {
    /// The channel.
    pub channel: &'snapshot Channel,
    /// Indices of channel and credential.
    pub(crate) place: Place,
    /// The real key used.
    pub credential: &'snapshot Credential,
    /// Where the call goes.
    pub endpoint: &'snapshot Endpoint,
    /// What the upstream is asked for, where the channel has another name for the model.
    pub real_model: Option<&'snapshot str>,
}

/// A channel that may serve a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'snapshot> {
    index: usize,
    pub(crate) channel: &'snapshot Channel,
}

/// The caller's channels that may serve a call, before the model is looked at. Never empty.
pub(crate) fn candidates<'snapshot>(
    snapshot: &'snapshot Snapshot,
    user: &User,
    key: &ProxyKey,
    asked_for: Option<&str>,
    dialect: Dialect,
    any_path: bool,
) -> Result<Vec<Candidate<'snapshot>>, Refusal> {
    let mapped = key.channels.as_deref().unwrap_or(&user.channels);
    let candidate = |&index| Candidate { index, channel: &snapshot.channels[index] };
    let mut channels: Vec<Candidate<'_>> = mapped.iter().map(candidate).collect();
    if let Some(id) = asked_for {
        channels.retain(|candidate| *candidate.channel.id == *id);
        if channels.is_empty() {
            return Err(Refusal::ChannelNotAllowed);
        }
    }
    // A key with one channel sends everything there, whatever the path: that is the predecessor's contract.
    let choice = channels.len() > 1;
    channels.retain(|Candidate { channel, .. }| channel.status == Status::Active && has_credential(channel));
    if channels.is_empty() {
        return Err(Refusal::NoChannel);
    }
    if choice && !any_path {
        channels.retain(|candidate| speaks(candidate.channel.kind, dialect));
    }
    if channels.is_empty() { Err(Refusal::NoRoute) } else { Ok(channels) }
}

/// Whether the choice among `channels` depends on the model, so that the body must be looked into first.
pub(crate) fn depends_on_model(channels: &[Candidate<'_>]) -> bool {
    channels.iter().any(|candidate| !candidate.channel.models.is_empty())
}

/// Chooses one upstream. `random` gives a number below its argument.
///
/// A channel that lists the model goes before one that serves all; then the lower priority number; then weight decides.
pub(crate) fn choose<'snapshot>(
    mut channels: Vec<Candidate<'snapshot>>,
    model: Option<&str>,
    mut random: impl FnMut(u32) -> u32,
) -> Result<Target<'snapshot>, Refusal> {
    if let Some(model) = model {
        let listed = |candidate: &Candidate<'_>| candidate.channel.models.iter().any(|rule| serves(rule, model));
        if channels.iter().any(listed) {
            channels.retain(listed);
        } else {
            channels.retain(|candidate| candidate.channel.models.is_empty());
        }
        if channels.is_empty() {
            return Err(Refusal::ModelNotServed(model.into()));
        }
    }
    let first = channels.iter().map(|candidate| candidate.channel.priority).min().unwrap_or(0);
    channels.retain(|candidate| candidate.channel.priority == first);
    let chosen = by_weight(&channels, |candidate| candidate.channel.weight, |_| true, &mut random);
    let Candidate { index, channel } = channels[chosen.ok_or(Refusal::NoChannel)?];
    let active = |credential: &Credential| credential.status == Status::Active;
    let credential = by_weight(&channel.credentials, |credential| credential.weight, active, &mut random);
    let credential = credential.ok_or(Refusal::NoChannel)?;
    let endpoint = by_weight(&channel.endpoints, |endpoint| endpoint.weight, |_| true, &mut random);
    let real_model = model.and_then(|model| channel.models.iter().find_map(|rule| real_name(rule, model)));
    Ok(Target {
        channel,
        place: Place { channel: index, credential },
        credential: &channel.credentials[credential],
        endpoint: &channel.endpoints[endpoint.ok_or(Refusal::NoChannel)?],
        real_model,
    })
}

/// Whether one of `allowed` names `model`. An empty list allows every model.
pub(crate) fn model_allowed(allowed: &[Box<str>], model: &str) -> bool {
    allowed.is_empty() || allowed.iter().any(|pattern| glob_match(pattern, model))
}

fn has_credential(channel: &Channel) -> bool {
    channel.credentials.iter().any(|credential| credential.status == Status::Active)
}

/// Whether an upstream of this kind has an API of this dialect at all.
fn speaks(kind: Kind, dialect: Dialect) -> bool {
    kind == Kind::Custom
        || match dialect {
            Dialect::Openai => {
                matches!(kind, Kind::Openai | Kind::Azure | Kind::Dashscope | Kind::Gemini | Kind::Vertex)
            }
            Dialect::Anthropic => {
                matches!(kind, Kind::Anthropic | Kind::Dashscope | Kind::Vertex | Kind::Bedrock)
            }
            Dialect::Gemini => matches!(kind, Kind::Gemini | Kind::Vertex),
            Dialect::Dashscope => kind == Kind::Dashscope,
        }
}

fn serves(rule: &ModelRule, model: &str) -> bool {
    match rule {
        ModelRule::Exact(name) => **name == *model,
        ModelRule::Glob(pattern) => glob_match(pattern, model),
        ModelRule::Alias { alias, .. } => **alias == *model,
    }
}

fn real_name<'rule>(rule: &'rule ModelRule, model: &str) -> Option<&'rule str> {
    match rule {
        ModelRule::Alias { alias, real } if **alias == *model => Some(real),
        _ => None,
    }
}

/// The index of one of the `usable` items, with a chance in proportion to its weight; all zero means all alike.
fn by_weight<T>(
    items: &[T],
    weight: impl Fn(&T) -> u32,
    usable: impl Fn(&T) -> bool,
    random: &mut impl FnMut(u32) -> u32,
) -> Option<usize> {
    if let [only] = items {
        return usable(only).then_some(0);
    }
    let shares = || items.iter().enumerate().filter(|(_, item)| usable(item));
    let total = shares().fold(0u32, |sum, (_, item)| sum.saturating_add(weight(item)));
    if total == 0 {
        let count = shares().count() as u32;
        return if count == 0 { None } else { shares().nth(random(count) as usize).map(|(index, _)| index) };
    }
    let mut point = random(total);
    for (index, item) in shares() {
        let share = weight(item);
        if point < share {
            return Some(index);
        }
        point -= share;
    }
    shares().last().map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_share_calls_within_two_percent_and_skip_what_is_not_usable() {
        let weights = [1u32, 2, 0, 5, 2];
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = [0u32; 5];
        for _ in 0..10_000 {
            let chosen = by_weight(&weights, |weight| *weight, |weight| *weight != 5, &mut |below| random.u32(..below));
            counts[chosen.unwrap()] += 1;
        }
        for (count, expected) in counts.iter().zip([2000u32, 4000, 0, 0, 4000]) {
            assert!(count.abs_diff(expected) <= 200, "{counts:?}");
        }
        assert_eq!(by_weight(&[0u32, 0], |weight| *weight, |_| true, &mut |_| 1), Some(1), "all zero: all alike");
        assert_eq!(by_weight(&[1u32], |weight| *weight, |_| false, &mut |_| 0), None);
    }
}

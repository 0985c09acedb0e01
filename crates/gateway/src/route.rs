//! From a caller and a call to the channels that may serve it. Pure.

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
    /// Index of the endpoint within the channel.
    pub(crate) endpoint_index: usize,
    /// What the upstream is asked for, where the channel has another name for the model.
    pub real_model: Option<&'snapshot str>,
}

/// A channel that may serve a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'snapshot> {
    pub(crate) index: usize,
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

/// The channels that serve `model`: those that list it, or else those that serve all.
pub(crate) fn serving<'snapshot>(
    mut channels: Vec<Candidate<'snapshot>>,
    model: Option<&str>,
) -> Result<Vec<Candidate<'snapshot>>, Refusal> {
    let Some(model) = model else { return Ok(channels) };
    let listed = |candidate: &Candidate<'_>| candidate.channel.models.iter().any(|rule| serves(rule, model));
    if channels.iter().any(listed) {
        channels.retain(listed);
    } else {
        channels.retain(|candidate| candidate.channel.models.is_empty());
    }
    if channels.is_empty() { Err(Refusal::ModelNotServed(model.into())) } else { Ok(channels) }
}

/// What `channel` calls `model`, where that is another name.
pub(crate) fn real_model<'snapshot>(channel: &'snapshot Channel, model: &str) -> Option<&'snapshot str> {
    channel.models.iter().find_map(|rule| real_name(rule, model))
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

pub(crate) fn serves(rule: &ModelRule, model: &str) -> bool {
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

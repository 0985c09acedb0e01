//! From a caller and a call to one upstream: which channel, which credential, which endpoint. Pure.

use aiproxy_config::glob_match;
use aiproxy_config::snapshot::{Channel, Credential, Endpoint, Kind, ModelRule, ProxyKey, Snapshot, Status, User};
use aiproxy_llm::dialect::Dialect;

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
    /// The real key used.
    pub credential: &'snapshot Credential,
    /// Where the call goes.
    pub endpoint: &'snapshot Endpoint,
    /// What the upstream is asked for, where the channel has another name for the model.
    pub real_model: Option<&'snapshot str>,
}

/// The caller's channels that may serve a call, before the model is looked at. Never empty.
pub(crate) fn candidates<'snapshot>(
    snapshot: &'snapshot Snapshot,
    user: &User,
    key: &ProxyKey,
    asked_for: Option<&str>,
    dialect: Dialect,
    any_path: bool,
) -> Result<Vec<&'snapshot Channel>, Refusal> {
    let mapped = key.channels.as_deref().unwrap_or(&user.channels);
    let mut channels: Vec<&Channel> = mapped.iter().map(|&index| &*snapshot.channels[index]).collect();
    if let Some(id) = asked_for {
        channels.retain(|channel| *channel.id == *id);
        if channels.is_empty() {
            return Err(Refusal::ChannelNotAllowed);
        }
    }
    // A key with one channel sends everything there, whatever the path: that is the predecessor's contract.
    let choice = channels.len() > 1;
    channels.retain(|channel| channel.status == Status::Active && has_credential(channel));
    if channels.is_empty() {
        return Err(Refusal::NoChannel);
    }
    if choice && !any_path {
        channels.retain(|channel| speaks(channel.kind, dialect));
    }
    if channels.is_empty() { Err(Refusal::NoRoute) } else { Ok(channels) }
}

/// Whether the choice among `channels` depends on the model, so that the body must be looked into first.
pub(crate) fn depends_on_model(channels: &[&Channel]) -> bool {
    channels.iter().any(|channel| !channel.models.is_empty())
}

/// Chooses one upstream. `random` gives a number below its argument.
///
/// A channel that lists the model goes before one that serves all; then the lower priority number; then weight decides.
pub(crate) fn choose<'snapshot>(
    mut channels: Vec<&'snapshot Channel>,
    model: Option<&str>,
    mut random: impl FnMut(u32) -> u32,
) -> Result<Target<'snapshot>, Refusal> {
    if let Some(model) = model {
        let listed = |channel: &&Channel| channel.models.iter().any(|rule| serves(rule, model));
        if channels.iter().any(listed) {
            channels.retain(listed);
        } else {
            channels.retain(|channel| channel.models.is_empty());
        }
        if channels.is_empty() {
            return Err(Refusal::ModelNotServed(model.into()));
        }
    }
    let first = channels.iter().map(|channel| channel.priority).min().unwrap_or(0);
    channels.retain(|channel| channel.priority == first);
    let channel = by_weight(&channels, |channel| channel.weight, &mut random).ok_or(Refusal::NoChannel)?;
    let active: Vec<&Credential> =
        channel.credentials.iter().filter(|credential| credential.status == Status::Active).collect();
    let credential = by_weight(&active, |credential| credential.weight, &mut random).ok_or(Refusal::NoChannel)?;
    let endpoints: Vec<&Endpoint> = channel.endpoints.iter().collect();
    let endpoint = by_weight(&endpoints, |endpoint| endpoint.weight, &mut random).ok_or(Refusal::NoChannel)?;
    let real_model = model.and_then(|model| channel.models.iter().find_map(|rule| real_name(rule, model)));
    Ok(Target { channel, credential, endpoint, real_model })
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

/// One of `items` with a chance in proportion to its weight; all zero means all alike.
fn by_weight<T: Copy>(items: &[T], weight: impl Fn(T) -> u32, random: &mut impl FnMut(u32) -> u32) -> Option<T> {
    if let [only] = items {
        return Some(*only);
    }
    let total: u32 = items.iter().fold(0, |sum, item| sum.saturating_add(weight(*item)));
    if total == 0 {
        return if items.is_empty() { None } else { Some(items[random(items.len() as u32) as usize]) };
    }
    let mut point = random(total);
    for item in items {
        let share = weight(*item);
        if point < share {
            return Some(*item);
        }
        point -= share;
    }
    items.last().copied()
}

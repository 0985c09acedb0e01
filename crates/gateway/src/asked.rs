//! What a call asks for, as its head and body tell: model, conversation, earlier work, tokens. Pure.

use std::borrow::Cow;

use aiproxy_config::snapshot::Channel;
use aiproxy_llm::dialect::{ModelPlace, Route};
use aiproxy_llm::estimate::prompt_tokens_from_length;
use aiproxy_llm::peek::stable_hash;
use aiproxy_llm::prices::Cost;
use aiproxy_llm::usage::Usage;
use aiproxy_llm::work::{ids_in_path, may_refer};
use http::{HeaderMap, Method};

use crate::limits::Demand;
use crate::permit::Caller;
use crate::refusal::Refusal;
use crate::request_body::{Needs, Peeked, PreparedBody};
use crate::route;
use crate::serving::Serving;

/// Names the conversation a call belongs to, in this order. Codex sends the one with the underscore.
const SESSION_HEADERS: [&str; 5] = ["x-aiproxy-session", "x-session-id", "session-id", "session_id", "session"];

/// What the body must be read for.
pub(crate) fn needs(
    serving: &Serving,
    channels: &[route::Candidate<'_>],
    route: &Route<'_>,
    failover: bool,
    is_limited: bool,
) -> Needs {
    let has_several = |channel: &Channel| channel.credentials.len() > 1 || channel.endpoints.len() > 1;
    let has_limits = |channel: &Channel| {
        channel.limited.is_some() || channel.credentials.iter().any(|credential| credential.limited.is_some())
    };
    let any = |of: &dyn Fn(&Channel) -> bool| channels.iter().any(|candidate| of(candidate.channel));
    let is_shared = any(&has_several);
    let is_one_of_many = channels.len() > 1 || is_shared;
    Needs {
        replay_limit: serving.system.replay_limit,
        replay: is_shared || (failover && channels.len() > 1),
        output_limit: is_limited || any(&has_limits),
        references: is_one_of_many && may_refer(route.operation),
        conversation: is_one_of_many && any(&|channel| channel.affinity),
    }
}

/// An estimate of the tokens a call will use: one for each four bytes of its prompt. Bytes of an image are not tokens,
/// so what a long body may reserve is bounded; the provider's numbers settle it.
pub(crate) fn demand(route: &Route<'_>, method: &Method, prepared: &PreparedBody, received: u64) -> Demand {
    let most_output_tokens = match &prepared.peeked {
        Peeked::Json(body) => body.max_output_tokens,
        _ => None,
    };
    Demand {
        input_tokens: prompt_tokens_from_length(received),
        most_output_tokens,
        uses_tokens: *method == Method::POST && route.model_place() != ModelPlace::Nowhere,
        ..Demand::default()
    }
}

/// What a call may cost, for quotas of money: as its likeliest channel's prices say; 0 where they say nothing.
pub(crate) fn price(serving: &Serving, channel: &Channel, model: &str, demand: &mut Demand) {
    const MILLION: u64 = 1_000_000;
    let of = |input, output| {
        let usage = Usage { input: Some(input), output: Some(output), ..Usage::default() };
        match serving.prices.price(&channel.id, channel.kind.as_str(), model, Some(&usage)) {
            Cost::Priced(micro) => micro,
            Cost::Unpriced => 0,
        }
    };
    demand.cost = of(demand.input_tokens, 0);
    demand.output_cost = of(0, MILLION);
}

/// Whether the body says that it is JSON. SDKs always do.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.get(..16).is_some_and(|start| start.eq_ignore_ascii_case("application/json"))
}

/// Which conversation a call belongs to: as a header says, or as its body tells.
pub(crate) fn conversation(headers: &HeaderMap, prepared: &PreparedBody) -> Option<u64> {
    let named = SESSION_HEADERS.iter().find_map(|name| headers.get(*name)).filter(|value| !value.is_empty());
    match (named, &prepared.peeked) {
        (Some(value), _) => Some(stable_hash(&[b"session", value.as_bytes()])),
        (None, Peeked::Json(body)) => body.conversation,
        _ => None,
    }
}

/// Ids of what earlier calls made, as this one names them.
pub(crate) fn earlier_work<'call>(
    path: &'call str,
    prepared: &'call PreparedBody,
) -> impl Iterator<Item = Cow<'call, str>> {
    let in_body: &[String] = match &prepared.peeked {
        Peeked::Json(body) => &body.works,
        _ => &[],
    };
    ids_in_path(path).into_iter().map(Cow::from).chain(in_body.iter().map(|id| Cow::from(&**id)))
}

/// The model a call names, wherever its API has it: path, body or query.
pub(crate) fn model_asked(route: &Route<'_>, prepared: &PreparedBody, query: Option<&str>) -> Option<String> {
    if let Some(model) = route.model_in_path {
        return Some(percent_encoding::percent_decode_str(model).decode_utf8_lossy().into_owned());
    }
    // Other bodies may be looked into as well, for what they refer to; a `model` there chooses nothing.
    if let Some(model) = prepared.peeked.model().filter(|_| route.model_place() != ModelPlace::Nowhere) {
        return Some(model.to_string());
    }
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(name, _)| *name == "model").map(|(_, value)| value).next()?;
    Some(percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
}

/// A model that cannot be seen (an encoded body, one too large to look into, no JSON) is not allowed either where the
/// key or the channels are limited to certain models.
pub(crate) fn permit_model(
    caller: &Caller<'_>,
    model: Option<&str>,
    route: &Route<'_>,
    routing_needs_it: bool,
) -> Result<(), Refusal> {
    let Some(model) = model else {
        return if (caller.is_limited_to_models() || routing_needs_it) && route.model_place() != ModelPlace::Nowhere {
            let message = "This call must name a model in plain JSON or a form: the proxy key or its channels are limited to certain models.";
            Err(Refusal::new(http::StatusCode::BAD_REQUEST, "model_required", message))
        } else {
            Ok(())
        };
    };
    if caller.may_use(model) { Ok(()) } else { Err(Refusal::model_not_allowed(model)) }
}

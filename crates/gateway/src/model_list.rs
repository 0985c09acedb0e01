//! `GET /v1/models`: exactly what this key may use.
//!
//! Where the key's only channel serves every model and nothing restricts the key, the provider's own answer passes
//! untouched. Otherwise the list is made here, from what the channels list by name and, where they serve all models or
//! a pattern, from the provider's list, which is asked for once a minute at most.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiproxy_config::snapshot::{Channel, ModelRule};
use aiproxy_core::time::{self, Instant};
use aiproxy_llm::dialect::{Dialect, Operation, Route};
use aiproxy_llm::models::{ModelEntry, asked_one, parse_list, write_list, write_one};
use aiproxy_llm::peek::stable_hash;
use bytes::Bytes;
use http::Method;
use http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::client_body::ClientBody;
use crate::failover::Failover;
use crate::limits::Demand;
use crate::outgoing::Outgoing;
use crate::permit::Caller;
use crate::plan::Plan;
use crate::record::OpenRecord;
use crate::refusal::Refusal;
use crate::request_body::{Peeked, PreparedBody};
use crate::route::{self, Candidate};
use crate::serving::Serving;
use crate::state::Worker;

/// How long a provider's list is believed.
const BELIEVED: Duration = Duration::from_secs(60);
/// The largest list read.
const LIST_LIMIT: usize = 8 << 20;
/// Lists kept; a channel may have one per dialect.
const LISTS_LIMIT: usize = 4_096;

/// The providers' lists, by channel and dialect.
#[derive(Debug, Default)]
pub(crate) struct ModelLists(Mutex<HashMap<u64, Dated>>);

/// A list and when it was read.
type Dated = (Instant, Arc<[ModelEntry]>);

impl ModelLists {
    fn get(&self, key: u64) -> Option<Arc<[ModelEntry]>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, list) = lists.get(&key)?;
        (time::now().saturating_duration_since(*read_at) < BELIEVED).then(|| list.clone())
    }

    fn put(&self, key: u64, list: Arc<[ModelEntry]>) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= LISTS_LIMIT {
            lists.clear();
        }
        lists.insert(key, (time::now(), list));
    }
}

/// Whether the list (or the description of one model) is made here and not passed through.
pub(crate) fn is_made_here(
    caller: &Caller<'_>,
    channels: &[Candidate<'_>],
    route: &Route<'_>,
    method: &Method,
) -> bool {
    let is_list = route.operation == Operation::Models && *method == Method::GET;
    is_list && (caller.is_limited_to_models() || channels.len() > 1 || route::depends_on_model(channels))
}

/// One call for a list.
pub(crate) struct ListCall<'call> {
    pub(crate) worker: &'call Worker,
    pub(crate) serving: &'call Arc<Serving>,
    pub(crate) caller: Caller<'call>,
    pub(crate) parts: &'call Parts,
    pub(crate) route: &'call Route<'call>,
    pub(crate) client_body: &'call mut ClientBody,
    pub(crate) record: &'call mut OpenRecord,
}

impl ListCall<'_> {
    /// The body of the answer. A provider that does not answer is left out; only if nothing at all is known, its
    /// refusal is the answer.
    pub(crate) async fn answer(mut self, mut channels: Vec<Candidate<'_>>) -> Result<Bytes, Refusal> {
        channels.sort_by_key(|candidate| candidate.channel.priority);
        let mut entries: Vec<ModelEntry> = Vec::new();
        let mut seen = HashSet::new();
        let mut refused = None;
        for candidate in channels {
            let list =
                if lists_itself(candidate.channel) { Ok(Arc::default()) } else { self.provider_list(candidate).await };
            let list = list.unwrap_or_else(|refusal| {
                refused = Some(refusal);
                Arc::default()
            });
            for entry in served(candidate.channel, &list) {
                if self.caller.may_use(&entry.id) && seen.insert(entry.id.clone()) {
                    entries.push(entry);
                }
            }
        }
        if let (true, Some(refusal)) = (entries.is_empty(), refused) {
            return Err(refusal);
        }
        let Some(asked) = asked_one(self.parts.uri.path()) else {
            return Ok(write_list(self.route.dialect, &entries).into());
        };
        let asked = percent_decode_str(asked).decode_utf8_lossy();
        match entries.iter().find(|entry| entry.id == asked) {
            Some(entry) => Ok(write_one(self.route.dialect, entry).into()),
            None => Err(Refusal::model_not_served(&asked)),
        }
    }

    /// What the provider of a channel has, asked with the caller's own request.
    async fn provider_list(&mut self, candidate: Candidate<'_>) -> Result<Arc<[ModelEntry]>, Refusal> {
        let dialect = self.route.dialect;
        let key = stable_hash(&[candidate.channel.id.as_bytes(), dialect.as_str().as_bytes()]);
        let lists = &self.worker.gateway.model_lists;
        if let Some(list) = lists.get(key) {
            return Ok(list);
        }
        let prepared = PreparedBody { pieces: Vec::new(), whole: true, peeked: Peeked::Nothing };
        let path = match asked_one(self.parts.uri.path()) {
            None => self.parts.uri.path(),
            Some(_) if dialect == Dialect::Gemini => "/v1beta/models",
            Some(_) => "/v1/models",
        };
        // One page holds them all.
        let query = match dialect {
            Dialect::Anthropic => Some("limit=1000"),
            Dialect::Gemini => Some("pageSize=1000"),
            Dialect::Openai | Dialect::Dashscope => None,
        };
        let outgoing = Outgoing {
            parts: self.parts,
            path,
            query: query.map(Into::into),
            route: self.route,
            prepared,
            asks_for_usage: false,
            looks_inside: true,
            upgrade: None,
        };
        let mut plan = Plan::new(self.serving, vec![candidate], None, false, None, self.worker.sequence.next());
        let failover =
            Failover::new(self.worker, self.serving, &outgoing, Demand::default(), self.client_body, self.record);
        let accepted = failover.run(&mut plan).await?;
        let status = accepted.answer.head.status;
        let body = accepted.read_whole(LIST_LIMIT).await.filter(|_| status.is_success());
        let Some(list) = body.and_then(|body| parse_list(&body)) else {
            tracing::warn!(channel.id = %candidate.channel.id, %status, "the provider gave no list of models");
            return Err(Refusal::no_model_list());
        };
        let list: Arc<[ModelEntry]> = list.into();
        lists.put(key, list.clone());
        Ok(list)
    }
}

/// Whether a channel's `models` name everything it serves.
fn lists_itself(channel: &Channel) -> bool {
    !channel.models.is_empty() && !channel.models.iter().any(|rule| matches!(rule, ModelRule::Glob(_)))
}

/// The models of a channel under the names callers use: those of its provider's list that its rules serve, and those it
/// names itself.
fn served(channel: &Channel, list: &[ModelEntry]) -> Vec<ModelEntry> {
    if channel.models.is_empty() {
        return list.to_vec();
    }
    let is_glob = |rule: &&ModelRule| matches!(rule, ModelRule::Glob(_));
    let matches = |id: &str| channel.models.iter().filter(is_glob).any(|rule| route::serves(rule, id));
    let known = |name: &str| list.iter().find(|entry| entry.id == name);
    let named = channel.models.iter().filter_map(|rule| match rule {
        ModelRule::Exact(name) => Some(known(name).cloned().unwrap_or_else(|| ModelEntry::named(&**name))),
        ModelRule::Alias { alias, real } => {
            let entry = known(real).cloned().unwrap_or_default();
            Some(ModelEntry { id: alias.to_string(), display_name: None, raw: None, ..entry })
        }
        ModelRule::Glob(_) => None,
    });
    named.chain(list.iter().filter(|entry| matches(&entry.id)).cloned()).collect()
}

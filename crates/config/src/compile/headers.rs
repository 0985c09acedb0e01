//! `headers` and `user_agent` of a channel.

use std::collections::HashMap;

use aiproxy_core::Secret;

use super::checks::is_header_text;
use crate::context::Context;
use crate::form::{HeadersForm, Pairs, UrlPath};
use crate::tree::Place;

/// Headers that say how a message is delivered: the gateway's own business.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What happens to headers on their way to the upstream.
pub(super) struct Headers {
    /// To set, with their secrets filled in.
    pub(super) set: Box<[(Box<str>, Secret)]>,
    /// To remove, in lower case.
    pub(super) remove: Box<[Box<str>]>,
}

/// Compiles `headers`.
pub(super) fn compile(place: &Place<'_>, form: Option<HeadersForm>, context: &mut Context<'_>) -> Headers {
    let form = form.unwrap_or_default();
    let mut set = Vec::new();
    let set_place = place.key("set");
    for (name, value) in form.set.0 {
        let place = set_place.key(&name);
        check_name(&place, &name, context);
        if let Some(value) = context.expand(&place, &value) {
            check_value(&place, value.expose(), context);
            set.push((name, value));
        }
    }
    let remove_place = place.key("remove");
    let mut remove = Vec::new();
    for (index, name) in form.remove.into_iter().enumerate() {
        check_name(&remove_place.index(index), &name, context);
        remove.push(name.to_ascii_lowercase().into());
    }
    Headers { set: set.into(), remove: remove.into() }
}

/// Reports a value that cannot stand in a header.
pub(super) fn check_value(place: &Place<'_>, value: &str, context: &mut Context<'_>) {
    if !is_header_text(value) {
        let message =
            "a header value has only visible ASCII characters and inner spaces: no line breaks, no control characters";
        context.problems.error(place, message);
    }
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.starts_with("sec-websocket-")
}

fn check_name(place: &Place<'_>, name: &str, context: &mut Context<'_>) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        context.problems.error(place, "a header name has only ASCII letters, digits and `-`");
    } else if is_reserved(&name.to_ascii_lowercase()) {
        context.problems.error(place, "this header belongs to the connection; the gateway writes it itself");
    }
}

/// Client path to upstream path. Keys are checked here: the schema only sees the values.
pub(super) fn paths(place: &Place<'_>, form: Pairs<UrlPath>, context: &mut Context<'_>) -> HashMap<Box<str>, Box<str>> {
    for entry in place.node.map(crate::tree::Node::entries).unwrap_or_default() {
        if let Err(message) = UrlPath::parse(&entry.key) {
            context.problems.error(&place.entry(entry).at(entry.key_mark), message);
        }
    }
    form.0.into_iter().map(|(from, to)| (from, to.0)).collect()
}

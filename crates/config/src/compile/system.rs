//! `system` to [`System`].

use std::sync::Arc;

use aiproxy_core::Secret;
use aiproxy_llm::prices::PriceTable;

use super::checks::{check_key_text, deadline};
use super::rate::{rate_limit, retry_budget};
use super::{database, ledger, log, prices, realtime};
use crate::context::Context;
use crate::form::{ClientTimeoutsForm, OpenStats, ServerTlsForm, SystemForm};
use crate::read::read_checked;
use crate::snapshot::{ClientTimeouts, ServerTls, System};
use crate::tree::{Entry, Node, Place};

/// Admin tokens that everybody tries first.
const WELL_KNOWN_TOKENS: &[&str] =
    &["admin", "administrator", "changeme", "change-me", "default", "letmein", "password", "root", "secret", "test"];

/// What the section means.
#[derive(Default)]
pub(super) struct Process {
    pub(super) system: System,
    /// Stands in where neither a key nor its user says; part of each key in the snapshot.
    pub(super) failover: bool,
    pub(super) prices: Arc<PriceTable>,
}

/// Compiles the section. Where it is wrong, the defaults stand in.
pub(super) fn compile(section: Node, channels: &Node, context: &mut Context<'_>) -> Process {
    let mark = section.mark;
    let mut entry = Entry { key: "system".into(), key_mark: mark, node: section };
    let form = read_checked::<SystemForm>(&Place::ROOT, &mut entry, "System", &mut context.problems);
    let place = Place::section("system", mark, Some(&entry.node));
    let Some(mut form) = form else {
        return Process::default();
    };
    let prices = prices::compile(&place.key("prices"), form.prices.take(), channels, context);
    Process { failover: form.failover.unwrap_or(false), system: system(&place, form, context), prices }
}

fn system(place: &Place<'_>, form: SystemForm, context: &mut Context<'_>) -> System {
    let default = System::default();
    let admin = form.admin.unwrap_or_default();
    let admin_token = admin.token.and_then(|token| admin_token(&place.key("admin").key("token"), &token, context));
    let listen = form.listen.map(|listen| listen.as_slice().iter().map(|listen| listen.0).collect::<Vec<_>>());
    if listen.as_ref().is_some_and(Vec::is_empty) {
        context.problems.error(&place.key("listen"), "the list has no address");
    }
    let listen = listen.unwrap_or(default.listen);
    let admin_listen = admin.listen.map(|listen| listen.0);
    if admin_listen.is_some_and(|address| address.port() != 0 && listen.contains(&address)) {
        let place = place.key("admin");
        context.problems.error(&place.key("listen"), "is the callers' address too; leave it out to share the port");
    }
    let data_dir = context.resolve(form.data_dir.as_deref().unwrap_or("data"));
    let tls = form.tls.map(|tls| server_tls(&place.key("tls"), tls, context));
    for (name, size) in [("body_limit", form.body_limit), ("replay_limit", form.replay_limit)] {
        if size.is_some_and(|size| size.0 == 0) {
            context.problems.error(&place.key(name), "must be more than 0");
        }
    }
    let max_connections = form.max_connections.map_or(default.max_connections, |count| count as usize);
    let database = database::compile(&place.key("database"), form.database.as_ref(), &data_dir, context);
    let problems = &mut context.problems;
    let (client_abort, drain) = ledger::client_abort(&place.key("client_abort"), form.client_abort, problems);
    System {
        listen,
        admin_listen,
        admin_token,
        data_dir,
        tls,
        config_reload_interval: deadline(
            &place.key("config_reload_interval"),
            form.config_reload_interval,
            default.config_reload_interval,
            problems,
        ),
        log_level: form.log_level.map_or(default.log_level, |level| level.as_str().into()),
        max_connections,
        trusted_proxies: super::checks::networks(form.trusted_proxies),
        body_limit: form.body_limit.map_or(default.body_limit, |size| size.0),
        client_timeouts: client_timeouts(&place.key("timeouts"), form.timeouts.unwrap_or_default(), context),
        shutdown_timeout: deadline(
            &place.key("shutdown_timeout"),
            form.shutdown_timeout,
            default.shutdown_timeout,
            &mut context.problems,
        ),
        usage_injection: form.usage_injection.unwrap_or(default.usage_injection),
        log: log::compile(&place.key("log"), form.log.unwrap_or_default(), context),
        max_in_flight: form.max_in_flight.map_or(max_connections, |count| count as usize),
        rate_limit: rate_limit(&place.key("rate_limit"), form.rate_limit, &mut context.problems),
        retry_budget: retry_budget(form.retry_budget),
        replay_limit: form.replay_limit.map_or(default.replay_limit, |size| size.0),
        timezone: ledger::timezone(&place.key("timezone"), form.timezone.as_deref(), &mut context.problems),
        client_abort,
        drain,
        open_stats: form.open_stats == Some(OpenStats::Loopback),
        database,
        journal: ledger::journal(place, form.journal, form.on_journal_full, &mut context.problems),
        retention: ledger::retention(&place.key("retention"), form.retention, &mut context.problems),
        redact: ledger::redact(&place.key("redact"), form.redact, &mut context.problems),
        websocket: realtime::websocket(&place.key("websocket"), form.websocket, &mut context.problems),
        realtime: realtime::realtime(&place.key("realtime"), form.realtime, &mut context.problems),
    }
}

fn admin_token(place: &Place<'_>, written: &Secret, context: &mut Context<'_>) -> Option<Secret> {
    const SHORTEST: usize = 16;
    let token = context.expand(place, written)?;
    check_key_text(place, token.expose(), context);
    let lower = token.expose().to_lowercase();
    // `changemechangeme` is as well known as `changeme`.
    let is_well_known = WELL_KNOWN_TOKENS.iter().any(|known| lower.replace(known, "").is_empty());
    let is_one_character = lower.chars().all(|character| lower.starts_with(character));
    if is_well_known || is_one_character {
        context.problems.error(place, "is a word that everybody tries first; use e.g. `openssl rand -hex 24`");
    } else if lower.chars().count() < SHORTEST {
        let message = format!("has fewer than {SHORTEST} characters; use e.g. `openssl rand -hex 24`");
        context.problems.error(place, message);
    }
    Some(token)
}

/// The paths; both files are read, so that a missing one is found now and a renewed one later.
fn server_tls(place: &Place<'_>, form: ServerTlsForm, context: &mut Context<'_>) -> ServerTls {
    for (name, path, expected) in [("cert", &form.cert, "CERTIFICATE-----"), ("key", &form.key, "PRIVATE KEY-----")] {
        let place = place.key(name);
        let pem = context.read_side_file(&place, path);
        if pem.is_some_and(|pem| !pem.contains(expected)) {
            let what = if name == "cert" { "certificate" } else { "private key" };
            context.problems.error(&place, format!("the file has no {what} in PEM form"));
        }
    }
    ServerTls { cert: context.resolve(&form.cert), key: context.resolve(&form.key) }
}

fn client_timeouts(place: &Place<'_>, form: ClientTimeoutsForm, context: &mut Context<'_>) -> ClientTimeouts {
    let default = ClientTimeouts::default();
    let problems = &mut context.problems;
    ClientTimeouts {
        headers: deadline(&place.key("headers"), form.headers, default.headers, problems),
        body: deadline(&place.key("body"), form.body, default.body, problems),
        keep_alive: deadline(&place.key("keep_alive"), form.keep_alive, default.keep_alive, problems),
        write: deadline(&place.key("write"), form.write, default.write, problems),
    }
}

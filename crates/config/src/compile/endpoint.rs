//! Where a channel is reached: endpoints, outbound proxy, certificate rules, and the kind its host tells.

use aws_lc_rs::digest::{SHA256, digest};

use crate::context::Context;
use crate::form::{BaseUrl, ChannelForm, KindForm};
use crate::snapshot::{Endpoint, Kind, OutboundProxy, Status, Tls};
use crate::tree::Place;
use crate::url::{Url, outbound_proxy};

/// What an endpoint shares with the others of its channel.
pub(super) struct Route {
    proxy: Option<OutboundProxy>,
    tls: Tls,
}

impl Route {
    /// Reads `proxy` and `tls`.
    pub(super) fn compile(place: &Place<'_>, form: &ChannelForm, context: &mut Context<'_>) -> Self {
        let mut route = Self { proxy: None, tls: Tls::default() };
        if let Some(written) = &form.proxy {
            let place = place.key("proxy");
            match context.expand(&place, written).map(|text| outbound_proxy(text.expose())) {
                Some(Ok(proxy)) => route.proxy = Some(proxy),
                Some(Err(message)) => context.problems.error(&place, message),
                None => {}
            }
        }
        let Some(form) = &form.tls else {
            return route;
        };
        let place = place.key("tls");
        route.tls.insecure = form.insecure.unwrap_or(false);
        if route.tls.insecure {
            let place = place.key("insecure");
            context
                .problems
                .warning(&place, "any certificate is accepted: whoever is in between can read the real key");
        }
        if let Some(file) = &form.ca_file {
            let place = place.key("ca_file");
            let pem = context.read_side_file(&place, file);
            if pem.as_ref().is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
                context.problems.error(&place, "the file has no certificate in PEM form");
            }
            route.tls.ca_pem = pem.map(Into::into);
        }
        route
    }

    /// The endpoint at `url`.
    pub(super) fn endpoint(&self, url: &Url, weight: u32) -> Endpoint {
        Endpoint {
            https: url.secure,
            host: url.host.clone(),
            port: url.port,
            authority: url.authority(),
            path: url.path.clone(),
            weight,
            proxy: self.proxy.clone(),
            tls: self.tls.clone(),
            pool_key: pool_key(url, self),
        }
    }
}

/// All endpoints of a channel. None is reported, unless the channel is switched off.
pub(super) fn endpoints(
    place: &Place<'_>,
    form: &ChannelForm,
    status: Status,
    route: &Route,
    context: &mut Context<'_>,
) -> Box<[Endpoint]> {
    let problems = &mut context.problems;
    match (&form.base_url, &form.endpoints) {
        (Some(_), Some(_)) => {
            problems.error(&place.key("endpoints"), "write either `base_url` or `endpoints`, not both");
            Box::default()
        }
        (Some(BaseUrl(url)), None) => Box::new([route.endpoint(url, 1)]),
        (None, Some(list)) if !list.is_empty() => {
            list.iter().map(|item| route.endpoint(&item.base_url.0, item.weight.unwrap_or(1))).collect()
        }
        _ => {
            let is_broken = place.is_broken("base_url") || place.is_broken("endpoints");
            if status == Status::Active && !is_broken {
                problems.error(place, "`base_url` is missing, e.g. `base_url: https://api.openai.com`");
            }
            Box::default()
        }
    }
}

/// The kind written, or else the one the hosts tell.
pub(super) fn kind(
    place: &Place<'_>,
    written: Option<KindForm>,
    endpoints: &[Endpoint],
    context: &mut Context<'_>,
) -> Kind {
    if let Some(written) = written {
        return match written {
            KindForm::Openai => Kind::Openai,
            KindForm::Dashscope => Kind::Dashscope,
            KindForm::Anthropic => Kind::Anthropic,
            KindForm::Gemini => Kind::Gemini,
            KindForm::Vertex => Kind::Vertex,
            KindForm::Azure => Kind::Azure,
            KindForm::Bedrock => Kind::Bedrock,
            KindForm::Custom => Kind::Custom,
        };
    }
    let mut kinds = endpoints.iter().map(|endpoint| kind_of_host(&endpoint.host));
    let first = kinds.next().unwrap_or(Kind::Custom);
    if kinds.any(|kind| kind != first) {
        context
            .problems
            .error(&place.key("endpoints"), "the hosts are of different kinds; write `kind`, or two channels");
    }
    first
}

fn kind_of_host(host: &str) -> Kind {
    let host = host.strip_suffix('.').unwrap_or(host);
    match host {
        "api.openai.com" => Kind::Openai,
        "api.anthropic.com" => Kind::Anthropic,
        "generativelanguage.googleapis.com" => Kind::Gemini,
        _ if host.starts_with("dashscope") && host.ends_with(".aliyuncs.com") => Kind::Dashscope,
        _ if host.ends_with(".maas.aliyuncs.com") => Kind::Dashscope,
        _ if host.ends_with("aiplatform.googleapis.com") => Kind::Vertex,
        _ if host.ends_with(".openai.azure.com") => Kind::Azure,
        _ if host.starts_with("bedrock-runtime.") && host.ends_with(".amazonaws.com") => Kind::Bedrock,
        _ => Kind::Custom,
    }
}

/// Equal for two endpoints exactly if a connection to one is a connection to the other; the same in every process.
fn pool_key(url: &Url, route: &Route) -> u64 {
    let scheme = if url.secure { "https" } else { "http" };
    let mut parts = vec![scheme.to_owned(), url.host.to_string(), url.port.to_string()];
    if let Some(proxy) = &route.proxy {
        let (user, password) = proxy.credential.as_ref().map_or(("", ""), |(user, password)| (user, password));
        parts.extend([format!("{:?}", proxy.scheme), proxy.host.to_string(), proxy.port.to_string()]);
        parts.extend([user.to_owned(), password.to_owned()]);
    }
    parts.push(format!("insecure={}", route.tls.insecure));
    parts.push(route.tls.ca_pem.as_deref().unwrap_or_default().to_owned());
    let hash = digest(&SHA256, parts.join("\0").as_bytes());
    hash.as_ref().iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

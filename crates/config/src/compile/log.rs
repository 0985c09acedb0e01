//! `system.log` to [`Log`]: where records are written.

use std::path::PathBuf;
use std::time::Duration;

use aiproxy_core::Secret;

use super::checks::{size_within, within};
use crate::context::Context;
use crate::form::{
    LogFileChoice, LogFileForm, LogForm, ParquetChoice, ParquetForm, S3Form, Switch, WebhookChoice, WebhookEntry,
    WebhookForm,
};
use crate::snapshot::{Log, LogFile, Parquet, S3, Webhook};
use crate::tree::Place;
use crate::url::check_address;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const MEBIBYTE: u64 = 1 << 20;

/// Names of the other sinks.
const TAKEN: &[&str] = &["console", "file", "database", "parquet"];

/// Where records are written.
pub(super) fn compile(place: &Place<'_>, form: LogForm, context: &mut Context<'_>) -> Log {
    let default = Log::default();
    Log {
        console: form.console.unwrap_or(default.console),
        file: form.file.map(|file| log_file(&place.key("file"), file, context)),
        database: form.database.unwrap_or(default.database),
        webhooks: webhooks(&place.key("webhook"), form.webhook, context),
        parquet: form.parquet.and_then(|parquet| compile_parquet(&place.key("parquet"), parquet, context)),
    }
}

fn log_file(place: &Place<'_>, choice: LogFileChoice, context: &mut Context<'_>) -> LogFile {
    const DEFAULT_BYTES: u64 = 100 << 20;
    const SMALLEST_BYTES: u64 = 64 << 10;
    const DEFAULT_KEEP: usize = 10;
    let LogFileForm { path, max_size, keep, compress } = match choice {
        LogFileChoice::Path(path) => LogFileForm { path, max_size: None, keep: None, compress: None },
        LogFileChoice::Full(full) => full,
    };
    if path.trim().is_empty() {
        context.problems.error(place, "the path is empty");
    }
    let max_bytes = max_size.map_or(DEFAULT_BYTES, |size| size.0);
    if max_bytes < SMALLEST_BYTES {
        context.problems.error(&place.key("max_size"), "must be at least 64KiB");
    }
    LogFile {
        path: PathBuf::from(path),
        max_bytes,
        keep: keep.map_or(DEFAULT_KEEP, |count| count as usize),
        compress: compress.unwrap_or(false),
    }
}

fn webhooks(place: &Place<'_>, choice: Option<WebhookChoice>, context: &mut Context<'_>) -> Vec<Webhook> {
    let entries = match choice {
        None | Some(WebhookChoice::Switch(Switch(false))) => return Vec::new(),
        Some(WebhookChoice::Switch(Switch(true))) => {
            context.problems.error(place, "write the URL of the receiver");
            return Vec::new();
        }
        Some(WebhookChoice::One(entry)) => return webhook(place, 0, entry, context).into_iter().collect(),
        Some(WebhookChoice::Many(entries)) => entries,
    };
    let mut webhooks: Vec<Webhook> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let place = place.index(index);
        let Some(webhook) = webhook(&place, index, entry, context) else {
            continue;
        };
        if webhooks.iter().any(|other| other.name == webhook.name) {
            let message = format!("the name `{}` is used twice; give each receiver another", webhook.name);
            context.problems.error(&place.key("name"), message);
        }
        webhooks.push(webhook);
    }
    webhooks
}

fn webhook(place: &Place<'_>, index: usize, entry: WebhookEntry, context: &mut Context<'_>) -> Option<Webhook> {
    const DEFAULT_BATCH: usize = 500;
    let (place_of_url, form) = match entry {
        WebhookEntry::Url(url) => {
            let only =
                WebhookForm { name: None, url, secret: None, batch: None, interval: None, timeout: None, bodies: None };
            (*place, only)
        }
        WebhookEntry::Full(form) => (place.key("url"), form),
    };
    let secret = form.secret.and_then(|secret| context.expand(&place.key("secret"), &secret));
    let url = receiver(&place_of_url, &form.url, context);
    let name = form.name.unwrap_or_else(|| match index {
        0 => "webhook".to_owned(),
        index => format!("webhook-{}", index + 1),
    });
    check_name(&place.key("name"), &name, context);
    let problems = &mut context.problems;
    let shortest_timeout = Duration::from_millis(100);
    Some(Webhook {
        name: name.into(),
        url: url?,
        secret,
        batch: form.batch.map_or(DEFAULT_BATCH, |count| count as usize),
        interval: within(&place.key("interval"), form.interval, SECOND, Duration::ZERO..=HOUR, problems),
        timeout: within(&place.key("timeout"), form.timeout, 10 * SECOND, shortest_timeout..=300 * SECOND, problems),
        bodies: form.bodies.unwrap_or(false),
    })
}

fn receiver(place: &Place<'_>, written: &Secret, context: &mut Context<'_>) -> Option<Secret> {
    let url = context.expand(place, written)?;
    match check_address(url.expose()) {
        Ok(()) => Some(url),
        Err(message) => {
            context.problems.error(place, message);
            None
        }
    }
}

/// The name stands in metrics, and may in the name of a file.
fn check_name(place: &Place<'_>, name: &str, context: &mut Context<'_>) {
    const LONGEST: usize = 64;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if TAKEN.contains(&name) {
        context.problems.error(place, format!("`{name}` is the name of another place that records are written to"));
    } else if name.is_empty() || name.len() > LONGEST || name.starts_with('.') || !name.bytes().all(fits) {
        let message = format!("has up to {LONGEST} letters, digits, `-`, `_` and `.`, and does not start with `.`");
        context.problems.error(place, message);
    }
}

fn compile_parquet(place: &Place<'_>, choice: ParquetChoice, context: &mut Context<'_>) -> Option<Parquet> {
    let default = Parquet::default();
    let (place_of_directory, form) = match choice {
        ParquetChoice::Switch(Switch(is_on)) => return is_on.then_some(default),
        ParquetChoice::Directory(directory) => {
            (*place, ParquetForm { directory: Some(directory), ..ParquetForm::default() })
        }
        ParquetChoice::Full(form) => (place.key("directory"), form),
    };
    if form.directory.as_ref().is_some_and(|directory| directory.trim().is_empty()) {
        context.problems.error(&place_of_directory, "the path is empty");
    }
    let s3 = form.s3.and_then(|form| compile_s3(&place.key("s3"), form, context));
    let problems = &mut context.problems;
    Some(Parquet {
        directory: form.directory.map_or(default.directory, PathBuf::from),
        max_bytes: size_within(
            &place.key("max_size"),
            form.max_size,
            default.max_bytes,
            MEBIBYTE..=4096 * MEBIBYTE,
            problems,
        ),
        interval: within(&place.key("interval"), form.interval, default.interval, SECOND..=24 * HOUR, problems),
        s3,
    })
}

fn compile_s3(place: &Place<'_>, form: S3Form, context: &mut Context<'_>) -> Option<S3> {
    if let Some(endpoint) = &form.endpoint {
        let place = place.key("endpoint");
        if let Err(message) = check_address(endpoint) {
            context.problems.error(&place, message);
        } else if endpoint.contains(['@', '?']) {
            context.problems.error(&place, "an endpoint has no user name, password or query");
        }
    }
    if form.region.is_none() && form.endpoint.is_none() {
        context.problems.error(place, "`region` is missing, e.g. `region: eu-central-1`");
    }
    let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !(3..=255).contains(&form.bucket.len()) || !is_name(&form.bucket) {
        context.problems.error(&place.key("bucket"), "a bucket's name has 3 or more letters, digits, `-`, `_` and `.`");
    }
    if form.region.as_ref().is_some_and(|region| region.is_empty() || !is_name(region)) {
        context.problems.error(&place.key("region"), "a region's name has only letters, digits, `-`, `_` and `.`");
    }
    let prefix = form.prefix.as_deref().unwrap_or_default().trim_matches('/');
    if prefix.contains(char::is_control) || prefix.split('/').any(|part| part == "..") {
        context.problems.error(&place.key("prefix"), "a prefix has no control characters and no `..`");
    }
    let access_key_id = context.expand(&place.key("access_key_id"), &form.access_key_id);
    let secret_access_key = context.expand(&place.key("secret_access_key"), &form.secret_access_key);
    Some(S3 {
        endpoint: form.endpoint.map(|endpoint| endpoint.trim_end_matches('/').into()),
        region: form.region.unwrap_or_else(|| "us-east-1".to_owned()).into(),
        bucket: form.bucket.into(),
        prefix: prefix.into(),
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
    })
}

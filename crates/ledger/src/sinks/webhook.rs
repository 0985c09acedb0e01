//! Batches of records as JSON, posted to a receiver.
//!
//! ```text
//! POST <url>
//! Content-Type: application/json
//! User-Agent: AIProxy/<version>
//! X-AIProxy-Batch-Id: <32 hexadecimal digits>
//! X-AIProxy-Timestamp: <seconds since 1970-01-01 UTC>      only with a secret
//! X-AIProxy-Signature: sha256=<64 hexadecimal digits>      only with a secret
//!
//! {"records":[…],"bodies":[…]}
//! ```
//!
//! A receiver proves where a batch comes from by computing HMAC-SHA-256 with the secret over the timestamp as it was
//! sent, a full stop, and the body as it was sent; it compares in constant time, and refuses timestamps that are more
//! than some minutes off. Each try is signed anew.
//!
//! Any 2xx takes the batch. What was taken may come again where the answer was lost, and then with the same batch id, as
//! that is a digest of the body; or, after a restart, in other batches: the ids of the records tell.

mod verdict;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use aiproxy_core::{Secret, time};
use aws_lc_rs::{digest, hmac};
use reqwest::{Client, Response, Url, redirect};

use self::verdict::verdict;
use crate::batch::{Batch, Item};
use crate::cursor_file::{Cursor, CursorFile};
use crate::position::Position;
use crate::sink::{Appetite, Sink, SinkError};

/// Read of an answer, so that its connection can be used again; a longer one costs the connection.
const MOST_READ: usize = 64 << 10;
/// How long that may take. The batch is taken or not by then.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Where batches go, and how.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Name of the sink and its cursor.
    pub name: String,
    /// `http://` or `https://`. May hold a password or a token, so no more of it is ever told than host and port.
    pub url: Secret,
    /// Key of the signature; `None` leaves batches unsigned.
    pub secret: Option<Secret>,
    /// Most records and bodies in one batch.
    pub batch: usize,
    /// How long the first record of a batch may wait for others.
    pub interval: Duration,
    /// How long the receiver may take to answer, connecting included.
    pub timeout: Duration,
    /// Whether bodies are sent, too.
    pub bodies: bool,
    /// Directory of the cursors.
    pub cursor_directory: PathBuf,
}

/// Posts batches to a receiver.
pub struct WebhookSink {
    options: WebhookOptions,
    key: Option<hmac::Key>,
    cursor: CursorFile,
    position: Option<Position>,
    /// Made when it is needed first: what is wrong with the settings must not hold up the start.
    receiver: Option<Receiver>,
    /// The cursor could not be written; that is told once.
    forgetful: bool,
}

#[derive(Clone)]
struct Receiver {
    client: Client,
    url: Url,
    /// Scheme, host and port.
    label: String,
}

impl WebhookSink {
    /// A sink that posts as `options` say. Nothing is connected yet.
    #[must_use]
    pub fn new(options: WebhookOptions) -> Self {
        let cursor = CursorFile::new(&options.cursor_directory, &options.name);
        let key = options.secret.as_ref().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()));
        Self { options, key, cursor, position: None, receiver: None, forgetful: false }
    }

    fn receiver(&mut self) -> Result<Receiver, SinkError> {
        if let Some(receiver) = &self.receiver {
            return Ok(receiver.clone());
        }
        let receiver = Receiver::new(&self.options).map_err(SinkError::Unavailable)?;
        Ok(self.receiver.insert(receiver).clone())
    }

    async fn post(&mut self, body: Vec<u8>) -> Result<(), SinkError> {
        let receiver = self.receiver()?;
        let mut request = receiver
            .client
            .post(receiver.url.clone())
            .header("Content-Type", "application/json")
            .header("X-AIProxy-Batch-Id", hexadecimal(&digest::digest(&digest::SHA256, &body).as_ref()[..16]));
        if let Some(key) = &self.key {
            let timestamp = (time::unix_ms() / 1000).to_string();
            request = request
                .header("X-AIProxy-Signature", format!("sha256={}", signature(key, &timestamp, &body)))
                .header("X-AIProxy-Timestamp", timestamp);
        }
        let response =
            request.body(body).send().await.map_err(|error| receiver.failure(&error, self.options.timeout))?;
        let verdict = verdict(response.status().as_u16(), response.headers());
        read(response).await;
        verdict.map_err(|error| match error {
            SinkError::Unavailable(why) => SinkError::Unavailable(format!("{} {why}", receiver.label)),
            SinkError::Rejected(why) => SinkError::Rejected(format!("{} {why}", receiver.label)),
        })
    }

    /// What the receiver took it has: a disk that does not take the cursor is no reason to send it again now.
    fn remember(&mut self, position: &Position) {
        self.position = Some(position.clone());
        let remembered = self.cursor.write(&Cursor { position: self.position.clone(), state: () });
        if let Err(error) = &remembered
            && !self.forgetful
        {
            tracing::warn!(sink = self.options.name, %error, "the cursor cannot be written");
        }
        self.forgetful = remembered.is_err();
    }
}

impl Sink for WebhookSink {
    fn name(&self) -> &str {
        &self.options.name
    }

    async fn resume(&mut self) -> Result<Option<Position>, SinkError> {
        if self.position.is_none() {
            let cursor = self.cursor.read::<()>().map_err(|error| SinkError::Unavailable(error.to_string()))?;
            self.position = cursor.and_then(|cursor| cursor.position);
        }
        Ok(self.position.clone())
    }

    async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        if let Some(body) = body(batch, self.options.bodies) {
            self.post(body).await?;
        }
        self.remember(&batch.position);
        Ok(())
    }

    fn appetite(&self) -> Appetite {
        Appetite {
            frames: self.options.batch.max(1),
            linger_ms: u64::try_from(self.options.interval.as_millis()).unwrap_or(u64::MAX),
            bodies: self.options.bodies,
            ..Appetite::default()
        }
    }
}

impl Receiver {
    fn new(options: &WebhookOptions) -> Result<Self, String> {
        // The error of a URL does not repeat it.
        let url = Url::parse(options.url.expose()).map_err(|error| format!("its URL cannot be used: {error}"))?;
        let host = url.host_str().ok_or("its URL has no host")?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let label = format!("{}://{host}{port}", url.scheme());
        let builder = if url.scheme() == "http" {
            // A system without any authorities, a bare container, has no say in this.
            Client::builder().tls_certs_only([])
        } else {
            Client::builder()
        };
        let client = builder
            .user_agent(concat!("AIProxy/", env!("CARGO_PKG_VERSION")))
            // Records go where the config says, and nowhere else: neither where an answer points to nor through a proxy
            // that happens to be in the environment.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(options.timeout)
            .timeout(options.timeout)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| format!("{label}: no client: {}", innermost(&error.without_url())))?;
        Ok(Self { client, url, label })
    }

    fn failure(&self, error: &reqwest::Error, timeout: Duration) -> SinkError {
        let label = &self.label;
        SinkError::Unavailable(match error {
            error if error.is_timeout() => format!("{label} did not answer within {timeout:?}"),
            error if error.is_connect() => format!("{label} cannot be reached: {}", innermost(error)),
            error => format!("{label} broke off: {}", innermost(error)),
        })
    }
}

/// The error below all errors. Those above it may repeat the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut innermost = error.source();
    while let Some(source) = innermost.and_then(Error::source) {
        innermost = Some(source);
    }
    innermost.map_or_else(|| "unknown".to_string(), ToString::to_string)
}

/// What is posted; `None` if there is nothing to tell.
fn body(batch: &Batch, with_bodies: bool) -> Option<Vec<u8>> {
    let (mut records, mut bodies) = (b"{\"records\":[".to_vec(), Vec::new());
    let mut is_empty = true;
    for item in batch.items() {
        let list = match item {
            Item::Record(entry) => {
                entry.write_json(&mut records);
                &mut records
            }
            Item::Bodies(said) if with_bodies => {
                said.write_json(&mut bodies);
                &mut bodies
            }
            Item::Bodies(_) => continue,
        };
        is_empty = false;
        // In the place of the line break.
        list.pop();
        list.push(b',');
    }
    if records.ends_with(b",") {
        records.pop();
    }
    bodies.pop();
    records.extend_from_slice(b"],\"bodies\":[");
    records.append(&mut bodies);
    records.extend_from_slice(b"]}");
    (!is_empty).then_some(records)
}

fn signature(key: &hmac::Key, timestamp: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body);
    hexadecimal(context.sign().as_ref())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn read(mut response: Response) {
    let mut length = 0;
    let reading = async {
        while length < MOST_READ
            && let Ok(Some(chunk)) = response.chunk().await
        {
            length += chunk.len();
        }
    };
    // The status has said it all.
    tokio::time::timeout(READ_TIMEOUT, reading).await.ok();
}

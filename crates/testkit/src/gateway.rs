//! A gateway whose clients and upstreams are in memory.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aiproxy_config::key_digest;
use aiproxy_config::snapshot::Snapshot;
use aiproxy_core::tasks::Tasks;
use aiproxy_gateway::server::connection::{Port, serve_connection};
use aiproxy_gateway::server::worker::look_after_sessions;
use aiproxy_gateway::state::{Gateway, RecordSink, Worker};
use aiproxy_ledger::Entry;
use aiproxy_ledger::capture::Captured;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use crate::reply::Reply;
use crate::script::Upstream;
use crate::socket::Socket;

/// The admin token of every test gateway.
pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests";

/// Keeps every record as the JSON it is written as, the bodies that were captured, and how open calls stood.
#[derive(Default)]
struct Records {
    lines: Mutex<Vec<Vec<u8>>>,
    bodies: Mutex<Vec<Captured>>,
    checkpoints: Mutex<Vec<(Instant, Vec<u8>)>>,
    forgotten: Mutex<Vec<[u8; 16]>>,
}

impl RecordSink for Records {
    fn emit(&self, entry: &Entry<'_>) {
        let mut line = Vec::new();
        entry.write_json(&mut line);
        self.lines.lock().unwrap().push(line);
    }

    fn checkpoint(&self, entry: &Entry<'_>) {
        let mut line = Vec::new();
        entry.write_json(&mut line);
        self.checkpoints.lock().unwrap().push((Instant::now(), line));
    }

    fn forget(&self, id: &[u8; 16]) {
        self.forgotten.lock().unwrap().push(*id);
    }

    fn keep_bodies(&self, captured: Captured) {
        self.bodies.lock().unwrap().push(captured);
    }
}

/// A gateway in memory.
pub struct TestGateway {
    worker: Arc<Worker>,
    records: Arc<Records>,
    tasks: Tasks,
    /// What runs beside connections, for as long as the test does.
    beside: Tasks,
}

impl TestGateway {
    /// A gateway with `config` (YAML, as a user writes it) in front of `upstream`.
    ///
    /// Its dice are loaded: the same test sees the same choices each time.
    pub fn new(config: &str, upstream: &Upstream) -> Self {
        fastrand::seed(7);
        let records = Arc::new(Records::default());
        let gateway =
            Gateway::new(snapshot(config), Arc::new(upstream.clone()), records.clone(), key_digest(ADMIN_TOKEN));
        let worker = Worker::new(gateway);
        let tasks = worker.tasks.clone();
        Self { worker, records, tasks, beside: Tasks::new() }
    }

    /// The shared state.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.worker.gateway
    }

    /// Puts another config in force.
    pub fn reload(&self, config: &str) {
        self.worker.gateway.swap(snapshot(config));
    }

    /// Stops accepting calls on open connections.
    pub fn stop(&self) {
        self.worker.gateway.drain();
        self.tasks.stop();
    }

    /// Waits until no connection is left.
    pub async fn finished_within(&self, deadline: std::time::Duration) -> bool {
        self.tasks.finished_within(deadline).await
    }

    /// A new client connection from `198.51.100.7`.
    pub fn connect(&self) -> Client {
        self.connect_from("198.51.100.7:40000", Port::Both, false)
    }

    /// A new client connection.
    pub fn connect_from(&self, peer: &str, port: Port, overloaded: bool) -> Client {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let peer: SocketAddr = peer.parse().unwrap();
        self.tasks.spawn(serve_connection(self.worker.clone(), self.tasks.clone(), theirs, peer, port, overloaded));
        Client(ours)
    }

    /// From now on sockets that may not go on are told so, as a worker does it.
    pub fn look_after_sessions(&self) {
        let worker = self.worker.clone();
        self.beside.spawn(async move { look_after_sessions(&worker).await });
    }

    /// Opens a WebSocket on a new connection, or returns what was answered instead.
    pub async fn socket(&self, path: &str, headers: &[(&str, &str)]) -> Result<Socket, Reply> {
        Socket::open(self.connect().0, path, headers).await
    }

    /// Sends one request on a new connection and reads its response.
    pub async fn call(&self, request: &str) -> Reply {
        self.connect().call(request).await
    }

    /// The records written so far. Lets the gateway finish what it is doing first.
    pub async fn records(&self) -> Vec<Value> {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let lines = self.records.lines.lock().unwrap();
        lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// Takes the bodies captured so far. Lets the gateway finish what it is doing first.
    pub async fn captured(&self) -> Vec<Captured> {
        self.records().await;
        std::mem::take(&mut *self.records.bodies.lock().unwrap())
    }

    /// When and how open calls were kept so far.
    pub async fn checkpoints(&self) -> Vec<(Instant, Value)> {
        self.records().await;
        let checkpoints = self.records.checkpoints.lock().unwrap();
        checkpoints.iter().map(|(at, line)| (*at, serde_json::from_slice(line).unwrap())).collect()
    }

    /// The ids of the calls whose kept state was dropped again, as hexadecimal digits.
    pub fn forgotten(&self) -> Vec<String> {
        let forgotten = self.records.forgotten.lock().unwrap();
        forgotten.iter().map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
    }

    /// The record written last.
    pub async fn last_record(&self) -> Value {
        self.records().await.pop().unwrap_or_else(|| panic!("no record was written"))
    }

    /// The only record written so far.
    pub async fn record(&self) -> Value {
        let records = self.records().await;
        assert_eq!(records.len(), 1, "exactly one record per call: {records:#?}");
        records[0].clone()
    }
}

/// A snapshot from YAML; any error in it fails the test.
pub fn snapshot(config: &str) -> Snapshot {
    let loaded =
        aiproxy_config::load_text("test.yaml".as_ref(), config.into(), &|_| None, aiproxy_core::time::unix_ms());
    loaded.snapshot.unwrap_or_else(|| panic!("{:#?}", loaded.problems))
}

/// A client connection.
pub struct Client(pub DuplexStream);

impl Client {
    /// Sends bytes as they are.
    pub async fn send(&mut self, request: impl AsRef<[u8]>) {
        // A gateway that has refused and closed already is what some tests are about.
        self.0.write_all(request.as_ref()).await.ok();
    }

    /// Sends a request and reads its response.
    pub async fn call(&mut self, request: &str) -> Reply {
        self.send(request).await;
        self.reply().await
    }

    /// Reads one response.
    pub async fn reply(&mut self) -> Reply {
        Reply::read(&mut self.0).await.unwrap_or_else(|| panic!("the gateway closed without a response"))
    }

    /// Reads until `text` came; everything read so far.
    pub async fn read_until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            seen.push(self.0.read_u8().await.unwrap_or_else(|_| panic!("ended: {}", String::from_utf8_lossy(&seen))));
            if seen.ends_with(text.as_bytes()) {
                return String::from_utf8_lossy(&seen).into_owned();
            }
        }
    }

    /// Reads whatever comes until the gateway closes.
    pub async fn read_to_end(&mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.ok();
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// A `POST` with a JSON body and the given key.
pub fn post(path: &str, key: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A `GET` with the given key.
pub fn get(path: &str, key: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\r\n")
}

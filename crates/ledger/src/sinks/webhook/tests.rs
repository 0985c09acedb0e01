use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver as Requests, channel};
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::sinks::testing::{Directory, Frames, entry};

/// A request as the receiver got it.
struct Request {
    head: String,
    body: Vec<u8>,
    /// Its connection stays open until the test is over.
    _stream: Option<TcpStream>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn ids(&self, list: &str) -> Vec<String> {
        let value: Value = serde_json::from_slice(&self.body).unwrap();
        value[list].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_string()).collect()
    }
}

/// What the receiver does with one connection.
#[derive(Clone)]
enum Reply {
    /// Answers.
    Text(&'static str),
    /// Refuses batches with this record, takes others.
    RefuseRecord(u32),
    /// Reads the request, and says nothing.
    Hang,
    /// Closes without an answer.
    Close,
    /// Takes the batch, and sends a body for ever.
    Drip,
    /// Takes the batch, and sends the half of a body.
    Stall,
}

const OK: Reply = Reply::Text("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
const BROKEN: Reply =
    Reply::Text("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");

/// A receiver that serves one connection after the other by its script.
fn receiver(script: Vec<Reply>) -> (String, Requests<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:test-password@{}/hook?token=test-token", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for reply in script {
            let (stream, _) = listener.accept().unwrap();
            let mut request = read_request(&stream);
            answer(&stream, &reply, &request);
            request._stream = Some(stream).filter(|_| !matches!(reply, Reply::Close));
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (url, requests)
}

fn read_request(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0);
    }
    let mut request = Request { head, body: Vec::new(), _stream: None };
    let length = request.header("content-length").unwrap().parse().unwrap();
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body).unwrap();
    request
}

fn answer(mut stream: &TcpStream, reply: &Reply, request: &Request) {
    match reply {
        Reply::Text(text) => stream.write_all(text.as_bytes()).unwrap(),
        Reply::RefuseRecord(number) => {
            let refused = request.ids("records").contains(&entry(*number).id_text());
            let status = if refused { "422 Unprocessable Content" } else { "204 No Content" };
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
        Reply::Hang | Reply::Close => {}
        Reply::Stall => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").unwrap(),
        Reply::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
            let stream = stream.try_clone().unwrap();
            std::thread::spawn(move || while (&stream).write_all(b"1\r\na\r\n").is_ok() {});
        }
    }
}

fn options(directory: &Directory, url: String) -> WebhookOptions {
    WebhookOptions {
        name: "webhook".to_string(),
        url: Secret::from(url),
        secret: None,
        batch: 500,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(20),
        bodies: true,
        cursor_directory: directory.path("cursors"),
    }
}

fn why(result: Result<(), SinkError>) -> String {
    let why = result.unwrap_err().to_string();
    assert!(!why.contains("test-password") && !why.contains("test-token") && !why.contains("/hook"), "{why}");
    why
}

#[tokio::test]
async fn a_batch_is_posted_with_its_records_and_bodies() {
    let directory = Directory::new("webhook");
    let (url, requests) = receiver(vec![OK]);
    let mut sink = WebhookSink::new(options(&directory, url));
    assert_eq!(sink.resume().await, Ok(None));
    let batch = Frames::new(2, true, entry).after(None, 3);
    sink.write(&batch).await.unwrap();
    let request = requests.recv().unwrap();
    assert!(request.head.starts_with("POST /hook?token=test-token HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("user-agent"), Some(concat!("AIProxy/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(request.header("authorization"), Some("Basic dXNlcjp0ZXN0LXBhc3N3b3Jk"));
    assert_eq!((request.header("x-aiproxy-signature"), request.header("x-aiproxy-timestamp")), (None, None));
    assert_eq!(request.ids("records"), [entry(0).id_text(), entry(1).id_text()]);
    assert_eq!(request.ids("bodies"), [entry(0).id_text()]);
    let position = WebhookSink::new(options(&directory, "http://unused.test".to_string())).resume().await;
    assert_eq!(position, Ok(Some(batch.position)));
}

#[tokio::test]
async fn bodies_are_left_out_where_they_are_not_wanted() {
    let directory = Directory::new("webhook");
    let (url, requests) = receiver(vec![OK]);
    let frames = Frames::new(1, true, entry);
    let mut sink = WebhookSink::new(WebhookOptions { bodies: false, ..options(&directory, url) });
    assert!(!sink.appetite().bodies);
    sink.write(&frames.after(None, 2)).await.unwrap();
    let mut record = Vec::new();
    entry(0).write_json(&mut record);
    let expected = format!("{{\"records\":[{}],\"bodies\":[]}}", String::from_utf8(record).unwrap().trim_end());
    assert_eq!(String::from_utf8(requests.recv().unwrap().body).unwrap(), expected);
    // Nothing is left of this one: it is remembered without a word to the receiver.
    let only_bodies = frames.after(None, 2).part(1..2);
    sink.write(&only_bodies).await.unwrap();
    assert_eq!(sink.resume().await, Ok(Some(only_bodies.position)));
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn a_receiver_can_prove_the_signature() {
    let directory = Directory::new("webhook");
    let (url, requests) = receiver(vec![OK]);
    let secret = Some(Secret::from("test-signing-secret".to_string()));
    let mut sink = WebhookSink::new(WebhookOptions { secret, ..options(&directory, url) });
    sink.write(&Frames::new(3, false, entry).after(None, 3)).await.unwrap();
    let request = requests.recv().unwrap();
    let timestamp = request.header("x-aiproxy-timestamp").unwrap();
    assert!(timestamp.parse::<u64>().unwrap().abs_diff(time::unix_ms() / 1000) < 60);
    let signed = [timestamp.as_bytes(), b".", &request.body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"test-signing-secret"), &signed);
    let expected: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(request.header("x-aiproxy-signature"), Some(&*format!("sha256={expected}")));
}

/// RFC 4231, test case 2, whose text happens to be made of two parts with something between them.
#[test]
fn the_signature_is_that_of_the_standard() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
    let expected = hexadecimal(hmac::sign(&key, b"17.body").as_ref());
    assert_eq!(signature(&key, "17", b"body"), expected);
    let standard = hexadecimal(hmac::sign(&key, b"what do ya want for nothing?").as_ref());
    assert_eq!(standard, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

#[tokio::test]
async fn what_fails_is_sent_again_with_the_same_batch_id() {
    let directory = Directory::new("webhook");
    let busy = Reply::Text(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
    let (url, requests) = receiver(vec![BROKEN, busy, Reply::Close, OK]);
    let label = format!("http://{}", url.split(['@', '/']).nth(3).unwrap());
    let mut sink = WebhookSink::new(options(&directory, url));
    let frames = Frames::new(4, false, entry);
    let batch = frames.after(None, 4);
    assert_eq!(why(sink.write(&batch).await), format!("unavailable: {label} cannot take it now (500)"));
    assert_eq!(why(sink.write(&batch).await), format!("unavailable: {label} cannot take it now, but in 3 s (429)"));
    assert!(why(sink.write(&batch).await).starts_with(&format!("unavailable: {label} broke off: ")));
    assert_eq!(sink.resume().await, Ok(None));
    sink.write(&batch).await.unwrap();
    let ids: Vec<_> =
        requests.iter().map(|request| request.header("x-aiproxy-batch-id").unwrap().to_string()).collect();
    assert_eq!((ids.len(), ids[0].len()), (4, 32));
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(sink.resume().await, Ok(Some(batch.position)));
}

#[tokio::test]
async fn a_record_that_is_refused_can_be_found_by_halving() {
    let directory = Directory::new("webhook");
    let (url, requests) = receiver(vec![Reply::RefuseRecord(1); 3]);
    let mut sink = WebhookSink::new(options(&directory, url));
    let batch = Frames::new(4, false, entry).after(None, 4);
    assert!(matches!(sink.write(&batch).await, Err(SinkError::Rejected(_))));
    assert!(why(sink.write(&batch.part(0..2)).await).ends_with("refuses it (422)"));
    // A part has an id of its own, although it ends where the whole did.
    sink.write(&batch.part(2..4)).await.unwrap();
    let ids: Vec<_> =
        requests.iter().map(|request| request.header("x-aiproxy-batch-id").unwrap().to_string()).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let directory = Directory::new("webhook");
    let moved = Reply::Text(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
    let (url, requests) = receiver(vec![moved, OK]);
    let mut sink = WebhookSink::new(options(&directory, url));
    let batch = Frames::new(1, false, entry).after(None, 1);
    assert!(why(sink.write(&batch).await).contains("redirects, which is not followed"));
    assert!(requests.recv().unwrap().head.starts_with("POST /hook"));
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_no_longer_than_the_timeout() {
    let directory = Directory::new("webhook");
    let (url, _requests) = receiver(vec![Reply::Hang]);
    let timeout = Duration::from_millis(200);
    let mut sink = WebhookSink::new(WebhookOptions { timeout, ..options(&directory, url) });
    let started = time::now();
    let why = why(sink.write(&Frames::new(1, false, entry).after(None, 1)).await);
    assert!(why.ends_with("did not answer within 200ms"), "{why}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let directory = Directory::new("webhook");
    let (url, _requests) = receiver(vec![Reply::Drip, Reply::Stall]);
    let mut sink = WebhookSink::new(options(&directory, url));
    let started = time::now();
    for number in 0..2 {
        sink.write(&Frames::new(2, false, entry).after(None, 2).part(number..number + 1)).await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_waited_for() {
    let directory = Directory::new("webhook");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let batch = Frames::new(1, false, entry).after(None, 1);
    let url = format!("http://user:test-password@{address}/hook?token=test-token");
    let why_not = why(WebhookSink::new(options(&directory, url)).write(&batch).await);
    assert!(why_not.starts_with(&format!("unavailable: http://{address} cannot be reached: ")), "{why_not}");
    for url in ["no url with test-token", "http://:0/hook?test-token", "data:test-token"] {
        why(WebhookSink::new(options(&directory, url.to_string())).write(&batch).await);
    }
}

#[tokio::test]
async fn what_was_taken_is_not_sent_again_because_the_disk_is_full() {
    let directory = Directory::new("webhook");
    std::fs::write(directory.path("cursors"), "no directory").unwrap();
    let (url, _requests) = receiver(vec![OK]);
    let mut sink = WebhookSink::new(options(&directory, url));
    let batch = Frames::new(1, false, entry).after(None, 1);
    sink.write(&batch).await.unwrap();
    assert_eq!(sink.resume().await, Ok(Some(batch.position)));
}

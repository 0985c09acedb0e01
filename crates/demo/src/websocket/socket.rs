//! The socket side of a conversation: one task reads messages, asks the dialogue and sends what it says.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aiproxy_core::tasks::Tasks;
use aiproxy_core::time::{self, Instant};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::{Conversation, Dialogue, Outbox, Step};

const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;
/// Small, as most sockets carry little at a time and a benchmark opens thousands.
const READ_BUFFER: usize = 16 * 1024;
/// A provider ends a connection after an hour.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// How long the peer may take to read one message.
const SLOWEST_READER: Duration = Duration::from_secs(60);
/// How long the peer may take to answer a close.
const GOODBYE: Duration = Duration::from_secs(1);
/// A text frame that promises 256 bytes and ends after some of them.
const HALF_FRAME: &[u8] = b"\x81\x7e\x01\x00{\"type\":\"response.output_te";

type Socket<S> = WebSocketStream<S>;

/// Talks on an upgraded connection until one side closes it, an hour has passed or `tasks` stop.
pub(crate) async fn converse(upgraded: Upgraded, conversation: Conversation, pace: Duration, tasks: Tasks) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let Conversation { mut dialogue, heard } = conversation;
    let mut outbox = Outbox::default();
    dialogue.opening(&mut outbox);
    let now = time::now();
    let talk = Talk { socket, dialogue, heard, outbox, pace, due: now, flush_until: None, ends_at: now + LONGEST };
    talk.run(tasks).await;
}

/// A conversation that is going on.
struct Talk<S> {
    socket: Socket<S>,
    dialogue: Box<dyn Dialogue>,
    heard: Option<broadcast::Receiver<Arc<str>>>,
    outbox: Outbox,
    pace: Duration,
    /// When the next step may be done.
    due: Instant,
    /// Until when what was written must have left; none if it has.
    flush_until: Option<Instant>,
    ends_at: Instant,
}

/// What happened on the socket.
enum Turn {
    Came(Option<Result<Message, Error>>),
    Flushed(Result<(), Error>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    async fn run(mut self, tasks: Tasks) {
        loop {
            let has_room = self.outbox.has_room();
            let is_flushing = self.flush_until.is_some();
            let is_writable = !is_flushing && !self.outbox.is_empty();
            let give_up_at = self.flush_until.unwrap_or(self.ends_at);
            tokio::select! {
                turn = turn(&mut self.socket, is_flushing, has_room) => match turn {
                    Turn::Flushed(Ok(())) => self.flush_until = None,
                    Turn::Came(Some(Ok(message))) => {
                        if self.answer(message).is_none() {
                            return self.part(None).await;
                        }
                    }
                    Turn::Came(Some(Err(error))) => return self.part(close_after(&error)).await,
                    Turn::Came(None) | Turn::Flushed(Err(_)) => return,
                },
                () = until(self.due), if is_writable => match self.outbox.pop() {
                    Some(Step::Close(code, reason)) => return self.part(Some((code, reason))).await,
                    Some(Step::Break) => return self.cut().await,
                    Some(step) => {
                        let sent = self.send(step);
                        if sent.is_err() {
                            return;
                        }
                    }
                    None => {}
                },
                text = next(&mut self.heard), if has_room => match text {
                    Ok(text) => self.outbox.push(Step::Text(Utf8Bytes::from(&*text))),
                    Err(RecvError::Closed) => {
                        self.heard = None;
                        self.outbox.push(Step::Close(1000, "the call has ended".to_owned()));
                    }
                    Err(RecvError::Lagged(_)) => {
                        return self.part(Some((1011, "too slow to keep up with the call".to_owned()))).await;
                    }
                },
                () = tasks.stopped() => {
                    return self.part(Some((1001, "the demo upstream is going away".to_owned()))).await;
                }
                () = tokio::time::sleep_until(give_up_at) => match is_flushing {
                    true => return,
                    false => return self.part(Some((1001, "an hour has passed".to_owned()))).await,
                },
            }
        }
    }

    /// Lets the dialogue answer; none if the peer has closed.
    fn answer(&mut self, message: Message) -> Option<()> {
        match message {
            Message::Text(text) => self.dialogue.text(&text, &mut self.outbox),
            Message::Binary(bytes) => self.dialogue.binary(&bytes, &mut self.outbox),
            // tungstenite has written the pong; it must leave.
            Message::Ping(_) => {
                self.flush_until.get_or_insert_with(|| time::now() + SLOWEST_READER);
            }
            Message::Pong(_) | Message::Frame(_) => {}
            Message::Close(_) => return None,
        }
        Some(())
    }

    /// Writes one step; it leaves while the loop goes on.
    fn send(&mut self, step: Step) -> Result<(), Error> {
        let now = time::now();
        let (message, pause) = match step {
            Step::Event(event) => match self.dialogue.worded(event) {
                Some(event) => (Message::Text(event.to_string().into()), self.pace),
                None => return Ok(()),
            },
            Step::BinaryEvent(event) => (Message::Binary(event.to_string().into()), self.pace),
            Step::Text(text) => (Message::Text(text), Duration::ZERO),
            Step::Binary(bytes) => (Message::Binary(bytes), Duration::ZERO),
            Step::Pause(pause) => {
                self.due = now + pause;
                return Ok(());
            }
            // The loop does these itself.
            Step::Close(..) | Step::Break => return Ok(()),
        };
        self.due = now + pause;
        self.flush_until = Some(now + SLOWEST_READER);
        self.socket.start_send_unpin(message)
    }

    /// Closes the socket with `close`, or answers the close of the peer, then reads until the peer has gone.
    async fn part(mut self, close: Option<(u16, String)>) {
        let farewell = async {
            let said = match close {
                Some((code, reason)) => {
                    self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await
                }
                // tungstenite holds the answer ready.
                None => self.socket.flush().await,
            };
            // An error is as good an end as any.
            if said.is_err() {
                return;
            }
            while let Some(Ok(_)) = self.socket.next().await {}
            // What a peer that broke the rules still sends is read, so that the reset does not overtake our close.
            let stream = self.socket.get_mut();
            let mut scrap = vec![0; READ_BUFFER];
            if stream.shutdown().await.is_ok() {
                while stream.read(&mut scrap).await.is_ok_and(|count| count > 0) {}
            }
        };
        tokio::time::timeout(GOODBYE, farewell).await.ok();
    }

    /// Ends the connection in the middle of a frame.
    async fn cut(mut self) {
        let half = async {
            let stream = self.socket.get_mut();
            stream.write_all(HALF_FRAME).await?;
            stream.flush().await
        };
        tokio::time::timeout(GOODBYE, half).await.ok();
    }
}

/// Waits until what was written has left or (if `may_read`) a message has come. May be dropped at any time.
async fn turn<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>, is_flushing: bool, may_read: bool) -> Turn {
    poll_fn(|context| {
        if is_flushing && let Poll::Ready(flushed) = socket.poll_flush_unpin(context) {
            return Poll::Ready(Turn::Flushed(flushed));
        }
        if may_read && let Poll::Ready(message) = socket.poll_next_unpin(context) {
            return Poll::Ready(Turn::Came(message));
        }
        Poll::Pending
    })
    .await
}

/// Waits for a moment. One that has passed costs no timer, which would be late by up to a millisecond.
async fn until(moment: Instant) {
    if time::now() < moment {
        tokio::time::sleep_until(moment).await;
    }
}

/// What a call says next; waits forever where there is none.
async fn next(heard: &mut Option<broadcast::Receiver<Arc<str>>>) -> Result<Arc<str>, RecvError> {
    match heard {
        Some(heard) => heard.recv().await,
        None => std::future::pending().await,
    }
}

/// The close that tells a peer what it did wrong; none if it is gone.
fn close_after(error: &Error) -> Option<(u16, String)> {
    let (code, reason) = match error {
        Error::Capacity(_) => (1009, "the message is too big"),
        Error::Utf8(_) => (1007, "the text is not UTF-8"),
        Error::Protocol(_) => (1002, "the frames violate RFC 6455"),
        _ => return None,
    };
    Some((code, reason.to_owned()))
}

//! WebSocket frames as the tests see them: whole, unmasked, one by one. The framing is the gateway's own decoder and
//! encoder, which have their own tests against the RFC.

use aiproxy_llm::websocket::{Close, Control, Decoder, Kind, Opcode, Piece, Sender, encode, encode_close};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Larger than any message of a test.
const MESSAGE_LIMIT: u64 = 1 << 30;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// A frame of a fragmented message.
    Fragment {
        /// `Text` or `Binary` in the first one, `Continuation` in the others.
        opcode: Opcode,
        /// Whether FIN is set.
        is_last: bool,
        /// Unmasked.
        payload: Vec<u8>,
    },
    /// The goodbye, with code and reason if it has them.
    Close(Option<(u16, String)>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// What is no WebSocket frame, in a word. Nothing is read behind it.
    Garbled(&'static str),
}

impl Frame {
    /// A whole text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A goodbye.
    pub fn close(code: u16, reason: &str) -> Self {
        Self::Close(Some((code, reason.into())))
    }

    /// The text of a text message, or nothing.
    pub fn as_text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    /// The text message as JSON, or null.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.as_text()).unwrap_or_default()
    }

    /// The code of a goodbye.
    pub fn code(&self) -> Option<u16> {
        if let Self::Close(Some((code, _))) = self { Some(*code) } else { None }
    }

    /// Its bytes on the wire: masked, if a mask is given.
    pub fn encode(&self, mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut wire = Vec::new();
        match self {
            Self::Text(text) => encode(Opcode::Text, text.as_bytes(), mask, &mut wire),
            Self::Binary(payload) => encode(Opcode::Binary, payload, mask, &mut wire),
            Self::Fragment { opcode, is_last, payload } => {
                encode(*opcode, payload, mask, &mut wire);
                if !is_last {
                    wire[0] &= 0x7F;
                }
            }
            Self::Close(close) => {
                let close = close.as_ref().map(|(code, reason)| Close { code: *code, reason: reason.as_str().into() });
                encode_close(close.as_ref(), mask, &mut wire);
            }
            Self::Ping(payload) => encode(Opcode::Ping, payload, mask, &mut wire),
            Self::Pong(payload) => encode(Opcode::Pong, payload, mask, &mut wire),
            Self::Garbled(why) => panic!("nothing to send: {why}"),
        }
        wire
    }
}

/// `message` in fragments that end at `cuts`, which are taken in order; those beyond its end are left out.
pub fn fragments(opcode: Opcode, message: &[u8], cuts: &[usize]) -> Vec<Frame> {
    let mut ends: Vec<usize> = cuts.iter().copied().filter(|cut| *cut < message.len()).collect();
    ends.sort_unstable();
    ends.push(message.len());
    let (mut start, last) = (0, ends.len() - 1);
    let fragment = |(index, end): (usize, usize)| {
        let opcode = if index == 0 { opcode } else { Opcode::Continuation };
        let payload = message[start..end].to_vec();
        start = end;
        Frame::Fragment { opcode, is_last: index == last, payload }
    };
    ends.into_iter().enumerate().map(fragment).collect()
}

/// Reads frames from a stream, and keeps the bytes they had there.
pub(crate) struct FrameReader {
    decoder: Decoder,
    /// Of the frame that is being read: its opcode, whether it ends its message, and what came of it.
    opcode: Opcode,
    is_last: bool,
    payload: Vec<u8>,
}

/// What came.
pub(crate) enum Came {
    /// A frame.
    Frame(Frame),
    /// The end of the stream.
    End,
}

impl FrameReader {
    pub(crate) fn new(sender: Sender) -> Self {
        let decoder = Decoder::new(sender, MESSAGE_LIMIT);
        Self { decoder, opcode: Opcode::Continuation, is_last: false, payload: Vec::new() }
    }

    /// The next frame of `unread` and what `stream` brings behind it. The bytes of it are appended to `wire`.
    pub(crate) async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        unread: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Came {
        loop {
            if let Some(frame) = self.next_of(unread, wire) {
                return Came::Frame(frame);
            }
            let mut more = vec![0; 64 * 1024];
            match stream.read(&mut more).await {
                Ok(0) | Err(_) => return Came::End,
                Ok(length) => unread.extend_from_slice(&more[..length]),
            }
        }
    }

    /// Nothing if more bytes are needed; all of `unread` is taken then.
    fn next_of(&mut self, unread: &mut Vec<u8>, wire: &mut Vec<u8>) -> Option<Frame> {
        let bytes = std::mem::take(unread);
        let mut rest = &bytes[..];
        let frame = loop {
            match self.decoder.next(&mut rest) {
                Err(violation) => break Some(Frame::Garbled(violation.as_str())),
                Ok(None) => break None,
                Ok(Some(Piece::Control(control))) => {
                    break Some(match control {
                        Control::Ping(payload) => Frame::Ping(payload.into()),
                        Control::Pong(payload) => Frame::Pong(payload.into()),
                        Control::Close(close) => Frame::Close(close.map(|close| (close.code, close.reason.into()))),
                    });
                }
                Ok(Some(Piece::Head(head))) => {
                    let of_kind = if head.kind() == Kind::Text { Opcode::Text } else { Opcode::Binary };
                    self.opcode = if head.starts_message() { of_kind } else { Opcode::Continuation };
                    self.is_last = head.ends_message();
                    if head.ends_frame() {
                        break Some(self.whole());
                    }
                }
                Ok(Some(Piece::Payload(payload))) => {
                    self.payload.extend_from_slice(payload.unmask_into(&mut Vec::new()));
                    if payload.ends_frame {
                        break Some(self.whole());
                    }
                }
            }
        };
        let taken = bytes.len() - rest.len();
        wire.extend_from_slice(&bytes[..taken]);
        *unread = rest.to_vec();
        frame
    }

    fn whole(&mut self) -> Frame {
        let (opcode, is_last, payload) = (self.opcode, self.is_last, std::mem::take(&mut self.payload));
        match opcode {
            Opcode::Text if is_last => {
                String::from_utf8(payload).map_or(Frame::Garbled("text that is not UTF-8"), Frame::Text)
            }
            Opcode::Binary if is_last => Frame::Binary(payload),
            _ => Frame::Fragment { opcode, is_last, payload },
        }
    }
}

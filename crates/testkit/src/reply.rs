//! A response as a client reads it, byte by byte.

use tokio::io::{AsyncRead, AsyncReadExt};

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Head as sent, without the empty line.
    pub head: String,
    /// Body without its framing.
    pub body: Vec<u8>,
    /// Whether the body came to the end its framing announced.
    pub complete: bool,
}

impl Reply {
    /// The value of a header, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Reads one response to a request of any method but HEAD.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        Self::read_for(stream, false).await
    }

    /// Reads one response; `head_only` for HEAD requests.
    pub async fn read_for(stream: &mut (impl AsyncRead + Unpin), head_only: bool) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8_lossy(&head[..head.len() - 4]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let mut reply = Self { status, head, body: Vec::new(), complete: true };
        if head_only || matches!(status, 101 | 204 | 304) {
            return Some(reply);
        }
        reply.complete = reply.read_body(stream).await.is_some();
        Some(reply)
    }

    async fn read_body(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Option<()> {
        if self.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks(stream).await;
        }
        let Some(length) = self.header("content-length").map(|length| length.parse::<usize>().unwrap()) else {
            stream.read_to_end(&mut self.body).await.ok()?;
            return Some(());
        };
        self.read_exactly(stream, length).await
    }

    /// Reads `length` more bytes of the body; what came before an early end is kept.
    async fn read_exactly(&mut self, stream: &mut (impl AsyncRead + Unpin), length: usize) -> Option<()> {
        let whole = self.body.len() + length;
        stream.take(length as u64).read_to_end(&mut self.body).await.ok()?;
        (self.body.len() == whole).then_some(())
    }

    async fn read_chunks(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Option<()> {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(stream.read_u8().await.ok()?);
            }
            let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
            self.read_exactly(stream, size).await?;
            stream.read_u16().await.ok()?;
            if size == 0 {
                return Some(());
            }
        }
    }
}

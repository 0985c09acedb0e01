//! The response body: sends its parts at a pace and can break the connection on purpose.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::reply::Part;

/// The body of a demo response.
#[derive(Debug)]
pub struct ReplyBody {
    parts: VecDeque<Part>,
    length: Option<u64>,
    pace: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl ReplyBody {
    pub(crate) fn new(parts: Vec<Part>, length: Option<u64>, pace: Duration) -> Self {
        Self { parts: parts.into(), length, pace, pause: None }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        match self.parts.pop_front() {
            None => Poll::Ready(None),
            Some(Part::Bytes(bytes)) => {
                if !self.parts.is_empty() && !self.pace.is_zero() {
                    self.pause = Some(Box::pin(tokio::time::sleep(self.pace)));
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Part::Flush) => {
                // hyper writes its buffer out whenever the body has nothing ready.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Part::Break) => Poll::Ready(Some(Err(io::Error::other("the demo breaks this connection on purpose")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test(start_paused = true)]
    async fn a_stream_waits_between_its_parts_and_not_after_the_last() {
        let parts = ["a", "b", "c"].map(|text| Part::Bytes(text.into()));
        let before = aiproxy_core::time::now();
        let body = ReplyBody::new(parts.into(), None, Duration::from_millis(20));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        assert_eq!(before.elapsed(), Duration::from_millis(40));
    }

    #[tokio::test]
    async fn a_cut_body_ends_in_an_error() {
        let parts = vec![Part::Bytes("half".into()), Part::Flush, Part::Break];
        let mut body = ReplyBody::new(parts, Some(8), Duration::ZERO);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert!(body.frame().await.unwrap().is_err());
    }
}

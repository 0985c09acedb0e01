//! The byte streams to an upstream and how one reads from them without owning a buffer.
//!
//! An idle stream holds no read buffer: bytes are read into one scratch area per thread and copied out in exactly the
//! size that came. That is what keeps an open stream small (see ARCHITECTURE.md, "Measurements").

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Anything bytes can be exchanged over with an upstream: TCP, TLS, or memory in tests.
pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

/// A connected byte stream.
pub type BoxIo = Box<dyn Io>;

/// How much one read may take. One read becomes one frame to the client, so this also bounds a frame.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Reads once and shows what came to `consume`. An empty slice is the end of the stream.
pub(crate) fn poll_read_once<R>(
    io: &mut (impl AsyncRead + Unpin + ?Sized),
    context: &mut Context<'_>,
    consume: impl FnOnce(&[u8]) -> R,
) -> Poll<io::Result<R>> {
    poll_read_through(io, context, |_, bytes| consume(bytes))
}

/// The same, for somebody who passes on at once what came.
pub(crate) fn poll_read_through<R>(
    io: &mut (impl AsyncRead + Unpin + ?Sized),
    context: &mut Context<'_>,
    consume: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
) -> Poll<io::Result<R>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(io).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(consume(context, buffer.filled()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    })
}

/// Whether nothing lies in the stream and its end was not seen: what a connection must be to be used again.
pub(crate) fn is_quiet(io: &mut dyn Io) -> bool {
    let mut context = Context::from_waker(std::task::Waker::noop());
    poll_read_once(io, &mut context, |_| ()).is_pending()
}

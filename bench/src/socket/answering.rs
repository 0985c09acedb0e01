//! The upstream's end of a socket: each message must be the right one, and gets its answer.

use aiproxy_llm::websocket::{Opcode, encode};
use anyhow::{Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::conversation::Conversation;
use super::frames::Frames;

/// Answers until the client says goodbye. `unread` came with its handshake. A wrong message ends the connection, which
/// shows on the other side.
pub(crate) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    conversation: &Conversation,
    unread: Vec<u8>,
) -> Result<()> {
    let mut frames = Frames::new(conversation.longest(), true);
    frames.put(&unread)?;
    drop(unread);
    let (mut answer, mut wire) = (Vec::new(), Vec::new());
    let mut number = 0;
    loop {
        while let Some((opcode, said)) = frames.next()? {
            wire.clear();
            if opcode == Opcode::Close {
                encode(Opcode::Close, said, None, &mut wire);
                stream.write_all(&wire).await?;
                return Ok(stream.shutdown().await?);
            }
            ensure!(opcode == conversation.opcode && said == conversation.question, "a message was changed on its way");
            conversation.answer(number, &mut answer);
            encode(conversation.opcode, &answer, None, &mut wire);
            stream.write_all(&wire).await?;
            number += 1;
        }
        let read = stream.read(frames.space()).await?;
        frames.add(read)?;
    }
}

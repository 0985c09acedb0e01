//! The languages of realtime sockets. Each operation of the gateway speaks one of them.

use crate::dialect::Operation;

/// What is said on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OpenAI Realtime with its transcription and translation sessions, and Qwen-Omni's realtime, which is like its
    /// beta. Also the sideband of a WebRTC call.
    Realtime,
    /// OpenAI Responses over WebSocket: the events of the HTTP stream, many responses on one socket.
    Responses,
    /// OpenAI Live.
    Live,
    /// DashScope's speech services (CosyVoice, Paraformer, Sambert): tasks, several at once.
    DashscopeInference,
    /// Gemini Live: JSON in binary frames as well as in text.
    GeminiLive,
    /// A language that is not known: everything passes, nothing is counted.
    Unread,
}

impl Protocol {
    /// What a socket for `operation` speaks.
    #[must_use]
    pub const fn of(operation: Operation) -> Self {
        match operation {
            Operation::Realtime
            | Operation::RealtimeCalls
            | Operation::RealtimeTranslations
            | Operation::DashscopeRealtime => Self::Realtime,
            Operation::Responses => Self::Responses,
            Operation::Live => Self::Live,
            Operation::DashscopeInference => Self::DashscopeInference,
            Operation::GeminiLive => Self::GeminiLive,
            _ => Self::Unread,
        }
    }

    /// A client may name a model in a message, so that its messages must go through a [`super::ClientReader`].
    #[must_use]
    pub const fn names_model_in_messages(self) -> bool {
        self.is_read()
    }

    /// Binary messages may hold JSON that counts. They are sound on DashScope's speech sockets. OpenAI documents none,
    /// but a server that parses whatever arrives would obey one: a client's are read like its texts, and whatever does
    /// not begin like an object passes with its first byte.
    #[must_use]
    pub const fn reads_binary(self) -> bool {
        match self {
            Self::Realtime | Self::Responses | Self::Live | Self::GeminiLive => true,
            Self::DashscopeInference | Self::Unread => false,
        }
    }

    /// The messages are understood: models are found in them, and usage.
    #[must_use]
    pub const fn is_read(self) -> bool {
        !matches!(self, Self::Unread)
    }
}

//! The demo upstream: a small provider that lives on a loopback port and speaks the real dialects.
//!
//! `aiproxy demo` runs it behind the gateway so that a new user can try everything without a provider key, and the test
//! kit points the official SDKs at the gateway in front of it. Three things make it useful for both:
//!
//! * **Honest usage.** Every number follows from the real texts by [`tokens`], the same in JSON and stream form.
//! * **Strict hygiene.** It accepts one key, only where the provider expects it, and refuses a request that carries a
//!   second credential or a header that a gateway must not pass on (code `leaked_header`).
//! * **Failures on demand.** Model names such as `demo-error-429`, `demo-hang` or `demo-break` show how a caller sees a
//!   provider that misbehaves; `magic.rs` lists them.
//!
//! It does not know the gateway: it is an ordinary HTTP/1.1 server. The answers are made by a pure function,
//! [`DemoUpstream::handle`], from request parts and body bytes; only [`serve`] touches a socket. What is said on
//! WebSockets and in WebRTC calls is made without sockets too: `websocket.rs` and `realtime.rs` tell how.

mod answer;
mod anthropic;
mod base64;
mod body;
mod call;
mod catalog;
mod dashscope;
mod dress;
mod form;
mod framing;
mod gemini;
mod guard;
mod magic;
mod openai;
mod picture;
mod prompt;
mod realtime;
mod refusal;
mod reply;
mod route;
mod sample;
mod server;
mod sound;
#[cfg(test)]
mod testing;
pub mod tokens;
mod upstream;
mod vector;
mod webrtc;
mod websocket;
mod words;

pub use body::ReplyBody;
pub use reply::{Delay, Reply};
pub use server::serve;
pub use upstream::{DemoUpstream, Options};

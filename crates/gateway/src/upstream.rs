//! Our own HTTP/1.1 client: connections, their pool, and one exchange at a time in the task of the call.
//!
//! Why not hyper's: its client hands every frame to another task, which doubles the cost of an SSE event and
//! quadruples the memory of an idle stream (ARCHITECTURE.md, "Measurements"). Only this module writes secrets.

pub mod chunked;
pub mod connect;
pub mod error;
pub mod exchange;
pub mod io;
pub mod pool;
pub mod response_body;
pub mod response_head;
mod tls;

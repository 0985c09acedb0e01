//! Whose fault an error is decides what is logged, what is answered and whether another attempt makes sense.

/// The party that caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller sent something that cannot work; sending it again will not help.
    Client,
    /// The upstream failed or answered nonsense; another one may do better.
    Upstream,
    /// The gateway itself: overloaded, draining or broken.
    Gateway,
}

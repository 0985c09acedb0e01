//! Finds where events end, and nothing else: a blank line, whichever line ends are used. Keeps no bytes.

/// Where between lines we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the beginning of a line.
    #[default]
    LineStart,
    /// Inside a line.
    Line,
    /// Behind a CR that ended a line; an LF may belong to it.
    AfterReturn,
    /// Behind a CR that was a blank line; an LF may belong to it. Only the next byte tells where the event ends.
    AfterBlankReturn,
}

/// Finds the ends of events in a stream cut anywhere.
#[derive(Clone, Debug, Default)]
pub struct EventSplitter {
    state: State,
}

impl EventSplitter {
    /// At the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next bytes: how many of them belong to the current event, blank line included; or nothing if they
    /// all do and the event goes on. It may be 0: then the event had ended with the bytes before.
    pub fn next_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let next = bytes.get(at)?;
            match (self.state, next) {
                (State::Line, _) => {
                    let length = memchr::memchr2(b'\n', b'\r', &bytes[at..])?;
                    at += length + 1;
                    self.state = if bytes[at - 1] == b'\n' { State::LineStart } else { State::AfterReturn };
                }
                (State::LineStart, b'\n') => return Some(at + 1),
                (State::LineStart, b'\r') => {
                    at += 1;
                    self.state = State::AfterBlankReturn;
                }
                (State::LineStart, _) => {
                    // The byte is part of the line, and looked at again there.
                    self.state = State::Line;
                }
                (State::AfterReturn, next) => {
                    at += usize::from(*next == b'\n');
                    self.state = State::LineStart;
                }
                (State::AfterBlankReturn, next) => {
                    self.state = State::LineStart;
                    return Some(at + usize::from(*next == b'\n'));
                }
            }
        }
    }

    /// A blank line was the last thing seen, so the event is complete even if the stream ends here.
    #[must_use]
    pub fn is_after_blank_line(&self) -> bool {
        self.state == State::AfterBlankReturn
    }
}

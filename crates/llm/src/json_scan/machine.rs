//! The state machine of the scanner, one step at a time. Each step takes an index inside the chunk and returns where to
//! go on; whatever it must remember across chunks is in the scanner itself.

use super::{JsonScan, State, text};

impl JsonScan {
    /// One step from `at`, which is inside the chunk; returns where to go on.
    #[inline]
    pub(super) fn step(&mut self, chunk: &[u8], at: usize) -> usize {
        match self.state {
            State::InKey => return self.step_key(chunk, at),
            State::InString => return self.step_string(chunk, at),
            State::InScalar => return self.step_scalar(chunk, at),
            State::Skip => return self.step_skip(chunk, at),
            State::Broken => return chunk.len(),
            _ => {}
        }
        let byte = chunk[at];
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return at + 1;
        }
        match (self.state, byte) {
            (State::Start, _) => return self.step_start(chunk, at),
            (State::KeyOrEnd | State::Key, b'"') => return self.begin_key(chunk, at + 1),
            (State::KeyOrEnd | State::AfterValue, b'}') => self.close_object(chunk, at + 1),
            (State::Colon, b':') => self.state = State::Value,
            (State::Value, _) => self.begin_value(at, byte),
            (State::AfterValue, b',') => self.state = State::Key,
            (State::ElementOrEnd | State::AfterElement, b']') => self.state = State::Done,
            (State::ElementOrEnd | State::Element, _) => {
                self.captures.clear(u32::MAX);
                self.matched = 0;
                match byte {
                    b'{' => self.open_object(self.all),
                    _ => self.begin_value(at, byte),
                }
            }
            (State::AfterElement, b',') => self.state = State::Element,
            _ => self.state = State::Broken,
        }
        at + 1
    }

    fn step_start(&mut self, chunk: &[u8], at: usize) -> usize {
        const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
        let byte = chunk[at];
        let inside_mark = self.byte_order_mark as usize;
        let position = self.offset + at;
        if position < MARK.len() && position == inside_mark && byte == MARK[position] {
            self.byte_order_mark += 1;
            return at + 1;
        }
        if matches!(byte, b'{' | b'[') {
            self.root = Some(position);
            self.root_is_array = byte == b'[';
        }
        match byte {
            _ if matches!(inside_mark, 1 | 2) => self.state = State::Broken,
            b'{' => self.open_object(self.all),
            b'[' if self.per_element => {
                self.in_array = true;
                self.state = State::ElementOrEnd;
            }
            b'[' => self.begin_skip(),
            _ => self.state = State::Broken,
        }
        at + 1
    }

    fn open_object(&mut self, mask: u32) {
        self.depth += 1;
        self.masks[self.depth] = mask;
        self.state = State::KeyOrEnd;
    }

    fn close_object(&mut self, chunk: &[u8], end: usize) {
        self.depth -= 1;
        self.end_value(chunk, end);
    }

    /// The usual key lies in one chunk and has no escapes: it is compared where it stands.
    fn begin_key(&mut self, chunk: &[u8], from: usize) -> usize {
        let rest = &chunk[from..];
        if let Some(length) = text::find_quote(rest)
            && !rest[..length].contains(&b'\\')
        {
            self.matched = self.matching(&rest[..length]);
            self.state = State::Colon;
            return from + length + 1;
        }
        self.key.clear();
        self.state = State::InKey;
        from
    }

    fn step_key(&mut self, chunk: &[u8], at: usize) -> usize {
        let end = self.string_end(chunk, at);
        let raw = &chunk[at..end.map_or(chunk.len(), |end| end - 1)];
        // A character takes at most six bytes escaped: what is longer than that cannot match, and is not kept.
        let limit = self.longest_key * 6 + 1;
        let room = limit.saturating_sub(self.key.len());
        self.key.extend_from_slice(&raw[..raw.len().min(room)]);
        let Some(end) = end else { return chunk.len() };
        let decoded = if self.key.len() < limit { text::unescape(&self.key) } else { None };
        self.matched = decoded.map_or(0, |key| self.matching(&key));
        self.state = State::Colon;
        end
    }

    /// The paths that go on with `key` from the current object.
    fn matching(&self, key: &[u8]) -> u32 {
        let level = self.depth - 1;
        let mut candidates = self.masks[self.depth];
        let mut matched = 0;
        while candidates != 0 {
            let index = candidates.trailing_zeros() as usize;
            if self.paths[index].get(level).is_some_and(|name| name.as_bytes() == key) {
                matched |= 1 << index;
            }
            candidates &= candidates - 1;
        }
        matched
    }

    fn begin_value(&mut self, at: usize, first: u8) {
        let mut deeper = 0;
        if self.matched != 0 {
            let complete = self.matched & self.ends_at[self.depth];
            deeper = self.matched & !complete;
            // A repeated key replaces the earlier value and all that was found beneath it.
            self.captures.clear(self.matched);
            self.captures.start(complete, at, self.offset + at);
            self.open[self.depth] = complete;
        }
        match first {
            b'"' => self.state = State::InString,
            b'{' if deeper != 0 => self.open_object(deeper),
            b'{' | b'[' => self.begin_skip(),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.state = State::InScalar,
            _ => self.state = State::Broken,
        }
    }

    fn end_value(&mut self, chunk: &[u8], end: usize) {
        let open = std::mem::take(&mut self.open[self.depth]);
        if open != 0 {
            self.captures.finish(open, chunk, end, self.offset + end);
        }
        if self.depth > 0 {
            self.state = State::AfterValue;
            return;
        }
        self.element_done = true;
        self.state = if self.in_array { State::AfterElement } else { State::Done };
    }

    fn begin_skip(&mut self) {
        self.skip_depth = 1;
        self.skip_in_string = false;
        self.state = State::Skip;
    }

    fn step_skip(&mut self, chunk: &[u8], mut at: usize) -> usize {
        while at < chunk.len() {
            if self.skip_in_string {
                let Some(end) = self.string_end(chunk, at) else { return chunk.len() };
                self.skip_in_string = false;
                at = end;
                continue;
            }
            let Some(found) = text::find_structural(&chunk[at..]) else { return chunk.len() };
            at += found + 1;
            match chunk[at - 1] {
                b'"' => self.skip_in_string = true,
                b'{' | b'[' => self.skip_depth += 1,
                _ => {
                    self.skip_depth -= 1;
                    if self.skip_depth == 0 {
                        self.end_value(chunk, at);
                        return at;
                    }
                }
            }
        }
        at
    }

    fn step_string(&mut self, chunk: &[u8], at: usize) -> usize {
        let Some(end) = self.string_end(chunk, at) else { return chunk.len() };
        self.end_value(chunk, end);
        end
    }

    fn step_scalar(&mut self, chunk: &[u8], at: usize) -> usize {
        let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let Some(length) = chunk[at..].iter().position(is_end) else { return chunk.len() };
        self.end_value(chunk, at + length);
        at + length
    }

    /// The index behind the quote that closes the string we are in, remembering an escape cut by the chunk's end.
    ///
    /// Only quotes are searched for: one closes the string if an even number of backslashes stands before it. Prompts
    /// are full of `\n`, and stopping at each of them costs several times as much.
    #[inline]
    fn string_end(&mut self, chunk: &[u8], at: usize) -> Option<usize> {
        let mut from = at + usize::from(std::mem::take(&mut self.escaped));
        loop {
            let rest = chunk.get(from..)?;
            let Some(length) = text::find_quote(rest) else {
                self.escaped = text::ends_in_escape(rest);
                return None;
            };
            if !text::ends_in_escape(&rest[..length]) {
                return Some(from + length + 1);
            }
            from += length + 1;
        }
    }
}

//! The estimate of a prompt: all text of a request body, without the data of images, sounds and files in it.

use super::{Listener, TextTally, Walk, Wish};

/// What an image, sound or file counts: about a picture of one megapixel. Providers charge from 85 to a few thousand.
pub const MEDIA_TOKENS: u64 = 1000;

/// That many characters of base64 in a row are data: no word, path or identifier is as long.
const SHORTEST_DATA: usize = 512;

/// A line of wrapped base64 is longer than this. After a run of that length, escapes (of a line break, of `/`) belong
/// to it.
const SHORTEST_LINE: usize = 60;

/// Reads a request body passing by. Its memory is constant.
#[derive(Clone, Debug)]
pub struct PromptEstimate {
    walk: Walk,
    prompt: Prompt,
}

impl Default for PromptEstimate {
    fn default() -> Self {
        Self::new()
    }
}

impl PromptEstimate {
    /// At the beginning of a body.
    #[must_use]
    pub fn new() -> Self {
        Self { walk: Walk::new(Wish::Whole), prompt: Prompt::default() }
    }

    /// Takes the next bytes of the JSON body.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.walk.feed(chunk, &mut self.prompt);
    }

    /// The tokens so far, rounded up.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.prompt.tally.tokens()
    }
}

#[derive(Clone, Debug, Default)]
struct Prompt {
    tally: TextTally,
    /// The tally when the current run of base64 characters began, and how long the run is.
    before_run: TextTally,
    run: usize,
    /// A key was seen whose object may hold a link to an image.
    may_hold_link: bool,
    place: Place,
}

/// Where a text stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Text,
    /// Under a key of links: a string there is one.
    LinkExpected,
    /// In a link, which has been counted.
    Link,
}

impl Listener for Prompt {
    fn wish(&mut self, key: &[u8], level: u32) -> Wish {
        self.place = Place::Text;
        match key {
            // What the provider hands back and forth: not read as text, or not billed again.
            b"signature" | b"thoughtSignature" | b"thought_signature" | b"encrypted_content" | b"encrypted_index" => {
                return Wish::Skip;
            }
            b"model" | b"metadata" | b"user" | b"safety_identifier" | b"prompt_cache_key" if level == 1 => {
                return Wish::Skip;
            }
            b"image_url" | b"video_url" | b"audio_url" => {
                self.place = Place::LinkExpected;
                self.may_hold_link = true;
            }
            b"image" | b"video" | b"file_uri" | b"fileUri" | b"file_url" => self.place = Place::LinkExpected,
            b"source" => self.may_hold_link = true,
            b"url" if std::mem::take(&mut self.may_hold_link) => self.place = Place::LinkExpected,
            _ => {}
        }
        Wish::Look
    }

    fn enter(&mut self) {
        self.place = Place::Text;
    }

    fn text(&mut self, raw: &[u8]) {
        match self.place {
            Place::Text => self.add(raw),
            Place::LinkExpected => {
                self.tally.add_tokens(MEDIA_TOKENS);
                self.may_hold_link = false;
                self.place = Place::Link;
            }
            Place::Link => {}
        }
    }

    fn end_text(&mut self) {
        self.tally.end();
        self.run = 0;
        self.place = Place::Text;
    }

    fn number(&mut self) {
        self.tally.add_tokens(1);
    }
}

impl Prompt {
    /// Adds text, and takes out again what turns out to be data.
    fn add(&mut self, raw: &[u8]) {
        let mut rest = raw;
        while let Some((first, _)) = rest.split_first() {
            if self.run == 0 {
                let (text, after) = rest.split_at(length_without_data(rest));
                if !text.is_empty() {
                    self.tally.add_raw(text);
                    rest = after;
                    continue;
                }
            }
            if !self.goes_on(*first) {
                self.run = 0;
                let length = rest.iter().position(|byte| is_base64(*byte)).unwrap_or(rest.len());
                let (text, after) = rest.split_at(length);
                self.tally.add_raw(text);
                rest = after;
                continue;
            }
            // Up to where the run may turn into data, or to its end.
            let most = if self.run < SHORTEST_LINE { SHORTEST_LINE - self.run } else { usize::MAX };
            let most = most.min(if self.run < SHORTEST_DATA { SHORTEST_DATA - self.run } else { usize::MAX });
            let window = &rest[..most.min(rest.len())];
            let length = window.iter().position(|byte| !self.goes_on(*byte)).unwrap_or(window.len());
            let (part, after) = rest.split_at(length);
            self.add_to_run(part);
            rest = after;
        }
    }

    fn add_to_run(&mut self, part: &[u8]) {
        if self.run == 0 {
            self.before_run = self.tally;
        }
        if self.run < SHORTEST_DATA {
            self.tally.add_raw(part);
        }
        let was_data = self.run >= SHORTEST_DATA;
        self.run += part.len();
        if !was_data && self.run >= SHORTEST_DATA {
            self.tally = self.before_run;
            self.tally.end();
            self.tally.add_tokens(MEDIA_TOKENS);
        }
    }

    fn goes_on(&self, byte: u8) -> bool {
        is_base64(byte) || byte == b'\\' && self.run >= SHORTEST_LINE
    }
}

/// How many bytes cannot belong to data, if none is open: up to the last of the next few hundred that breaks any run.
/// Searched from behind, which finds a space at once where there are words.
fn length_without_data(bytes: &[u8]) -> usize {
    let window = &bytes[..bytes.len().min(SHORTEST_DATA)];
    window.iter().rposition(|byte| !is_base64(*byte) && *byte != b'\\').map_or(0, |at| at + 1)
}

/// Either alphabet of base64.
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

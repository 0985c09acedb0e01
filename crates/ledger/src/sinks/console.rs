//! Records on stderr: friendly lines where a person looks on, JSON lines where something else does. Bodies are not
//! shown.
//!
//! A terminal is no store. What it does not take is gone, and a disk that does not take the cursor holds up nothing:
//! after the next start the same lines are then shown once more.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use crate::batch::Batch;
use crate::cursor_file::{Cursor, CursorFile};
use crate::position::Position;
use crate::sink::{Appetite, Sink, SinkError};
use crate::sinks::console_line;

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleForm {
    /// Coloured, for a person.
    Friendly,
    /// The public record.
    Json,
}

/// Shows each record as one line.
pub struct ConsoleSink {
    writer: Box<dyn Write + Send>,
    form: ConsoleForm,
    cursor: CursorFile,
    position: Option<Position>,
    /// The cursor could not be written; that is told once.
    forgetful: bool,
}

impl ConsoleSink {
    /// Shows records in `form` on `writer`, and remembers where it is in `cursor_directory`.
    #[must_use]
    pub fn new(writer: Box<dyn Write + Send>, form: ConsoleForm, cursor_directory: &Path) -> Self {
        let cursor = CursorFile::new(cursor_directory, "console");
        Self { writer, form, cursor, position: None, forgetful: false }
    }

    /// Shows records on stderr, in the form that fits.
    #[must_use]
    pub fn stderr(cursor_directory: &Path) -> Self {
        let form = if io::stderr().is_terminal() { ConsoleForm::Friendly } else { ConsoleForm::Json };
        Self::new(Box::new(io::stderr()), form, cursor_directory)
    }

    fn show(&mut self, batch: &Batch) -> io::Result<()> {
        let (mut json, mut friendly) = (Vec::new(), String::new());
        for entry in batch.entries() {
            match self.form {
                ConsoleForm::Json => entry.write_json(&mut json),
                ConsoleForm::Friendly => console_line::write(&entry, &mut friendly),
            }
        }
        self.writer.write_all(&json)?;
        self.writer.write_all(friendly.as_bytes())?;
        self.writer.flush()
    }
}

impl Sink for ConsoleSink {
    fn name(&self) -> &str {
        "console"
    }

    async fn resume(&mut self) -> Result<Option<Position>, SinkError> {
        if self.position.is_none() {
            // One that cannot be read is as good as none here: see above.
            self.position = self.cursor.read::<()>().unwrap_or_default().and_then(|cursor| cursor.position);
        }
        Ok(self.position.clone())
    }

    async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        // A closed terminal must not end the gateway, nor may it keep the journal from being deleted.
        self.show(batch).ok();
        self.position = Some(batch.position.clone());
        let remembered = self.cursor.write(&Cursor { position: self.position.clone(), state: () });
        if let Err(error) = &remembered
            && !self.forgetful
        {
            tracing::warn!(sink = "console", %error, "the cursor cannot be written");
        }
        self.forgetful = remembered.is_err();
        Ok(())
    }

    fn appetite(&self) -> Appetite {
        Appetite { bodies: false, ..Appetite::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::sinks::testing::{Directory, Frames, entry};

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct ClosedTerminal;

    impl Write for ClosedTerminal {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[tokio::test]
    async fn records_are_shown_as_json_without_bodies_and_only_once() {
        let directory = Directory::new("console");
        let frames = Frames::new(3, true, entry);
        let screen = Screen::default();
        let start = || ConsoleSink::new(Box::new(screen.clone()), ConsoleForm::Json, directory.root());
        let mut sink = start();
        assert_eq!(sink.resume().await, Ok(None));
        sink.write(&frames.after(None, 3)).await.unwrap();
        let mut sink = start();
        let position = sink.resume().await.unwrap();
        sink.write(&frames.after(position.as_ref(), 9)).await.unwrap();
        let mut expected = Vec::new();
        (0..3).for_each(|number| entry(number).write_json(&mut expected));
        assert_eq!(screen.text(), String::from_utf8(expected).unwrap());
    }

    #[tokio::test]
    async fn a_person_sees_friendly_lines() {
        let directory = Directory::new("console");
        let screen = Screen::default();
        let mut sink = ConsoleSink::new(Box::new(screen.clone()), ConsoleForm::Friendly, directory.root());
        sink.write(&Frames::new(2, false, entry).after(None, 2)).await.unwrap();
        let mut line = String::new();
        console_line::write(&entry(0), &mut line);
        assert_eq!(screen.text(), line.repeat(2));
    }

    #[tokio::test]
    async fn neither_a_closed_terminal_nor_a_full_disk_holds_up_anything() {
        let directory = Directory::new("console");
        let file = directory.path("no-directory");
        std::fs::write(&file, "").unwrap();
        let batch = Frames::new(2, false, entry).after(None, 2);
        let mut sink = ConsoleSink::new(Box::new(ClosedTerminal), ConsoleForm::Json, &file);
        assert_eq!(sink.resume().await, Ok(None));
        assert_eq!(sink.write(&batch).await, Ok(()));
        assert_eq!(sink.resume().await, Ok(Some(batch.position)));
    }
}

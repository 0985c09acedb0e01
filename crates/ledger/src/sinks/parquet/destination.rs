//! Where finished files go.

use std::fs;
use std::io;
use std::path::Path;

use super::day_file::temporary;
use crate::cursor_file::sync_directory_of;

/// Where finished files go. What stores them elsewhere is another variant, with the same duty: it is told of a file
/// until it says that it has it, also twice, and the file under its temporary name is there until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// They stay in the directory.
    #[default]
    Directory,
}

impl Destination {
    /// Publishes those of the finished files `names` in `directory` that are not yet.
    pub(super) async fn publish(&self, directory: &Path, names: &[String]) -> io::Result<()> {
        match self {
            Self::Directory => rename_all(directory, names),
        }
    }
}

fn rename_all(directory: &Path, names: &[String]) -> io::Result<()> {
    for name in names {
        match fs::rename(directory.join(temporary(name)), directory.join(name)) {
            // It was renamed before the process ended; whoever wanted it may have taken it away already.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
    }
    if names.is_empty() { Ok(()) } else { sync_directory_of(&directory.join("any")) }
}

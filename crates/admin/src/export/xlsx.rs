//! Tables as XLSX. The format has its table of contents at the end, so the file is made in a temporary file first; that
//! has no name any more by the time it is written.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use rust_xlsxwriter::{Workbook, XlsxError};
use tokio::fs::File;

use super::internal;
use super::table::{Cell, Table};
use crate::answer::Refused;

/// Rows of a sheet, its head included: what the format allows.
const SHEET_ROWS: u32 = 1_048_576;

/// Most rows of a file; beyond that no spreadsheet opens it.
pub(super) const MAX_ROWS: i64 = 5_000_000;

/// Numbers up to here are exact in a spreadsheet, which has floating point only.
const EXACT: i64 = 1 << 53;

/// Characters of a cell: what the format allows.
const CELL_CHARACTERS: usize = 32_767;

/// `table` as a file that is read from its start.
pub(super) async fn file(table: &mut Table, directory: &Path) -> Result<File, Refused> {
    let mut sheets = Sheets::new(directory, &table.columns, SHEET_ROWS).map_err(|error| internal(&error))?;
    loop {
        let rows = table.rows.next().await?;
        if rows.is_empty() {
            break;
        }
        let work = move || sheets.write(&rows).map(|()| sheets);
        sheets = blocking(work).await?;
    }
    let directory = directory.to_owned();
    let file = blocking(move || {
        let mut file = unnamed(&directory)?;
        sheets.workbook.save_to_writer(&mut file).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    });
    Ok(File::from_std(file.await?))
}

/// Writing takes disk and processor, so it has a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(|error| internal(&error))
}

/// A file that goes away with its last handle.
fn unnamed(directory: &Path) -> io::Result<fs::File> {
    let path = directory.join(format!("export-{}.xlsx", uuid::Uuid::new_v4()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Sheets that are written row by row.
struct Sheets {
    workbook: Workbook,
    columns: Vec<&'static str>,
    sheet_rows: u32,
    sheet: usize,
    row: u32,
}

impl Sheets {
    fn new(directory: &Path, columns: &[&'static str], sheet_rows: u32) -> io::Result<Self> {
        let mut workbook = Workbook::new();
        workbook.set_tempdir(directory).map_err(io::Error::other)?;
        let mut sheets = Self { workbook, columns: columns.to_vec(), sheet_rows, sheet: 0, row: 0 };
        sheets.add().map_err(io::Error::other)?;
        Ok(sheets)
    }

    fn add(&mut self) -> Result<(), XlsxError> {
        let sheet = self.workbook.add_worksheet_with_constant_memory()?;
        for (column, name) in (0_u16..).zip(&self.columns) {
            sheet.write_string(0, column, *name)?;
        }
        self.row = 1;
        Ok(())
    }

    fn write(&mut self, rows: &[Vec<Cell>]) -> io::Result<()> {
        rows.iter().try_for_each(|row| self.write_row(row)).map_err(io::Error::other)
    }

    fn write_row(&mut self, cells: &[Cell]) -> Result<(), XlsxError> {
        if self.row == self.sheet_rows {
            self.add()?;
            self.sheet += 1;
        }
        let sheet = self.workbook.worksheet_from_index(self.sheet)?;
        for (column, cell) in (0_u16..).zip(cells) {
            match cell {
                Cell::Empty => continue,
                Cell::Text(text) => sheet.write_string(self.row, column, fitting(text))?,
                Cell::Int(number) if number.abs() <= EXACT => sheet.write_number(self.row, column, *number as f64)?,
                Cell::Int(number) => sheet.write_string(self.row, column, number.to_string())?,
                Cell::Thousandths(number) => sheet.write_number(self.row, column, *number as f64 / 1000.0)?,
            };
        }
        self.row += 1;
        Ok(())
    }
}

/// As much of a text as a cell takes.
fn fitting(text: &str) -> &str {
    let mut units = 0;
    let end = text.char_indices().find(|(_, character)| {
        units += character.len_utf16();
        units > CELL_CHARACTERS
    });
    end.map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn more_rows_than_a_sheet_takes_go_to_the_next_each_with_a_head() {
        let mut sheets = Sheets::new(&std::env::temp_dir(), &["name", "number"], 3).unwrap();
        let rows: Vec<_> = (0..5).map(|number| vec![Cell::Text("=1+1".into()), Cell::Int(number)]).collect();
        sheets.write(&rows).unwrap();
        assert_eq!((sheets.sheet, sheets.row), (2, 2));
        let mut file = unnamed(&std::env::temp_dir()).unwrap();
        sheets.workbook.save_to_writer(&mut file).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes.starts_with(b"PK"));
        let names = |bytes: &[u8]| String::from_utf8_lossy(bytes).matches("xl/worksheets/sheet").count();
        // Each is named in its local header and in the directory.
        assert_eq!(names(&bytes), 6);
    }

    #[test]
    fn a_text_is_cut_to_what_a_cell_takes() {
        assert_eq!(fitting("张三"), "张三");
        assert_eq!(fitting(&"x".repeat(40_000)).len(), 32_767);
        assert_eq!(fitting(&"😀".repeat(20_000)).chars().count(), 16_383);
    }
}

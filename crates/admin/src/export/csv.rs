//! Tables as CSV (RFC 4180), for spreadsheets too: a text that one of them would take for a formula gets an apostrophe in
//! front (OWASP, "CSV Injection").

use std::io;

use csv::{Terminator, WriterBuilder};

use super::internal;
use super::table::{Cell, Table};
use crate::answer::Refused;

/// What a text begins with that spreadsheets take for a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// The line with the names of the columns.
pub(super) fn head(table: &Table, bom: bool) -> Result<Vec<u8>, Refused> {
    let columns: Vec<_> = table.columns.iter().map(|column| Cell::Text((*column).to_owned())).collect();
    let line = lines(&[columns]).map_err(|error| internal(&error))?;
    let bom: &[u8] = if bom { "\u{feff}".as_bytes() } else { &[] };
    Ok([bom, &line].concat())
}

/// `rows` as lines.
pub(super) fn lines(rows: &[Vec<Cell>]) -> io::Result<Vec<u8>> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    for row in rows {
        for cell in row {
            writer.write_field(field(cell))?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

fn field(cell: &Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Text(text) if text.starts_with(FORMULA) => format!("'{text}"),
        Cell::Text(text) => text.clone(),
        Cell::Int(number) => number.to_string(),
        Cell::Thousandths(number) => {
            let sign = if *number < 0 { "-" } else { "" };
            format!("{sign}{}.{:03}", number.unsigned_abs() / 1000, number.unsigned_abs() % 1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::table::Rows;

    #[test]
    fn fields_are_quoted_and_formulas_are_texts() {
        let text = |text: &str| Cell::Text(text.into());
        let rows = [
            vec![text("a,b"), text("say \"hi\""), text("two\nlines"), text("张三")],
            vec![text("=1+1"), text("+1"), text("-1"), text("@x")],
            vec![text("\tx"), text("\rx"), text("a=1"), Cell::Empty],
            vec![Cell::Int(-5), Cell::Thousandths(1_002), Cell::Thousandths(-1), Cell::Int(i64::MAX)],
        ];
        let lines = String::from_utf8(lines(&rows).unwrap()).unwrap();
        let expected = "\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\",张三\r\n'=1+1,'+1,'-1,'@x\r\n'\tx,\"'\rx\",a=1,\r\n\
                        -5,1.002,-0.001,9223372036854775807\r\n";
        assert_eq!(lines, expected);
        let table = Table { columns: vec!["id", "cost"], rows: Rows::Ready(Vec::new()) };
        assert_eq!(head(&table, true).unwrap(), "\u{feff}id,cost\r\n".as_bytes());
        assert_eq!(head(&table, false).unwrap(), b"id,cost\r\n");
    }
}

//! Output to standard output: text, tables and JSON.

use std::{
    borrow::Cow,
    io::{self, Write as _},
};

use gateway_api::SnapshotView;
use serde_json::Value;

use super::{failure::Failure, printable::printable};
use crate::config::sizes;

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// The API's JSON, byte for byte
    Json,
}

/// Writes `bytes` unchanged.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// Writes `text` and a line break.
pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    print(format!("{text}\n").as_bytes())
}

/// A table: columns as wide as their widest cell, two spaces apart, no spaces at the ends of lines.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> = std::iter::once(head.iter().map(|h| (*h).into()).collect())
        .chain(rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()))
        .collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A value as text: a string without its quotes, everything else as JSON, null as `None`.
pub(crate) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The outcome of a snapshot, in a line.
pub(crate) fn snapshot_line(snapshot: &SnapshotView) -> String {
    if snapshot.taken {
        let size = sizes::format(snapshot.bytes.unwrap_or_default());
        let saved_ms = snapshot.init_ms.unwrap_or_default();
        format!("taken: saves {saved_ms} ms of start-up, {size} of memory")
    } else {
        format!("not taken: {}", snapshot.reason.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_spaces() {
        let rows = [vec!["greet".to_owned(), "3".to_owned()], vec!["ü".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "REVISION"], &rows), "NAME   REVISION\ngreet  3\nü\n");
    }

    #[test]
    fn a_table_without_rows_is_its_head() {
        assert_eq!(table(&["NAME", "URL"], &[]), "NAME  URL\n");
    }

    #[test]
    fn a_cell_cannot_break_the_table() {
        let rows = [vec!["a\nb\x07".to_owned()]];
        assert_eq!(table(&["X"], &rows), "X\na\\nb\\u{7}\n");
    }
}

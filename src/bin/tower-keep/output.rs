//! What goes to standard output: a document for programs, or a table for people.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde::Serialize;

/// One JSON document on a line of its own.
pub(crate) fn json(document: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(document)?)
}

/// A text, and the end of its line.
pub(crate) fn line(text: impl AsRef<str>) -> anyhow::Result<()> {
    // Not `println!`, which panics when who reads has gone.
    writeln!(io::stdout().lock(), "{}", harmless(text.as_ref()))?;
    Ok(())
}

/// A line on standard error. Where nobody takes that either, nothing is left to be done.
pub(crate) fn complain(text: impl AsRef<str>) {
    let text = harmless(text.as_ref());
    let _told = writeln!(io::stderr().lock(), "tower-keep: {text}");
}

/// Without what a terminal obeys, or what turns the direction of a text. The escapes are those of JSON, in which such
/// characters are found in strings alone.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let is_layout = matches!(character, '\n' | '\t');
        let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match (character.is_control() && !is_layout) || turns {
            true => shown += &format!("\\u{:04x}", u32::from(character)),
            false => shown.push(character),
        }
    }
    shown
}

/// A column of names beside a column of values.
pub(crate) fn pairs<const N: usize>(rows: [(&str, String); N]) -> anyhow::Result<()> {
    let mut table = new_table();
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    if let Some(values) = table.column_mut(1) {
        values.set_cell_alignment(CellAlignment::Right);
    }
    print(table)
}

/// Rows below the names of their columns.
pub(crate) fn rows<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> anyhow::Result<()> {
    let mut table = new_table();
    table.set_header(header).add_rows(rows);
    print(table)
}

fn new_table() -> Table {
    let mut table = Table::new();
    // Without lines around, so that a row can be copied and cut.
    table.load_style(NOTHING);
    table
}

fn print(mut table: Table) -> anyhow::Result<()> {
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    line(table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_shown_that_a_terminal_obeys() {
        let hostile = "a\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\r\nb\tä";
        let shown = "a\\u001b[2J\\u009b31m\\u007f\\u202e\\u000d\nb\tä";
        assert_eq!(harmless(hostile), shown);
        let document = serde_json::to_string(hostile).unwrap_or_default();
        let read: Result<String, _> = serde_json::from_str(&harmless(&document));
        assert_eq!(read.ok().as_deref(), Some(hostile));
    }
}

//! A table: columns that line up for a person, objects for a program.

use serde_json::{Map, Value};

/// Rows of cells under named columns.
#[derive(Clone, Debug)]
pub(super) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// Lines up at the left.
    Text(String),
    /// Lines up at the right.
    Number(usize),
}

impl Table {
    pub(super) fn new(columns: impl Into<Vec<&'static str>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// The lines of the table, its columns as wide as their widest cell.
    pub(super) fn lines(&self) -> Vec<String> {
        let header: Vec<String> = self.columns.iter().map(|column| column.to_uppercase()).collect();
        let width = |index: usize| {
            let cells =
                self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.text().chars().count());
            cells.chain([header[index].chars().count()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        let is_number =
            |index: usize| self.rows.iter().all(|row| matches!(row.get(index), Some(Cell::Number(_)) | None));
        let line = |cells: Vec<String>| {
            let padded = cells.iter().enumerate().map(|(index, cell)| {
                let width = widths[index];
                if is_number(index) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let rows = self.rows.iter().map(|row| line(row.iter().map(Cell::text).collect()));
        std::iter::once(line(header.clone())).chain(rows).collect()
    }

    /// An object a row.
    pub(super) fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let members =
                self.columns.iter().zip(row).map(|(column, cell)| ((*column).to_owned(), cell.json()));
            Value::Object(members.collect::<Map<_, _>>())
        };
        Value::Array(self.rows.iter().map(object).collect())
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Number(number) => Value::from(*number),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(number)
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn text_lines_up_left_and_numbers_right() {
        let mut table = Table::new(["pod", "requests"]);
        table.row(["web-1".into(), 7.into()]);
        table.row(["a-long-name".into(), 1234.into()]);
        assert_eq!(
            table.lines(),
            ["POD          REQUESTS", "web-1               7", "a-long-name      1234"]
        );
        assert_eq!(table.json()[1]["requests"], 1234);
    }
}

//! What the demo tells: titled steps, each with tables, remarks and what it proves.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use serde_json::{Value, json};

use super::Format;
use super::table::Table;

/// What was told so far.
pub(super) struct Report {
    format: Format,
    /// For a program all is printed at the end.
    steps: Vec<Value>,
    bold: bool,
    last: Paragraph,
}

/// What was said last: an empty line parts it from something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paragraph {
    Title,
    Table,
    Remark,
    Proof,
}

impl Report {
    pub(super) fn new(format: Format) -> Self {
        Self { format, steps: Vec::new(), bold: io::stdout().is_terminal(), last: Paragraph::Proof }
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) -> Result<()> {
        self.steps.push(json!({ "title": title, "tables": [], "remarks": [], "proves": null }));
        let number = self.steps.len();
        let title =
            if self.bold { format!("\x1b[1m{number}  {title}\x1b[0m") } else { format!("{number}  {title}") };
        self.say(Paragraph::Title, &title)
    }

    /// Shows a table.
    pub(super) fn table(&mut self, table: &Table) -> Result<()> {
        self.add("tables", table.json());
        table.lines().iter().try_for_each(|line| self.say(Paragraph::Table, &format!("   {line}")))
    }

    /// Says something of what was shown.
    pub(super) fn remark(&mut self, text: &str) -> Result<()> {
        self.add("remarks", Value::from(text));
        self.say(Paragraph::Remark, &format!("   {text}"))
    }

    /// Says what the step proves.
    pub(super) fn proves(&mut self, text: &str) -> Result<()> {
        if let Some(step) = self.steps.last_mut() {
            step["proves"] = Value::from(text);
        }
        self.say(Paragraph::Proof, &format!("   => {text}"))
    }

    /// Prints what a program waits for.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.format {
            Format::Text => self.say(Paragraph::Title, ""),
            Format::Json => Ok(serde_json::to_writer_pretty(io::stdout(), &json!({ "steps": self.steps }))
                .and_then(|()| writeln!(io::stdout()).map_err(serde_json::Error::io))?),
        }
    }

    fn add(&mut self, to: &str, value: Value) {
        if let Some(list) = self.steps.last_mut().and_then(|step| step[to].as_array_mut()) {
            list.push(value);
        }
    }

    fn say(&mut self, paragraph: Paragraph, line: &str) -> Result<()> {
        if self.format == Format::Text {
            let gap = if self.last == paragraph { "" } else { "\n" };
            writeln!(io::stdout(), "{gap}{line}")?;
        }
        self.last = paragraph;
        Ok(())
    }
}

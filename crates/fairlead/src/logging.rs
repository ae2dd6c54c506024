//! Logs on stderr, as kube-proxy's flags ask for them.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

/// `--logging-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A line for a person.
    Text,
    /// A JSON object a line.
    Json,
}

impl Format {
    /// The one of that name; text if there is none, which is told where the name is judged.
    pub(crate) fn of(name: &str) -> Self {
        if name == "json" { Self::Json } else { Self::Text }
    }
}

/// Starts the logs. The verbosity is klog's: 4 and more is for debugging, 8 and more prints all.
pub(crate) fn start(format: Format, verbosity: u32) {
    let level = match verbosity {
        0..=3 => LevelFilter::INFO,
        4..=7 => LevelFilter::DEBUG,
        8.. => LevelFilter::TRACE,
    };
    let logs = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    match format {
        Format::Text => logs.init(),
        Format::Json => logs.json().init(),
    }
}

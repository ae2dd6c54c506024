//! Logs on stderr, as kube-proxy's flags ask for them.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload};

/// `--logging-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A line for a person.
    Text,
    /// A JSON object a line.
    Json,
}

/// Changes the verbosity while logs are written.
pub(crate) type SetVerbosity = Box<dyn Fn(u32) + Send>;

impl Format {
    /// The one of that name; text if there is none, which is told where the name is judged.
    pub(crate) fn of(name: &str) -> Self {
        if name == "json" { Self::Json } else { Self::Text }
    }
}

/// Starts the logs.
pub(crate) fn start(format: Format, verbosity: u32) -> SetVerbosity {
    let (filter, handle) = reload::Layer::new(level(verbosity));
    let logs = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).with_target(false);
    let filtered = tracing_subscriber::registry().with(filter);
    match format {
        Format::Text => filtered.with(logs).init(),
        Format::Json => filtered.with(logs.json()).init(),
    }
    // It fails only where nobody logs any more.
    Box::new(move |verbosity| drop(handle.reload(level(verbosity))))
}

/// The verbosity is klog's: 4 and more is for debugging, 8 and more prints all.
fn level(verbosity: u32) -> LevelFilter {
    match verbosity {
        0..=3 => LevelFilter::INFO,
        4..=7 => LevelFilter::DEBUG,
        8.. => LevelFilter::TRACE,
    }
}

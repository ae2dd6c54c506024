//! Each claim of speed, measured against its peer in one run. `cargo xtask bench NAME` builds and starts it.

mod flips;
mod sandboxes;
mod userspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures, and prints a JSON object a line and figure, then a table
#[derive(Parser)]
#[command(name = "bench")]
struct CommandLine {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The relay of the userspace mode against haproxy and nginx
    Userspace {
        /// The program whose rules are measured beside it
        #[arg(long)]
        fairlead: PathBuf,
        /// Where to draw the chart
        #[arg(long)]
        drawing: PathBuf,
    },
    /// What facts keep of endpoints that are gone
    Flips,
    /// Our sandboxes, as `cargo xtask bench pods` measures them
    #[command(hide = true)]
    Sandboxes(sandboxes::Sandboxes),
    /// A process of a benchmark
    #[command(hide = true)]
    Part {
        /// Which
        #[arg(value_enum)]
        part: userspace::Part,
    },
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().what {
        What::Userspace { fairlead, drawing } => userspace::measure(&fairlead, &drawing),
        What::Flips => flips::measure(),
        What::Sandboxes(sandboxes) => sandboxes.run(),
        What::Part { part } => part.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `cargo xtask demo`: the main job on real input, shown step by step.
//!
//! The demo runs as process 1 of namespaces of its own, so that whatever it starts ends with it, however it ends:
//! its links, rules, mounts and processes have no other place to be. Only cgroups outlive it; the one that started
//! it removes those, and compares the machine with what it was before.

mod acts;
mod held;
mod http;
mod machine;
mod manifests;
mod report;
mod stage;
mod table;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::apart::{self, Ended};
use crate::{build, debian};
use machine::Machine;
use report::Report;
use stage::Stage;

/// How the demo prints what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Titled steps and tables, for a person
    Text,
    /// One JSON object, for a program
    Json,
}

/// The mode that the demo's proxy is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Rules that are searched one by one
    Iptables,
    /// Maps that are asked once
    Nftables,
    /// Virtual servers of the kernel's own load balancer, in a second kernel that has it
    Ipvs,
    /// A process that relays every byte
    Userspace,
}

/// What the demo is told when it starts in its namespaces.
#[derive(Args)]
pub(crate) struct Inside {
    /// How to print
    #[arg(long, value_enum)]
    output: Format,
    /// The proxy's mode
    #[arg(long, value_enum)]
    mode: Mode,
    /// The cgroup under which the pods' are made
    #[arg(long)]
    cgroup: String,
    /// An empty folder for its files
    #[arg(long)]
    folder: PathBuf,
}

/// A container of the demo: a web server that tells its pod's name and the client's address.
#[derive(Args, Clone, Copy)]
pub(crate) struct Container {
    /// The port that it listens on
    #[arg(long, default_value_t = stage::WEB_PORT)]
    port: u16,
    /// Asks this port on localhost, and passes its answer on, in place of one of its own
    #[arg(long)]
    ask: Option<u16>,
}

/// How the cgroups of demos begin.
const CGROUP: &str = "demo-";

/// Builds, sets the stage apart, lets the demo run there, and looks whether the machine is as before.
pub(crate) fn show(format: Format, mode: Mode) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "the demo makes namespaces: run it as root");
    debian::install_missing()?;
    build::all()?;
    let before = Machine::look()?;
    let cgroup = format!("{CGROUP}{}", std::process::id());
    let format_value = format.to_possible_value().context("a format has a name")?;
    let arguments =
        ["demo-inside", "--output", format_value.get_name(), "--mode", mode.name(), "--cgroup", &cgroup];
    let ended = match mode {
        Mode::Ipvs => apart::run_in_second_kernel(arguments),
        Mode::Iptables | Mode::Nftables | Mode::Userspace => apart::run(arguments.map(OsStr::new)),
    };
    let ended = ended.context("the demo");
    machine::remove_cgroups(&cgroup)?;
    let left = Machine::look()?.beyond(&before);
    ensure!(left.is_empty(), "the demo left behind: {}", left.join(", "));
    match ended? {
        Ended::Well => {
            if format == Format::Text {
                writeln!(io::stdout(), "The machine is as before: {before}.")?;
            }
            Ok(())
        }
        Ended::Stopped => bail!("stopped; the machine is as before: {before}"),
    }
}

/// The demo itself.
pub(crate) fn inside(inside: &Inside) -> Result<()> {
    let mut report = Report::new(inside.output);
    let mut stage = Stage::set(inside.mode, &inside.cgroup, &inside.folder)?;
    let result = acts::all(&mut stage, &mut report);
    report.end()?;
    result
}

/// A container of the demo.
pub(crate) fn container(container: Container) -> Result<()> {
    http::serve(container.port, container.ask)
}

impl Mode {
    /// As `--proxy-mode` takes it.
    fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
            Self::Userspace => "userspace",
        }
    }
}

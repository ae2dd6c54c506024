//! What it takes to have a pod: how soon its sandbox is ready, what is held in memory for it, what is left of it.
//!
//! `cargo xtask bench pods` builds what is measured and starts this. Everything runs below an init, in namespaces of its
//! own, and ends with them.

mod contenders;
mod crowd;
mod held;
mod ready;
mod sizes;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use bench::figure::Figures;
use clap::Parser;
use kernel_io::mounts::mount_memory;
use kernel_io::namespaces::Namespace;
use kernel_io::process::Launch;

/// Measures, and prints a JSON object a line and figure, then a table
#[derive(Parser)]
struct CommandLine {
    /// Where the programs and images lie that are shipped
    #[arg(long)]
    dist: PathBuf,
    /// The program of this package, built for speed
    #[arg(long)]
    program: PathBuf,
    /// Something to say of the machine
    #[arg(long)]
    remark: String,
    /// In the namespaces
    #[arg(long, hide = true)]
    inside: bool,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured, and by what.
struct Programs {
    dist: PathBuf,
    bench: PathBuf,
}

impl Programs {
    fn shipped(&self, name: &str) -> PathBuf {
        self.dist.join(name)
    }
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let done = if command_line.inside { inside(command_line) } else { outside(&command_line.dist) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again, apart.
fn outside(dist: &Path) -> Result<()> {
    let mut command = Command::new(dist.join("init"));
    command.arg("--").arg(std::env::current_exe().context("find this program")?);
    command.args(std::env::args_os().skip(1)).arg("--inside");
    let apart = [Namespace::Net, Namespace::Ipc, Namespace::Uts, Namespace::Pid, Namespace::Mount];
    let launch = Launch::new(command).in_new(&apart).with_own_proc().dying_with_us();
    let status = launch.start()?.process.wait();
    ensure!(status.success(), "it failed: {status}");
    Ok(())
}

fn inside(command_line: CommandLine) -> Result<()> {
    mount_memory(Path::new("/run"), 256 << 20, 0)?;
    let programs = Programs { dist: command_line.dist, bench: command_line.program };
    let mut figures = Figures::default();
    figures.remark(command_line.remark);
    sizes::measure(&programs, &mut figures)?;
    held::measure(&programs, &mut figures)?;
    crowd::measure(&programs, &mut figures)?;
    ready::measure(&programs, &mut figures)?;
    figures.print_table().map(drop)
}

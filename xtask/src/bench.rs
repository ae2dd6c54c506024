//! `cargo xtask bench NAME`: each claim of speed, measured beside its peer in the same run, in turns.

mod api;
mod cluster;
mod control_plane;
mod iptables;
mod nftables;
mod pods;
mod round;

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::workspace::{cargo, output, run as run_command};
use crate::{build, debian};
use bench::figure::Figures;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// The iptables mode, with both backends, against bare iptables-restore
    Iptables,
    /// The nftables mode, against the time that the kernel itself takes
    Nftables,
    /// What it costs to hold a large cluster, beside kube-proxy by one API server
    Api,
    /// What holds a pod, beside what else does
    Pods,
    /// The relay of the userspace mode, beside haproxy and nginx
    Userspace,
}

/// What the bench is told when it starts in its namespaces.
#[derive(Args)]
pub(crate) struct Inside {
    #[arg(long, value_enum)]
    bench: Bench,
    /// An empty folder for its files
    #[arg(long)]
    folder: PathBuf,
}

/// Builds, and measures apart.
pub(crate) fn run(bench: Bench) -> Result<()> {
    let name = match bench {
        Bench::Iptables => "iptables",
        Bench::Nftables => "nftables",
        Bench::Api => "api",
        Bench::Pods => return pods(),
        Bench::Userspace => return userspace(),
    };
    debian::install_missing()?;
    build::fairlead()?;
    crate::apart::run(["bench-inside", "--bench", name].map(OsStr::new))?.well()
}

/// The bench itself.
pub(crate) fn inside(inside: &Inside) -> Result<()> {
    let mut figures = Figures::default();
    figures.remark(machine()?);
    match inside.bench {
        Bench::Iptables => iptables::measure(&inside.folder, &mut figures)?,
        Bench::Nftables => nftables::measure(&inside.folder, &mut figures)?,
        Bench::Api => {
            api::measure(&inside.folder, &mut figures)?;
            return figures.print_table().map(drop);
        }
        Bench::Pods => bail!("what holds pods needs no namespaces to be measured"),
        Bench::Userspace => bail!("the userspace mode is measured by a program of its own"),
    }
    figures.skip(
        "kube-proxy 1.36 as a peer",
        "it takes its Services from an API server only, and ours is fed by --manifests here",
    );
    figures.print_table().map(drop)
}

/// What needs no network: it is as large here as anywhere.
fn pods() -> Result<()> {
    debian::install_missing()?;
    let mut figures = Figures::default();
    figures.remark(machine()?);
    pods::measure(&mut figures)?;
    figures.print_table().map(drop)
}

/// The relay alone, in a program that is built for speed.
fn userspace() -> Result<()> {
    debian::install_peers()?;
    run_command(&mut cargo(["run", "--quiet", "--release", "--package", "bench", "--", "userspace"]))
}

/// On what it was measured.
fn machine() -> Result<String> {
    let say = |program: &str| output(std::process::Command::new(program).arg("--version"));
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let cores = std::thread::available_parallelism()?;
    Ok(format!("machine: {cores} cores, Linux {kernel}, {}, {}", say("iptables")?.trim(), say("nft")?.trim()))
}

//! `cargo xtask bench NAME`: each claim of speed, measured beside its peer in the same run, in turns.

mod api;
mod client;
mod cluster;
mod contender;
mod control_plane;
mod iptables;
mod ipvs;
mod kernel_share;
mod lookup;
mod nftables;
mod passes;
mod planning;
mod round;
mod stage;
mod tap;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::workspace::{cargo, dist, output, root, run as run_command};
use crate::{build, debian, image};
use bench::figure::Figures;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// The iptables mode, with both backends, beside kube-proxy and bare iptables-restore
    Iptables,
    /// The nftables mode, beside kube-proxies and the time that the kernel itself takes
    Nftables,
    /// What it costs to hold a large cluster, beside kube-proxy by one API server
    Api,
    /// What holds a pod, beside what else does
    Pods,
    /// The ipvs mode in a second kernel, against ipvsadm, ipset and ip, and against netlink alone
    Ipvs,
    /// What finding a Service costs as they grow in number, in each mode
    Lookup,
    /// The relay of the userspace mode, beside haproxy and nginx
    Userspace,
}

/// How much of it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Extent {
    /// In 15 minutes at most.
    Usual,
    /// What takes longer, too.
    Long,
}

/// What the bench is told when it starts in its namespaces.
#[derive(Args)]
pub(crate) struct Inside {
    #[arg(long, value_enum)]
    bench: Bench,
    #[arg(long, value_enum, default_value_t = Extent::Usual)]
    extent: Extent,
    /// An empty folder for its files
    #[arg(long)]
    folder: PathBuf,
    /// Where to put what was found, for those that are measured in two kernels
    #[arg(long)]
    found: Option<PathBuf>,
}

/// Builds, and measures apart.
pub(crate) fn run(bench: Bench, extent: Extent) -> Result<()> {
    let name = match bench {
        Bench::Iptables => "iptables",
        Bench::Nftables => "nftables",
        Bench::Api => "api",
        Bench::Pods => return pods(),
        Bench::Ipvs => "ipvs",
        Bench::Lookup => "lookup",
        Bench::Userspace => {
            debian::install_peers()?;
            return userspace();
        }
    };
    debian::install_missing()?;
    build::fairlead()?;
    if bench == Bench::Lookup {
        return lookup_in_both_kernels();
    }
    if bench == Bench::Ipvs {
        debian::install_peers()?;
        debian::unpack(IPVSADM)?;
        return crate::apart::run_in_second_kernel(["bench-inside", "--bench", name])?.well();
    }
    if bench == Bench::Nftables {
        if let Err(error) = build::newest_kube_proxy() {
            writeln!(io::stderr(), "a newer kube-proxy cannot be built: {error:#}")?;
        }
        flips()?;
    }
    let extent = match extent {
        Extent::Usual => "usual",
        Extent::Long => "long",
    };
    crate::apart::run(["bench-inside", "--bench", name, "--extent", extent].map(OsStr::new))?.well()
}

/// The bench itself.
pub(crate) fn inside(inside: &Inside) -> Result<()> {
    let mut figures = Figures::default();
    figures.remark(machine()?);
    let modes =
        if Path::new("/proc/net/ip_vs").exists() { ["iptables", "ipvs"] } else { ["iptables", "nftables"] };
    match inside.bench {
        Bench::Ipvs => {
            let ipvsadm = debian::unpacked(IPVSADM).join("sbin/ipvsadm");
            ipvs::measure(&inside.folder, &ipvsadm, &mut figures)?;
        }
        Bench::Lookup => {
            let found = inside.found.as_deref().context("a file for what is found")?;
            return lookup::measure(&modes, &inside.folder, found);
        }
        Bench::Iptables => iptables::measure(&inside.folder, &mut figures)?,
        Bench::Nftables => nftables::measure(inside.extent, &inside.folder, &mut figures)?,
        Bench::Api => api::measure(&inside.folder, &mut figures)?,
        Bench::Pods => bail!("pods are measured by a program of their own"),
        Bench::Userspace => bail!("the userspace mode is measured by a program of its own"),
    }
    figures.print_table().map(drop)
}

/// In a program of its own, which may ask Debian's runtimes as the tests do; what it measures of ours is built for speed.
fn pods() -> Result<()> {
    debian::install_missing()?;
    ["containerd", "containernetworking-plugins", "podman"].into_iter().try_for_each(debian::unpack)?;
    build::all()?;
    image::pause()?;
    run_command(&mut cargo(["build", "--quiet", "--release", "--package", "bench"]))?;
    let mut bench =
        cargo(["bench", "--quiet", "--profile", "dev", "--package", "bench", "--bench", "pods", "--"]);
    bench.arg("--dist").arg(dist()).arg("--program").arg(root().join("target/release/bench"));
    run_command(bench.arg("--remark").arg(machine()?))
}

/// Starts a service where it is installed, so it is only unpacked.
const IPVSADM: &str = "ipvsadm";

/// One after the other, so that neither disturbs the other.
fn lookup_in_both_kernels() -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let found = folder.path().join("found");
    let path = found.to_string_lossy();
    let arguments = ["bench-inside", "--bench", "lookup", "--found", &path];
    crate::apart::run(arguments.map(OsStr::new))?.well()?;
    crate::apart::run_in_second_kernel(arguments)?.well()?;
    let mut figures = Figures::default();
    figures.remark(machine()?);
    lookup::tell(&found, &root().join("docs/lookup.svg"), &mut figures)?;
    figures.print_table().map(drop)
}

/// What facts keep, in a program that is built for speed.
fn flips() -> Result<()> {
    run_command(&mut cargo(["run", "--quiet", "--release", "--package", "bench", "--", "flips"]))
}

/// The relay alone beside its peers, in a program that is built for speed.
fn userspace() -> Result<()> {
    debian::install_missing()?;
    debian::install_peers()?;
    let fairlead = build::fairlead()?;
    let mut bench = cargo(["run", "--quiet", "--release", "--package", "bench", "--", "userspace"]);
    bench.arg("--fairlead").arg(fairlead).arg("--drawing").arg(root().join("docs/userspace.svg"));
    run_command(&mut bench)
}

/// On what it was measured.
fn machine() -> Result<String> {
    let say = |program: &str| output(std::process::Command::new(program).arg("--version"));
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let cores = std::thread::available_parallelism()?;
    Ok(format!("machine: {cores} cores, Linux {kernel}, {}, {}", say("iptables")?.trim(), say("nft")?.trim()))
}

//! `fairlead up` and `fairlead down`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use proxy::ProxyMode;
use up::{Ranges, Settings};

use crate::logging;
use crate::pod_command::{holder, hostname};
use crate::proxy_command::stop_signals;

mod live;
mod requests;

const EXAMPLES: &str = "\
Examples:
  Keep a directory up, and see it live:
    fairlead up examples/guestbook
  Leave it in the background, look at it, and take it down:
    fairlead up examples/guestbook --detach
    fairlead up examples/guestbook --status
    fairlead down examples/guestbook";

/// Runs a directory: its Pods and Deployments, and its Services in front of them, in step with the files.
///
/// When it is stopped, pods and rules stay as they are, and the next `up` goes on with them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpCommand {
    #[command(flatten)]
    place: PlaceArguments,
    /// How Services are said in the kernel: iptables, ipvs, nftables, userspace, or auto for the best that it can do.
    #[arg(long, default_value = "auto", value_name = "MODE")]
    proxy_mode: String,
    /// Leaves it in the background, and returns when all is as the files want it.
    #[arg(long, conflicts_with = "status")]
    detach: bool,
    /// Shows what is up, and changes nothing.
    #[arg(long)]
    status: bool,
    /// For programs.
    #[arg(long, short, value_enum, requires = "status")]
    output: Option<Format>,
    /// What makes containers: crun, runc, or the path of such a program; the first that is found if not given.
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<String>,
    /// The ranges from which pods have their addresses, one of a family; without CNI configuration.
    #[arg(long, value_delimiter = ',', default_value = "10.244.0.0/24", value_name = "RANGE")]
    pod_cidr: Vec<IpNet>,
    /// The ranges from which Services have theirs, if they name none; one of a family.
    #[arg(long, value_delimiter = ',', default_value = "10.96.0.0/16", value_name = "RANGE")]
    service_cidr: Vec<IpNet>,
    /// The node ports that Services have, if they name none.
    #[arg(long, default_value = "30000-32767", value_name = "FIRST-LAST", value_parser = node_ports)]
    service_node_port_range: (u16, u16),
    /// The directory of CNI configurations.
    #[arg(long, default_value = "/etc/cni/net.d", value_name = "DIRECTORY")]
    cni_conf_dir: PathBuf,
    /// The node's name, as pods and endpoints are told; its own if not given.
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
}

/// Removes all that `up` made for a directory: pods, rules, everything.
///
/// It stops the `up` that runs, if one does. For example: fairlead down examples/guestbook
#[derive(Debug, Args)]
pub(crate) struct DownCommand {
    #[command(flatten)]
    place: PlaceArguments,
}

#[derive(Debug, Args)]
struct PlaceArguments {
    /// The directory of manifests: Pods, Deployments, Services, ConfigMaps and Secrets, as YAML or JSON.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Where everything about pods is kept.
    #[arg(long, default_value = "/run/fairlead", value_name = "DIRECTORY")]
    root: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
}

impl UpCommand {
    pub(crate) fn run(self) -> Result<()> {
        if self.status {
            return self.show();
        }
        if self.detach {
            return self.leave();
        }
        let live = io::stdout().is_terminal();
        // A log line would run through the table; what is wrong is shown below it.
        let _verbosity = if live { None } else { Some(logging::start(logging::Format::Text, 2)) };
        let settings = self.settings()?;
        let stop = stop_signals()?;
        let mut view = live::View::new(live::Manner::of(live), &settings)?;
        up::up(&settings, stop, &mut |snapshot| view.show(snapshot))?;
        live::end("stopped; pods and rules stay");
        Ok(())
    }

    fn settings(&self) -> Result<Settings> {
        let (first, last) = self.service_node_port_range;
        Ok(Settings {
            directory: self.place.directory.clone(),
            root: absolute(&self.place.root)?,
            holder: holder()?,
            runtime: self.runtime.clone(),
            mode: self.proxy_mode.clone(),
            node_name: self.node_name.clone().unwrap_or_else(hostname).trim().to_lowercase(),
            pod_ranges: self.pod_cidr.clone(),
            cni: self.cni_conf_dir.clone(),
            ranges: Ranges { addresses: self.service_cidr.clone(), node_ports: first..=last },
        })
    }

    /// Starts the same command again, without the wish to leave it in the background.
    fn leave(&self) -> Result<()> {
        let mut words = std::env::args_os();
        let _program = words.next();
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        command.args(words.filter(|word| word != "--detach"));
        let snapshot = up::detach(command, &absolute(&self.place.root)?)?;
        io::stdout().write_all(live::tables(&snapshot, None).as_bytes())?;
        Ok(())
    }

    fn show(&self) -> Result<()> {
        let Some((snapshot, running)) = up::shown(&self.place.root)? else {
            bail!("nothing is up under {}", self.place.root.display());
        };
        let mut out = io::stdout().lock();
        if self.output == Some(Format::Json) {
            return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&snapshot)?)?);
        }
        out.write_all(live::tables(&snapshot, None).as_bytes())?;
        match running {
            up::Running::Process(pid) => writeln!(out, "kept in step by process {pid}")?,
            up::Running::Nothing => writeln!(out, "nothing keeps it in step; this is how it was last seen")?,
        }
        Ok(())
    }
}

impl DownCommand {
    pub(crate) fn run(self) -> Result<()> {
        let _verbosity = logging::start(logging::Format::Text, 2);
        let settings = Settings {
            directory: self.place.directory,
            root: absolute(&self.place.root)?,
            holder: holder()?,
            runtime: None,
            mode: ProxyMode::Nftables.name().to_owned(),
            node_name: hostname(),
            pod_ranges: Vec::new(),
            cni: PathBuf::new(),
            ranges: Ranges { addresses: Vec::new(), node_ports: 1..=1 },
        };
        Ok(up::down(&settings)?)
    }
}

fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("find {}", path.display()))
}

fn node_ports(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("{text:?} is not FIRST-LAST, both between 1 and 65535");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if first == 0 || first > last { Err(wrong()) } else { Ok((first, last)) }
}

//! `fairlead proxy`: kube-proxy's flags, and our own.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind as UsageError;
use clap::{Args, Command};
use proxy::{
    Access, Balancer, Configuration, FileNews, Input, KubeProxyConfiguration, LocalFallback, Origin,
    OwnSettings, PassedOver, ProxyError, ProxyMode, Transparency,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{debug, error, info, warn};

use crate::logging::{self, Format, SetVerbosity};

mod flags;
mod given;
mod version;

use given::KubeProxyFlags;
use version::Asked;

const EXAMPLES: &str = "\
Examples:
  Serve a node of a cluster, as kube-proxy does:
    fairlead proxy --config /var/lib/kube-proxy/config.conf --hostname-override node-1
  Show the rules for a directory of Services and EndpointSlices (needs no root, touches nothing):
    fairlead proxy --manifests examples/two-services --dry-run
  Write them once:
    fairlead proxy --manifests examples/two-services --once
  Keep them in step with the files:
    fairlead proxy --manifests examples/two-services --cluster-cidr 10.244.0.0/16
  Remove them, and whatever a kube-proxy left:
    fairlead proxy --cleanup";

/// Makes Services work on this node, as kube-proxy does.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, disable_version_flag = true)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ProxyCommand {
    /// Directory of Services, EndpointSlices, Nodes and ServiceCIDRs as YAML or JSON, watched for changes.
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,

    /// KubeProxyConfiguration file, followed while the proxy runs. Beside it kube-proxy's own flags do not count, but
    /// for --proxy-mode, --master, --hostname-override and those of logs.
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    config: String,

    /// Write the configuration, with all that it leaves out filled in, to this file, and exit.
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    write_config_to: String,

    /// Bring the kernel to the plan and exit: 0, or 1 if something could not be written. Not in the userspace mode,
    /// whose listeners would end with the process.
    #[arg(long, conflicts_with_all = ["dry_run", "cleanup"])]
    once: bool,

    /// Print all rules in the syntax of iptables-save or nft, and all listeners, and write none.
    #[arg(long, conflicts_with = "cleanup")]
    dry_run: bool,

    /// Do what needs full privileges, write no rules, and exit: whoever runs next needs CAP_NET_ADMIN alone. Asks no
    /// API server.
    #[arg(long)]
    init_only: bool,

    /// Remove all that this proxy or a kube-proxy left, and exit.
    #[arg(long)]
    cleanup: bool,

    /// In the ipvs mode, send traffic with a Local policy to any endpoint where none is here, as kube-proxy does.
    #[arg(long)]
    ipvs_local_fallback: bool,

    /// Ports of the userspace mode's listeners, as 40000-41000 or 40000+1000; the kernel's choice if left out.
    #[arg(long, value_name = "RANGE", default_value = "", hide_default_value = true)]
    proxy_port_range: String,

    /// How long the userspace mode remembers a UDP client that sends nothing and gets nothing.
    #[arg(long, value_name = "TIME", value_parser = flags::time, default_value = "5s")]
    udp_timeout: Duration,

    /// Which endpoint a new client of the userspace mode gets.
    #[arg(long, value_name = "NAME", value_parser = balancer(), default_value = "round-robin")]
    userspace_balancer: String,

    /// In the userspace mode, call endpoints under the client's address where the other modes would keep it and answers
    /// come by this node.
    #[arg(long)]
    userspace_transparent: bool,

    /// How long connections to an endpoint may live on that has gone, in the userspace and ipvs modes.
    #[arg(long, value_name = "TIME", value_parser = flags::time, default_value = "15m")]
    drain_timeout: Duration,

    /// How long the userspace mode lets connections finish when it is told to stop.
    #[arg(long, value_name = "TIME", value_parser = flags::time, default_value = "0s")]
    shutdown_grace: Duration,

    /// Print the version of Kubernetes that this is a proxy for, and our own; =raw prints more.
    #[arg(long, value_name = "FORM", value_parser = version::asked, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    version: Option<Asked>,

    #[command(flatten, next_help_heading = "Options of kube-proxy")]
    upstream: KubeProxyFlags,
}

impl ProxyCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if let Some(Asked::Print(text)) = &self.version {
            return Ok(writeln!(io::stdout(), "{text}")?);
        }
        let text = self.config_text()?;
        let (written, passed_over) = self.understood(&text)?;
        let set_verbosity = logging::start(Format::of(&written.logging.format), written.logging.verbosity);
        self.tell_what_does_not_count(&passed_over);
        let configuration = written.checked(&self.own(), proxy::best_mode)?;
        if !configuration.unknown_gates.is_empty() {
            let gates = configuration.unknown_gates.join(" ");
            warn!(gates, "no Kubernetes known to us has these feature gates");
        }
        // What flags said is told flag by flag.
        if !self.config.is_empty() {
            for field in configuration.written.without_effect() {
                debug!(field, "this field is accepted, and does nothing");
            }
        }
        if !self.write_config_to.is_empty() {
            return self.write_config(&configuration);
        }
        if self.cleanup {
            return Ok(proxy::clean_up(&configuration)?);
        }
        if self.init_only {
            return Ok(proxy::initialize(&configuration)?);
        }
        let input =
            Input { origin: self.origin(&configuration), configuration, flags: self.upstream.shown() };
        if self.dry_run {
            return print(&input);
        }
        if self.once {
            return match proxy::once(&input) {
                Err(error @ ProxyError::OnceUserspace) => {
                    Self::command().error(UsageError::ArgumentConflict, error).exit()
                }
                result => Ok(result?),
            };
        }
        let changes = self.follow_config(text, input.configuration.mode, set_verbosity)?;
        Ok(proxy::serve(&input, stop_signals()?, changes)?)
    }

    /// What the configuration file says; nothing if there is none.
    fn config_text(&self) -> anyhow::Result<String> {
        let path = &self.config;
        if path.is_empty() {
            return Ok(String::new());
        }
        fs::read_to_string(path).with_context(|| format!("cannot read the configuration {path}"))
    }

    /// The configuration as the file has it, or else the flags; and what was passed over in the file.
    fn understood(&self, text: &str) -> anyhow::Result<(KubeProxyConfiguration, Vec<PassedOver>)> {
        let (mut written, passed_over) = if self.config.is_empty() {
            (self.upstream.draft.configuration.clone(), Vec::new())
        } else {
            let (file, passed_over) = KubeProxyConfiguration::parse_file(text)
                .with_context(|| format!("cannot use the configuration {}", self.config))?;
            (self.upstream.beside(file), passed_over)
        };
        if !self.proxy_port_range.is_empty() {
            self.proxy_port_range.clone_into(&mut written.port_range);
        }
        Ok((written, passed_over))
    }

    /// The configurations that the file has after this one. One that cannot be used is told, and changes nothing.
    fn follow_config(
        &self,
        text: String,
        mode: ProxyMode,
        set_verbosity: SetVerbosity,
    ) -> anyhow::Result<mpsc::Receiver<Configuration>> {
        let (sender, changes) = mpsc::channel();
        if self.config.is_empty() {
            return Ok(changes);
        }
        let path = Path::new(&self.config);
        let mut news = FileNews::of(path, text)
            .with_context(|| format!("cannot follow the configuration {}", self.config))?;
        let command = self.clone();
        let changed = move |text: &str| -> anyhow::Result<Configuration> {
            let (written, passed_over) = command.understood(text)?;
            command.tell_what_does_not_count(&passed_over);
            let configuration = written.checked(&command.own(), || mode)?;
            set_verbosity(configuration.written.logging.verbosity);
            Ok(configuration)
        };
        let work = move || {
            loop {
                let text = match news.wait() {
                    Ok(text) => text,
                    Err(error) => return warn!(%error, "the configuration file is no longer followed"),
                };
                let configuration = changed(&text).map_err(|error| tell_that_the_old_one_counts(&error));
                if configuration.is_ok_and(|configuration| sender.send(configuration).is_err()) {
                    return;
                }
            }
        };
        thread::Builder::new().name("configuration".to_owned()).spawn(work)?;
        Ok(changes)
    }

    fn tell_what_does_not_count(&self, passed_over: &[PassedOver]) {
        for what in passed_over {
            warn!(file = self.config, "{what}");
        }
        let ignored = self.upstream.ignored_beside_config();
        if !self.config.is_empty() && !ignored.is_empty() {
            warn!(
                file = self.config,
                flags = ignored.join(" "),
                "beside a configuration file these flags do not count"
            );
        }
        for (flag, reason) in self.upstream.without_meaning() {
            debug!(flag, reason, "this flag is accepted, and does nothing");
        }
    }

    fn write_config(&self, configuration: &Configuration) -> anyhow::Result<()> {
        let path = &self.write_config_to;
        fs::write(path, configuration.written.to_yaml())
            .with_context(|| format!("cannot write the configuration to {path}"))?;
        info!(file = path, "wrote the configuration");
        Ok(())
    }

    /// The subcommand as it is called, for what clap says of it.
    fn command() -> Command {
        let mut command = crate::command();
        command.build();
        let proxy = command.find_subcommand("proxy").cloned();
        proxy.unwrap_or(command)
    }

    fn origin(&self, configuration: &Configuration) -> Origin {
        match &self.manifests {
            Some(directory) => Origin::Manifests(directory.clone()),
            None => Origin::Api(Access {
                kubeconfig: configuration.kubeconfig.clone(),
                master: Some(self.upstream.draft.master.clone()).filter(|text| !text.is_empty()),
            }),
        }
    }

    fn own(&self) -> OwnSettings {
        let named = Balancer::NAMES.into_iter().find(|(name, _)| *name == self.userspace_balancer);
        OwnSettings {
            balancer: named.map(|(_, balancer)| balancer).unwrap_or_default(),
            transparency: if self.userspace_transparent { Transparency::On } else { Transparency::Off },
            udp_timeout: self.udp_timeout,
            drain_timeout: self.drain_timeout,
            shutdown_grace: self.shutdown_grace,
            local_fallback: if self.ipvs_local_fallback {
                LocalFallback::Cluster
            } else {
                LocalFallback::Drop
            },
        }
    }
}

/// Why a changed configuration file cannot be used.
fn tell_that_the_old_one_counts(error: &anyhow::Error) {
    for reason in crate::lines(error) {
        error!(reason, "the configuration file has changed and cannot be used; what it said before counts");
    }
}

/// The names of the balancers.
fn balancer() -> PossibleValuesParser {
    Balancer::NAMES.map(|(name, _)| name).into()
}

/// Prints the dry run. A reader that has seen enough is no error.
fn print(input: &Input) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match proxy::dry_run(input, &mut out).and_then(|()| Ok(out.flush()?)) {
        Err(ProxyError::Io(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// SIGTERM and SIGINT as messages.
pub(crate) fn stop_signals() -> anyhow::Result<mpsc::Receiver<()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot wait for signals")?;
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        // Nobody listens any more when the proxy has already ended.
        let _unheard = signals.forever().try_for_each(|_| sender.send(()));
    };
    thread::Builder::new().name("signals".to_owned()).spawn(work).context("cannot wait for signals")?;
    Ok(receiver)
}

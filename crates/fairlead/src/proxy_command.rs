//! `fairlead proxy`: kube-proxy's flags, as far as the modes that exist depend on them, and our own.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind as UsageError;
use clap::{ArgAction, Args, Command};
use proxy::{
    Access, Balancer, ClientConnection, Config, DetectLocal, Input, IptablesConfig, IpvsConfig,
    NftablesConfig, Origin, ProxyError, UserspaceConfig,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::duration;
use crate::logging::{self, Format};

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
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ProxyCommand {
    /// Directory of Services, EndpointSlices, Nodes and ServiceCIDRs as YAML or JSON, watched for changes.
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,

    /// KubeProxyConfiguration file. Beside it kube-proxy's own flags do not count, but for --proxy-mode, --master,
    /// --hostname-override and those of logs.
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    config: String,

    /// File that tells where the API server is and who we are to it; in a pod its service account does.
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    kubeconfig: String,

    /// Address of the API server, before the one in the kubeconfig.
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    master: String,

    /// Bring the kernel to the plan and exit: 0, or 1 if something could not be written. Not in the userspace mode,
    /// whose listeners would end with the process.
    #[arg(long, conflicts_with_all = ["dry_run", "cleanup"])]
    once: bool,

    /// Print all rules in the syntax of iptables-save or nft, and all listeners, and write none.
    #[arg(long, conflicts_with = "cleanup")]
    dry_run: bool,

    /// Remove all that this proxy or a kube-proxy left, and exit.
    #[arg(long)]
    cleanup: bool,

    /// The mode: iptables, ipvs, nftables or userspace. Blank means iptables.
    #[arg(long, value_name = "MODE", default_value = "", hide_default_value = true)]
    proxy_mode: String,

    /// Name of this node, if it is not the host's.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    hostname_override: String,

    /// Ranges of the pods' addresses, comma separated; traffic from elsewhere to cluster IPs is masqueraded.
    #[arg(long, value_name = "CIDR", default_value = "", hide_default_value = true)]
    cluster_cidr: String,

    /// How local pods are told from the rest: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.
    #[arg(long, value_name = "MODE", default_value = "", hide_default_value = true)]
    detect_local_mode: String,

    /// The bridge of the local pods, for BridgeInterface.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pod_bridge_interface: String,

    /// How the local pods' interfaces begin, for InterfaceNamePrefix.
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pod_interface_name_prefix: String,

    /// Ranges of the addresses that node ports are served on, or "primary"; all local addresses if left out.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    nodeport_addresses: Vec<String>,

    /// Masquerade all traffic to cluster IPs.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true")]
    masquerade_all: bool,

    /// The bit of the packet mark that asks for masquerade, 0 to 31.
    #[arg(long, value_name = "BIT", default_value_t = 14, allow_negative_numbers = true)]
    iptables_masquerade_bit: i64,

    /// Serve node ports on 127.0.0.0/8 too.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = true, default_missing_value = "true")]
    iptables_localhost_nodeports: bool,

    /// Who chooses the endpoint in the ipvs mode: rr, lc, sh, mh, … Blank means rr.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    ipvs_scheduler: String,

    /// Ranges whose virtual servers are not ours: they are never changed or removed.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    ipvs_exclude_cidrs: Vec<String>,

    /// Answer ARP for cluster IPs on no link; a load balancer in the cluster may need it.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true")]
    ipvs_strict_arp: bool,

    /// How long the ipvs mode remembers a silent TCP connection, such as 15m; 0 for the kernel's own.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    ipvs_tcp_timeout: String,

    /// The same for one that is being closed.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    ipvs_tcpfin_timeout: String,

    /// The same for UDP.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    ipvs_udp_timeout: String,

    /// In the ipvs mode, send traffic with a Local policy to any endpoint where none is here, as kube-proxy does.
    #[arg(long)]
    ipvs_local_fallback: bool,

    /// Ports of the userspace mode's listeners, as 40000-41000 or 40000+1000; the kernel's choice if left out.
    #[arg(long, value_name = "RANGE", default_value = "", hide_default_value = true)]
    proxy_port_range: String,

    /// How long the userspace mode remembers a UDP client that sends nothing and gets nothing.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5s")]
    udp_timeout: Duration,

    /// Which endpoint a new client of the userspace mode gets.
    #[arg(long, value_name = "NAME", value_parser = balancer(), default_value = "round-robin")]
    userspace_balancer: String,

    /// How long connections to an endpoint may live on that has gone, in the userspace and ipvs modes.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "15m")]
    drain_timeout: Duration,

    /// How long the userspace mode lets connections finish when it is told to stop.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "0s")]
    shutdown_grace: Duration,

    /// Log verbosity: from 4 on each change is printed.
    #[arg(short, long, value_name = "LEVEL", default_value_t = 0)]
    v: u8,

    /// Log format.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    logging_format: Format,
}

impl ProxyCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        logging::start(self.logging_format, self.v);
        if self.cleanup {
            return Ok(proxy::clean_up(&self.effective_config()?)?);
        }
        let config = self.effective_config()?;
        let input = Input { origin: self.origin(&config), config };
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
        Ok(proxy::serve(&input, stop_signals()?)?)
    }

    /// The subcommand as it is called, for what clap says of it.
    fn command() -> Command {
        let mut command = crate::command();
        command.build();
        let proxy = command.find_subcommand("proxy").cloned();
        proxy.unwrap_or(command)
    }

    fn origin(&self, config: &Config) -> Origin {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        match &self.manifests {
            Some(directory) => Origin::Manifests(directory.clone()),
            None => Origin::Api(Access {
                kubeconfig: given(&config.client_connection.kubeconfig).map(PathBuf::from),
                master: given(&self.master),
            }),
        }
    }

    fn balancer(&self) -> Balancer {
        let named = Balancer::NAMES.into_iter().find(|(name, _)| *name == self.userspace_balancer);
        named.map(|(_, balancer)| balancer).unwrap_or_default()
    }

    /// That of the file, or else that of the flags.
    fn effective_config(&self) -> anyhow::Result<Config> {
        let flags = self.flags();
        if self.config.is_empty() {
            return Ok(flags);
        }
        let path = &self.config;
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read the configuration {path}"))?;
        let file =
            Config::parse_file(&text).with_context(|| format!("cannot use the configuration {path}"))?;
        let first = |flag: String, file: String| if flag.is_empty() { file } else { flag };
        Ok(Config {
            mode: first(flags.mode, file.mode),
            hostname_override: first(flags.hostname_override, file.hostname_override),
            port_range: first(flags.port_range, file.port_range),
            userspace: flags.userspace,
            ipvs: IpvsConfig { local_fallback: flags.ipvs.local_fallback, ..file.ipvs },
            ..file
        })
    }

    fn flags(&self) -> Config {
        Config {
            client_connection: ClientConnection { kubeconfig: self.kubeconfig.clone() },
            hostname_override: self.hostname_override.clone(),
            mode: self.proxy_mode.clone(),
            cluster_cidr: self.cluster_cidr.clone(),
            detect_local_mode: self.detect_local_mode.clone(),
            detect_local: DetectLocal {
                bridge_interface: self.pod_bridge_interface.clone(),
                interface_name_prefix: self.pod_interface_name_prefix.clone(),
            },
            node_port_addresses: self.nodeport_addresses.clone(),
            iptables: IptablesConfig {
                masquerade_bit: self.iptables_masquerade_bit,
                masquerade_all: self.masquerade_all,
                localhost_node_ports: self.iptables_localhost_nodeports,
            },
            port_range: self.proxy_port_range.clone(),
            userspace: UserspaceConfig {
                balancer: self.balancer(),
                udp_timeout: self.udp_timeout,
                drain_timeout: self.drain_timeout,
                shutdown_grace: self.shutdown_grace,
            },
            ipvs: IpvsConfig {
                scheduler: self.ipvs_scheduler.clone(),
                exclude_cidrs: self.ipvs_exclude_cidrs.clone(),
                strict_arp: self.ipvs_strict_arp,
                tcp_timeout: self.ipvs_tcp_timeout.clone(),
                tcp_fin_timeout: self.ipvs_tcpfin_timeout.clone(),
                udp_timeout: self.ipvs_udp_timeout.clone(),
                local_fallback: self.ipvs_local_fallback,
            },
            nftables: NftablesConfig { masquerade_all: self.masquerade_all, ..NftablesConfig::default() },
        }
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
fn stop_signals() -> anyhow::Result<mpsc::Receiver<()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot wait for signals")?;
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        // Nobody listens any more when the proxy has already ended.
        let _unheard = signals.forever().try_for_each(|_| sender.send(()));
    };
    thread::Builder::new().name("signals".to_owned()).spawn(work).context("cannot wait for signals")?;
    Ok(receiver)
}

//! Every field judged as upstream judges it, and all that is wrong told at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel_io::ipvs::Timeouts;
use kernel_state::ipvs::Scheduler;
use relay::PortRange;
use service_plan::{LocalPodsSetting, LocalhostNodePorts, Mark, MasqueradeAll, NodePortSetting, Settings};

use super::duration::GoDuration;
use super::written::KubeProxyConfiguration;
use super::{
    BindFailure, Configuration, ConntrackSettings, FieldError, Invalid, KUBERNETES_VERSION, OwnSettings,
    Profiling, SyncPeriods, TcpBeLiberal, feature_gates, log_fields,
};
use crate::ipvs::{IpvsSettings, StrictArp};
use crate::modes::ProxyMode;

/// The keywords of nodePortAddresses.
const PRIMARY: &str = "primary";
const LOOPBACK: [IpNet; 2] = [v4([127, 0, 0, 0], 8), v6(Ipv6Addr::LOCALHOST, 128)];
const ALL: [IpNet; 2] = [v4([0; 4], 0), v6(Ipv6Addr::UNSPECIFIED, 0)];

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// The mode as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeSetting {
    /// This one.
    Given(ProxyMode),
    /// The best that this kernel can do.
    Auto,
}

/// What was found wrong so far.
#[derive(Debug, Default)]
struct Complaints(Vec<FieldError>);

/// What a field of the mode's own block is, and what its sync periods are.
struct Block {
    masquerade_all: bool,
    sync_period: GoDuration,
    min_sync_period: GoDuration,
}

impl Complaints {
    /// A value, or what stands in its place while the rest is judged.
    fn or<T>(&mut self, result: Result<T, FieldError>, otherwise: T) -> T {
        result.unwrap_or_else(|error| {
            self.0.push(error);
            otherwise
        })
    }

    fn not_negative(&mut self, path: &str, number: i32) -> u32 {
        let error = || FieldError::invalid(at(path), &number, NOT_NEGATIVE);
        self.or(u32::try_from(number).map_err(|_| error()), 0)
    }

    /// Nothing for zero, which leaves things as they are.
    fn timeout(&mut self, path: &str, duration: GoDuration) -> Option<Duration> {
        let error = || invalid_time(path, duration, NOT_NEGATIVE);
        let time = self.or(duration.not_negative().ok_or_else(error), Duration::ZERO);
        Some(time).filter(|time| !time.is_zero())
    }

    fn positive(&mut self, path: &str, duration: GoDuration) -> Duration {
        let time = duration.not_negative().filter(|time| !time.is_zero());
        let error = || invalid_time(path, duration, "must be greater than 0");
        self.or(time.ok_or_else(error), Duration::ZERO)
    }
}

impl KubeProxyConfiguration {
    /// Judges every field. `auto` tells the mode where the configuration leaves it to us.
    pub fn checked(
        &self,
        own: &OwnSettings,
        auto: impl FnOnce() -> ProxyMode,
    ) -> Result<Configuration, Invalid> {
        let mut complaints = Complaints(log_fields::errors(&self.logging));
        let mode = match complaints.or(self.mode(), ModeSetting::Given(ProxyMode::Iptables)) {
            ModeSetting::Given(mode) => mode,
            ModeSetting::Auto => auto(),
        };
        self.check_what_is_not_used(&mut complaints);
        let configuration = Configuration {
            mode,
            node_name: complaints.or(self.node_name(), "".into()),
            bind_address: complaints.or(self.bind_address(), Ipv4Addr::UNSPECIFIED.into()),
            kubeconfig: given(&self.client_connection.kubeconfig).map(PathBuf::from),
            settings: self.settings(mode, &mut complaints),
            sync: self.sync_periods(mode, &mut complaints),
            ipvs: self.ipvs_settings(mode, own, &mut complaints),
            ports: complaints.or(self.ports(mode), PortRange::Any),
            own: *own,
            healthz: given(&self.healthz_bind_address)
                .map(|address| complaints.or(socket_address("HealthzBindAddress", address), unspecified())),
            metrics: complaints
                .or(socket_address("MetricsBindAddress", &self.metrics_bind_address), unspecified()),
            bind_failure: if self.bind_address_hard_fail { BindFailure::Exit } else { BindFailure::Retry },
            profiling: if self.enable_profiling { Profiling::On } else { Profiling::Off },
            conntrack: self.conntrack_settings(&mut complaints),
            oom_score_adj: complaints.or(self.oom_score_adj(), 0),
            feature_gates: self.feature_gates.clone(),
            unknown_gates: feature_gates::unknown(&self.feature_gates),
            written: self.filled_in(mode),
        };
        if complaints.0.is_empty() { Ok(configuration) } else { Err(Invalid(complaints.0)) }
    }

    /// The mode.
    pub fn mode(&self) -> Result<ModeSetting, FieldError> {
        let reason = "must be iptables, ipvs, nftables, userspace, auto or blank (blank means iptables)";
        match self.mode.as_str() {
            "" | "iptables" => Ok(ModeSetting::Given(ProxyMode::Iptables)),
            "nftables" => Ok(ModeSetting::Given(ProxyMode::Nftables)),
            "userspace" => Ok(ModeSetting::Given(ProxyMode::Userspace)),
            "ipvs" => Ok(ModeSetting::Given(ProxyMode::Ipvs)),
            "auto" => Ok(ModeSetting::Auto),
            other => Err(FieldError::invalid(at("Mode.ProxyMode"), &other, reason)),
        }
    }

    /// With what blank fields mean.
    fn filled_in(&self, mode: ProxyMode) -> Self {
        let mut filled = self.clone();
        if filled.mode.is_empty() {
            "iptables".clone_into(&mut filled.mode);
        }
        if filled.detect_local_mode.is_empty() {
            "ClusterCIDR".clone_into(&mut filled.detect_local_mode);
        }
        if filled.node_port_addresses.is_empty() && mode == ProxyMode::Nftables {
            filled.node_port_addresses.push("primary".to_owned());
        }
        filled
    }

    fn block(&self, mode: ProxyMode) -> Block {
        let masquerade_all = self.iptables.masquerade_all;
        match mode {
            ProxyMode::Iptables | ProxyMode::Userspace => Block {
                masquerade_all,
                sync_period: self.iptables.sync_period,
                min_sync_period: self.iptables.min_sync_period,
            },
            // Its mark and masqueradeAll are those of the iptables block, as upstream has it.
            ProxyMode::Ipvs => Block {
                masquerade_all,
                sync_period: self.ipvs.sync_period,
                min_sync_period: self.ipvs.min_sync_period,
            },
            ProxyMode::Nftables => Block {
                masquerade_all: self.nftables.masquerade_all,
                sync_period: self.nftables.sync_period,
                min_sync_period: self.nftables.min_sync_period,
            },
        }
    }

    fn settings(&self, mode: ProxyMode, complaints: &mut Complaints) -> Settings {
        let mark_of = |block: &str, bit| mark(&format!("KubeProxy{block}Configuration.MasqueradeBit"), bit);
        let mut mark = complaints.or(mark_of("IPTables", self.iptables.masquerade_bit), Mark(0));
        if mode == ProxyMode::Nftables {
            mark = complaints.or(mark_of("NFTables", self.nftables.masquerade_bit), Mark(0));
        }
        let node_ports = self.node_ports(mode, complaints);
        let masquerade_all = self.block(mode).masquerade_all;
        Settings {
            masquerade_all: if masquerade_all { MasqueradeAll::Yes } else { MasqueradeAll::No },
            mark,
            local_pods: self.local_pods(complaints),
            localhost_node_ports: self.localhost_node_ports(mode, &node_ports),
            node_ports,
        }
    }

    /// By rules where the iptables block wants it, in the modes that can; by listeners in the nftables mode where a
    /// range names localhost. Upstream's gate for that is off unless it is set; here whoever names localhost wants it.
    fn localhost_node_ports(&self, mode: ProxyMode, node_ports: &NodePortSetting) -> LocalhostNodePorts {
        let gate = self.feature_gates.get(feature_gates::LOCALHOST_NODE_PORTS);
        let (NodePortSetting::Primary(ranges) | NodePortSetting::Ranges(ranges)) = node_ports;
        let is_loopback = |range: &IpNet| range.addr().is_loopback();
        match mode {
            ProxyMode::Iptables | ProxyMode::Userspace if self.iptables.localhost_node_ports => {
                LocalhostNodePorts::Serve
            }
            ProxyMode::Nftables if gate != Some(&false) && ranges.iter().any(is_loopback) => {
                LocalhostNodePorts::Relay
            }
            ProxyMode::Iptables | ProxyMode::Userspace | ProxyMode::Nftables | ProxyMode::Ipvs => {
                LocalhostNodePorts::Ignore
            }
        }
    }

    fn sync_periods(&self, mode: ProxyMode, complaints: &mut Complaints) -> SyncPeriods {
        let block = self.block(mode);
        let period = complaints.positive("SyncPeriod", block.sync_period);
        let pace = complaints.timeout("MinSyncPeriod", block.min_sync_period);
        if block.min_sync_period > block.sync_period {
            let reason = "must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod";
            // The value that upstream tells, though it is not the one of the field.
            complaints.0.push(invalid_time("SyncPeriod", block.min_sync_period, reason));
        }
        SyncPeriods { period, pace: pace.unwrap_or(mode.pace()) }
    }

    fn ipvs_settings(&self, mode: ProxyMode, own: &OwnSettings, complaints: &mut Complaints) -> IpvsSettings {
        let mut found = Complaints::default();
        let path = |field: &str| format!("KubeProxyIPVSConfiguration.{field}");
        let excluded = (0..).zip(&self.ipvs.exclude_cidrs).filter_map(|(number, text)| {
            range(&path(&format!("ExcludeCidrs[{number}]")), text, "must be a valid CIDR")
                .map_err(|error| found.0.push(error))
                .ok()
        });
        let excluded = excluded.collect();
        let name = given(&self.ipvs.scheduler).unwrap_or("rr");
        let reason = "must be the name of a scheduler, such as rr, lc, sh or mh";
        let scheduler =
            Scheduler::new(name).ok_or_else(|| FieldError::invalid(at(&path("Scheduler")), &name, reason));
        let settings = IpvsSettings {
            scheduler: found.or(scheduler, IpvsSettings::default().scheduler),
            excluded,
            strict_arp: if self.ipvs.strict_arp { StrictArp::Yes } else { StrictArp::No },
            timeouts: Timeouts {
                tcp: found.timeout(&path("TCPTimeout"), self.ipvs.tcp_timeout),
                tcp_fin: found.timeout(&path("TCPFinTimeout"), self.ipvs.tcp_fin_timeout),
                udp: found.timeout(&path("UDPTimeout"), self.ipvs.udp_timeout),
            },
            drain_limit: own.drain_timeout,
            local_fallback: own.local_fallback,
        };
        // Like upstream, the other modes do not mind what is written here.
        if mode == ProxyMode::Ipvs {
            complaints.0.append(&mut found.0);
        }
        settings
    }

    fn conntrack_settings(&self, complaints: &mut Complaints) -> ConntrackSettings {
        let path =
            |field: &str| format!("KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.{field}");
        let fields = &self.conntrack;
        let max_per_core = complaints.not_negative(&path("MaxPerCore"), fields.max_per_core);
        ConntrackSettings {
            max_per_core: Some(max_per_core).filter(|max| *max > 0),
            min: complaints.not_negative(&path("Min"), fields.min),
            tcp_established: complaints
                .timeout(&path("TCPEstablishedTimeout"), fields.tcp_established_timeout),
            tcp_close_wait: complaints.timeout(&path("TCPCloseWaitTimeout"), fields.tcp_close_wait_timeout),
            udp: complaints.timeout(&path("UDPTimeout"), fields.udp_timeout),
            udp_stream: complaints.timeout(&path("UDPStreamTimeout"), fields.udp_stream_timeout),
            tcp_be_liberal: if fields.tcp_be_liberal { TcpBeLiberal::Yes } else { TcpBeLiberal::AsItIs },
        }
    }

    fn oom_score_adj(&self) -> Result<i32, FieldError> {
        let path = at("KubeProxyLinuxConfiguration.OOMScoreAdj");
        let reason = "must be within the range [-1000, 1000]";
        let score = self.oom_score_adj;
        if (-1000..=1000).contains(&score) {
            Ok(score)
        } else {
            Err(FieldError::invalid(path, &score, reason))
        }
    }

    fn bind_address(&self) -> Result<IpAddr, FieldError> {
        let reason = "not a valid textual representation of an IP address";
        let error = |_| FieldError::invalid(at("BindAddress"), &self.bind_address, reason);
        self.bind_address.parse().map_err(error)
    }

    /// Fields that change nothing here, but must be sound all the same.
    fn check_what_is_not_used(&self, complaints: &mut Complaints) {
        complaints.not_negative("ClientConnection.Burst", self.client_connection.burst);
        complaints.positive("ConfigSyncPeriod", self.config_sync_period);
        let version = &self.show_hidden_metrics_for_version;
        let previous = format!("{}.{}", KUBERNETES_VERSION.major, KUBERNETES_VERSION.minor - 1);
        if !version.is_empty() && *version != previous {
            let reason = format!(
                "must be omitted or have the value '{previous}'; only the previous minor version is allowed"
            );
            complaints.0.push(FieldError::invalid(at("ShowHiddenMetricsForVersion"), version, &reason));
        }
    }

    /// The ports that listeners of the userspace mode may have. Upstream ignores them in its other modes.
    fn ports(&self, mode: ProxyMode) -> Result<PortRange, FieldError> {
        let reason = "must be a range of ports like 40000-41000, 40000+1000 or 40000";
        match self.port_range.parse() {
            Ok(ports) => Ok(ports),
            Err(_) if mode != ProxyMode::Userspace => Ok(PortRange::Any),
            Err(_) => Err(FieldError::invalid(at("PortRange"), &self.port_range, reason)),
        }
    }

    fn local_pods(&self, complaints: &mut Complaints) -> LocalPodsSetting {
        let named = |field: &str, name: &str| match name {
            "" => {
                let path = at(&format!("DetectLocalConfiguration.{field}"));
                Err(FieldError::invalid(path, &name, "must not be empty"))
            }
            name => Ok(Arc::from(name)),
        };
        let setting = match self.detect_local_mode.as_str() {
            "" | "ClusterCIDR" => return LocalPodsSetting::Ranges(self.cluster_ranges(complaints)),
            "NodeCIDR" => Ok(LocalPodsSetting::NodeRanges),
            "BridgeInterface" => {
                named("InterfaceName", &self.detect_local.bridge_interface).map(LocalPodsSetting::Interface)
            }
            "InterfaceNamePrefix" => named("InterfacePrefix", &self.detect_local.interface_name_prefix)
                .map(LocalPodsSetting::InterfacePrefix),
            other => {
                let supported = r#""ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", """#;
                let problem = format!("Unsupported value: {other:?}: supported values: {supported}");
                Err(FieldError::new(at("DetectLocalMode"), problem))
            }
        };
        complaints.or(setting, LocalPodsSetting::NodeRanges)
    }

    fn cluster_ranges(&self, complaints: &mut Complaints) -> Vec<IpNet> {
        let texts: Vec<&str> =
            self.cluster_cidr.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
        let path = "DetectLocalConfiguration.ClusterCIDRs";
        let of_ipv4 = texts.iter().filter(|text| text.contains('.')).count();
        if texts.len() > 2 || texts.len() == 2 && of_ipv4 != 1 {
            let reason = "must be either a single CIDR or a dual-stack pair of CIDRs (e.g. 10.100.0.0/16, \
                          fde4:8dba:82e1::/48)";
            complaints.0.push(FieldError::invalid(at(path), &texts, reason));
        }
        let reason = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)";
        let ranges = (0..).zip(texts).filter_map(|(number, text)| {
            range(&format!("{path}[{number}]"), text, reason).map_err(|error| complaints.0.push(error)).ok()
        });
        ranges.collect()
    }

    /// Ranges and keywords in any combination, as Kubernetes has it from 1.37 on.
    fn node_ports(&self, mode: ProxyMode, complaints: &mut Complaints) -> NodePortSetting {
        let mut ranges = Vec::new();
        for (number, text) in self.node_port_addresses.iter().enumerate() {
            match (text.as_str(), text.parse()) {
                (PRIMARY, _) => {}
                ("localhost", _) => ranges.extend(LOOPBACK),
                ("all", _) => ranges.extend(ALL),
                (_, Ok(range)) => ranges.push(range),
                (_, Err(_)) => {
                    let path = at(&format!("NodePortAddresses[{number}]"));
                    complaints.0.push(FieldError::invalid(path, text, "must be a valid CIDR"));
                }
            }
        }
        let unset = self.node_port_addresses.is_empty() && mode == ProxyMode::Nftables;
        if unset || self.node_port_addresses.iter().any(|text| text == PRIMARY) {
            NodePortSetting::Primary(ranges)
        } else {
            NodePortSetting::Ranges(ranges)
        }
    }

    /// The name of this node: the override, or the host's own; trimmed and in lower case.
    fn node_name(&self) -> Result<Arc<str>, FieldError> {
        let host = rustix::system::uname();
        let name = match self.hostname_override.as_str() {
            "" => host.nodename().to_string_lossy().into_owned(),
            name => name.to_owned(),
        };
        match name.trim() {
            "" => {
                let reason = "must not be blank; a host without a name needs --hostname-override";
                Err(FieldError::invalid(at("HostnameOverride"), &name, reason))
            }
            name => Ok(name.to_lowercase().into()),
        }
    }
}

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(ip: Ipv6Addr, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(ip, prefix))
}

/// A field's path as upstream prints it.
fn at(field: &str) -> String {
    format!("KubeProxyConfiguration.{field}")
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn unspecified() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
}

fn invalid_time(field: &str, duration: GoDuration, reason: &str) -> FieldError {
    FieldError::invalid(at(field), &duration.to_string(), reason)
}

fn mark(field: &str, bit: i32) -> Result<Mark, FieldError> {
    let mark = u32::try_from(bit).ok().filter(|bit| *bit < 32).map(|bit| Mark(1 << bit));
    mark.ok_or_else(|| FieldError::invalid(at(field), &bit, "must be within the range [0, 31]"))
}

fn range(field: &str, text: &str, reason: &str) -> Result<IpNet, FieldError> {
    let range = IpNet::from_str(text).map(|range| range.trunc());
    range.map_err(|_| FieldError::invalid(at(field), &text, reason))
}

/// An address and a port, as Go's libraries split them.
fn socket_address(field: &str, text: &str) -> Result<SocketAddr, FieldError> {
    let error = |value: &str, reason| FieldError::invalid(at(field), &value, reason);
    let parts = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.rsplit_once(':').filter(|(host, _)| !host.contains(':')),
    };
    let (host, port) = parts.ok_or_else(|| error(text, "must be IP:port"))?;
    let ip: IpAddr = host.parse().map_err(|_| error(host, "must be a valid IP"))?;
    let port = port.parse().ok().filter(|port| *port > 0);
    let port: u16 =
        port.ok_or_else(|| error(text.rsplit(':').next().unwrap_or_default(), "must be a valid port"))?;
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests;

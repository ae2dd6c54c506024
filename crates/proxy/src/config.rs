//! `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1), as far as the modes that exist depend on it.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kernel_io::ipvs::Timeouts;
use kernel_state::ipvs::Scheduler;
use proxy_modes::LocalFallback;
use relay::{Balancer, PortRange};
use serde::Deserialize;
use serde_json::Value;
use service_plan::{LocalPodsSetting, LocalhostNodePorts, Mark, MasqueradeAll, NodePortSetting, Settings};
use thiserror::Error;

use crate::ipvs::{IpvsSettings, StrictArp};
use crate::modes::ProxyMode;

mod duration;

use duration::Signed;

/// A configuration, with upstream's field names and defaults.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// clientConnection
    pub client_connection: ClientConnection,
    /// hostnameOverride
    pub hostname_override: String,
    /// mode: iptables, or empty for the same
    pub mode: String,
    /// clusterCIDR, comma separated
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    /// detectLocalMode
    pub detect_local_mode: String,
    /// detectLocal
    pub detect_local: DetectLocal,
    /// nodePortAddresses: ranges, or `primary` alone
    pub node_port_addresses: Vec<String>,
    /// iptables
    pub iptables: IptablesConfig,
    /// nftables
    pub nftables: NftablesConfig,
    /// ipvs
    pub ipvs: IpvsConfig,
    /// portRange: the ports of the userspace mode's listeners, which upstream has given up
    pub port_range: String,
    /// What upstream's configuration has no fields for.
    #[serde(skip)]
    pub userspace: UserspaceConfig,
}

/// clientConnection
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    /// kubeconfig: a file, or empty for the pod's service account
    pub kubeconfig: String,
}

/// detectLocal
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct DetectLocal {
    /// bridgeInterface
    pub bridge_interface: String,
    /// interfaceNamePrefix
    pub interface_name_prefix: String,
}

/// The iptables block.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct IptablesConfig {
    /// masqueradeBit
    pub masquerade_bit: i64,
    /// masqueradeAll
    pub masquerade_all: bool,
    /// localhostNodePorts
    pub localhost_node_ports: bool,
}

/// The nftables block.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct NftablesConfig {
    /// masqueradeBit: checked as upstream checks it, but our rules leave the packet mark alone
    pub masquerade_bit: i64,
    /// masqueradeAll
    pub masquerade_all: bool,
}

/// How the userspace mode relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserspaceConfig {
    /// Which endpoint a new client gets.
    pub balancer: Balancer,
    /// How long a client that sends datagrams is remembered without any.
    pub udp_timeout: Duration,
    /// How long connections to an endpoint that has gone may live on.
    pub drain_timeout: Duration,
    /// How long connections may live on when the proxy is told to stop.
    pub shutdown_grace: Duration,
}

/// The ipvs block, and our own flags of that mode.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct IpvsConfig {
    /// scheduler; empty for rr
    pub scheduler: String,
    /// excludeCIDRs
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<String>,
    /// strictARP
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    /// tcpTimeout; empty or 0 for the kernel's own
    pub tcp_timeout: String,
    /// tcpFinTimeout, likewise
    pub tcp_fin_timeout: String,
    /// udpTimeout, likewise
    pub udp_timeout: String,
    /// `--ipvs-local-fallback`
    #[serde(skip)]
    pub local_fallback: bool,
}

/// A configuration that cannot be used; names the field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Not YAML, or a field of another type.
    #[error("KubeProxyConfiguration: {0}")]
    Syntax(String),
    /// A field has a value that it cannot have.
    #[error("{field}: invalid value {value:?}: {reason}")]
    Field {
        /// Its path.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Default for IptablesConfig {
    fn default() -> Self {
        Self { masquerade_bit: 14, masquerade_all: false, localhost_node_ports: true }
    }
}

impl Default for NftablesConfig {
    fn default() -> Self {
        Self { masquerade_bit: 14, masquerade_all: false }
    }
}

impl Default for UserspaceConfig {
    fn default() -> Self {
        Self {
            balancer: Balancer::RoundRobin,
            udp_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_mins(15),
            shutdown_grace: Duration::ZERO,
        }
    }
}

impl Config {
    /// Reads a configuration. Fields that no mode here depends on are passed over, and null is a field left out.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::of(fields(text)?)
    }

    /// Reads a configuration file, which tells of itself that it is one.
    pub fn parse_file(text: &str) -> Result<Self, ConfigError> {
        const EXPECTED: [(&str, &str); 2] =
            [("apiVersion", "kubeproxy.config.k8s.io/v1alpha1"), ("kind", "KubeProxyConfiguration")];
        let fields = fields(text)?;
        for (field, expected) in EXPECTED {
            let found = fields.get(field).and_then(Value::as_str).unwrap_or_default();
            if found != expected {
                return Err(ConfigError::Syntax(format!("{field} is {found:?}, and not {expected:?}")));
            }
        }
        Self::of(fields)
    }

    fn of(fields: Value) -> Result<Self, ConfigError> {
        serde_path_to_error::deserialize(fields)
            .map_err(|error| ConfigError::Syntax(format!("{}: {}", error.path(), error.inner())))
    }

    /// The mode.
    pub fn mode(&self) -> Result<ProxyMode, ConfigError> {
        match self.mode.as_str() {
            "" | "iptables" => Ok(ProxyMode::Iptables),
            "nftables" => Ok(ProxyMode::Nftables),
            "userspace" => Ok(ProxyMode::Userspace),
            "ipvs" => Ok(ProxyMode::Ipvs),
            other => Err(ConfigError::Field {
                field: "Mode.ProxyMode",
                value: other.to_owned(),
                reason: "must be iptables, ipvs, nftables, userspace or blank",
            }),
        }
    }

    /// What the ipvs mode is told, checked.
    pub fn ipvs_settings(&self) -> Result<IpvsSettings, ConfigError> {
        let scheduler = if self.ipvs.scheduler.is_empty() { "rr" } else { &self.ipvs.scheduler };
        let error =
            |field, value: &str, reason| ConfigError::Field { field, value: value.to_owned(), reason };
        let timeout =
            |field, value: &str| timeout(field, value).map(|time| time.filter(|time| !time.is_zero()));
        let excluded = self.ipvs.exclude_cidrs.iter().map(|text| {
            let field = "KubeProxyIPVSConfiguration.ExcludeCidrs";
            text.parse::<IpNet>()
                .map(|range| range.trunc())
                .map_err(|_| error(field, text, "must be a valid CIDR"))
        });
        Ok(IpvsSettings {
            scheduler: Scheduler::new(scheduler).ok_or_else(|| {
                let field = "KubeProxyIPVSConfiguration.Scheduler";
                error(field, scheduler, "must be the name of a scheduler, such as rr, lc, sh or mh")
            })?,
            excluded: excluded.collect::<Result<_, _>>()?,
            strict_arp: if self.ipvs.strict_arp { StrictArp::Yes } else { StrictArp::No },
            timeouts: Timeouts {
                tcp: timeout("KubeProxyIPVSConfiguration.TCPTimeout", &self.ipvs.tcp_timeout)?,
                tcp_fin: timeout("KubeProxyIPVSConfiguration.TCPFinTimeout", &self.ipvs.tcp_fin_timeout)?,
                udp: timeout("KubeProxyIPVSConfiguration.UDPTimeout", &self.ipvs.udp_timeout)?,
            },
            drain_limit: self.userspace.drain_timeout,
            local_fallback: if self.ipvs.local_fallback {
                LocalFallback::Cluster
            } else {
                LocalFallback::Drop
            },
        })
    }

    /// The configuration, checked and in the plan's terms.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let mark = mark("KubeProxyIPTablesConfiguration.MasqueradeBit", self.iptables.masquerade_bit)?;
        let (mark, masquerade_all, localhost) = match self.mode()? {
            ProxyMode::Iptables | ProxyMode::Userspace => {
                (mark, self.iptables.masquerade_all, self.iptables.localhost_node_ports)
            }
            // Its mark and masqueradeAll are those of the iptables block, as upstream has it.
            ProxyMode::Ipvs => {
                self.ipvs_settings()?;
                (mark, self.iptables.masquerade_all, false)
            }
            // It never serves node ports on localhost, whatever the iptables block says.
            ProxyMode::Nftables => {
                let field = "KubeProxyNFTablesConfiguration.MasqueradeBit";
                let mark = self::mark(field, self.nftables.masquerade_bit)?;
                (mark, self.nftables.masquerade_all, false)
            }
        };
        self.ports()?;
        Ok(Settings {
            masquerade_all: if masquerade_all { MasqueradeAll::Yes } else { MasqueradeAll::No },
            mark,
            local_pods: self.local_pods()?,
            node_ports: self.node_ports()?,
            localhost_node_ports: if localhost {
                LocalhostNodePorts::Serve
            } else {
                LocalhostNodePorts::Ignore
            },
        })
    }

    /// The ports that listeners may have.
    pub(crate) fn ports(&self) -> Result<PortRange, ConfigError> {
        self.port_range.parse().map_err(|_| ConfigError::Field {
            field: "PortRange",
            value: self.port_range.clone(),
            reason: "must be a range of ports like 40000-41000, 40000+1000 or 40000",
        })
    }

    fn local_pods(&self) -> Result<LocalPodsSetting, ConfigError> {
        match self.detect_local_mode.as_str() {
            "" | "ClusterCIDR" => Ok(LocalPodsSetting::Ranges(self.cluster_ranges()?)),
            "NodeCIDR" => Ok(LocalPodsSetting::NodeRanges),
            "BridgeInterface" => {
                let name = &self.detect_local.bridge_interface;
                interface("DetectLocalConfiguration.InterfaceName", name).map(LocalPodsSetting::Interface)
            }
            "InterfaceNamePrefix" => {
                let prefix = &self.detect_local.interface_name_prefix;
                interface("DetectLocalConfiguration.InterfacePrefix", prefix)
                    .map(LocalPodsSetting::InterfacePrefix)
            }
            other => Err(ConfigError::Field {
                field: "DetectLocalMode",
                value: other.to_owned(),
                reason: "must be ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix or blank",
            }),
        }
    }

    fn cluster_ranges(&self) -> Result<Vec<IpNet>, ConfigError> {
        let texts: Vec<&str> =
            self.cluster_cidr.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
        let error = |value: &str, reason| ConfigError::Field {
            field: "DetectLocalConfiguration.ClusterCIDRs",
            value: value.to_owned(),
            reason,
        };
        let ranges = texts
            .iter()
            .map(|text| {
                text.parse::<IpNet>()
                    .map(|range| range.trunc())
                    .map_err(|_| error(text, "must be a valid CIDR"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let is_ipv4 = |range: &IpNet| range.addr().is_ipv4();
        match ranges.as_slice() {
            [] | [_] => Ok(ranges),
            [one, other] if is_ipv4(one) != is_ipv4(other) => Ok(ranges),
            [_, _] => Err(error(&self.cluster_cidr, "two CIDRs must be of different IP families")),
            _ => Err(error(&self.cluster_cidr, "only one CIDR, or one of each IP family")),
        }
    }

    fn node_ports(&self) -> Result<NodePortSetting, ConfigError> {
        let error = |value: &str, reason| ConfigError::Field {
            field: "NodePortAddresses",
            value: value.to_owned(),
            reason,
        };
        let unset = self.node_port_addresses.is_empty() && self.mode()? == ProxyMode::Nftables;
        if unset || self.node_port_addresses == ["primary"] {
            return Ok(NodePortSetting::Primary);
        }
        let range = |text: &String| {
            if text == "primary" {
                return Err(error(text, "can't use both 'primary' and CIDRs"));
            }
            text.parse::<IpNet>().map_err(|_| error(text, "must be a valid CIDR"))
        };
        self.node_port_addresses.iter().map(range).collect::<Result<_, _>>().map(NodePortSetting::Ranges)
    }

    /// The name of this node: the override, or the host's own; trimmed and in lower case.
    pub fn node_name(&self) -> Result<Arc<str>, ConfigError> {
        let host = rustix::system::uname();
        let name = match self.hostname_override.trim() {
            "" => host.nodename().to_string_lossy().trim().to_lowercase(),
            name => name.to_lowercase(),
        };
        if name.is_empty() {
            let reason = "the host has no name; give one with --hostname-override";
            return Err(ConfigError::Field { field: "HostnameOverride", value: name, reason });
        }
        Ok(name.into())
    }
}

fn mark(field: &'static str, bit: i64) -> Result<Mark, ConfigError> {
    let mark = u32::try_from(bit).ok().filter(|bit| *bit < 32).map(|bit| Mark(1 << bit));
    let reason = "must be within the range [0, 31]";
    mark.ok_or_else(|| ConfigError::Field { field, value: bit.to_string(), reason })
}

/// The fields of a text, without those that say null.
fn fields(text: &str) -> Result<Value, ConfigError> {
    let fields: Value =
        serde_saphyr::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
    // A text without a field is a configuration too.
    Ok(if fields.is_null() { Value::Object(serde_json::Map::new()) } else { without_nulls(fields) })
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let told = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(told.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            other
        }
    }
}

/// A duration that is not negative; nothing if none is given.
fn timeout(field: &'static str, value: &str) -> Result<Option<Duration>, ConfigError> {
    let error = |reason| ConfigError::Field { field, value: value.to_owned(), reason };
    match duration::parse(value) {
        _ if value.is_empty() => Ok(None),
        Some(Signed::NotNegative(time)) => Ok(Some(time)),
        Some(Signed::Negative) => Err(error("must be greater than or equal to 0")),
        None => Err(error("must be a duration, such as 30s or 15m")),
    }
}

fn interface(field: &'static str, name: &str) -> Result<Arc<str>, ConfigError> {
    if name.is_empty() {
        return Err(ConfigError::Field { field, value: String::new(), reason: "must not be empty" });
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests;

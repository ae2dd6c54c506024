//! `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1), field by field as it is written.
//!
//! A flag of kube-proxy is another way to write a field. Nothing is judged here: see [`super::check`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::duration::GoDuration;

/// A configuration as it is written, with upstream's names and defaults.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct KubeProxyConfiguration {
    pub bind_address: String,
    pub bind_address_hard_fail: bool,
    pub client_connection: ClientConnection,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub config_sync_period: GoDuration,
    pub conntrack: ConntrackFields,
    pub detect_local: DetectLocal,
    pub detect_local_mode: String,
    pub enable_profiling: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    pub healthz_bind_address: String,
    pub hostname_override: String,
    pub iptables: IptablesFields,
    pub ipvs: IpvsFields,
    pub logging: LoggingFields,
    pub metrics_bind_address: String,
    pub mode: String,
    pub nftables: NftablesFields,
    pub node_port_addresses: Vec<String>,
    pub oom_score_adj: i32,
    pub port_range: String,
    pub show_hidden_metrics_for_version: String,
    #[serde(skip_serializing_if = "is_false")]
    pub windows_run_as_service: bool,
    /// For Windows alone.
    pub winkernel: WinkernelFields,
}

/// clientConnection
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct ClientConnection {
    pub accept_content_types: String,
    pub burst: i32,
    pub content_type: String,
    pub kubeconfig: String,
    pub qps: f32,
}

/// conntrack
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct ConntrackFields {
    pub max_per_core: i32,
    pub min: i32,
    pub tcp_be_liberal: bool,
    pub tcp_close_wait_timeout: GoDuration,
    pub tcp_established_timeout: GoDuration,
    pub udp_stream_timeout: GoDuration,
    pub udp_timeout: GoDuration,
}

/// detectLocal
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

/// iptables
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct IptablesFields {
    pub localhost_node_ports: bool,
    pub masquerade_all: bool,
    pub masquerade_bit: i32,
    /// Zero is the mode's own pace.
    pub min_sync_period: GoDuration,
    pub sync_period: GoDuration,
}

/// nftables
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct NftablesFields {
    pub masquerade_all: bool,
    /// Checked as upstream checks it, but our rules leave the packet mark alone.
    pub masquerade_bit: i32,
    pub min_sync_period: GoDuration,
    pub sync_period: GoDuration,
}

/// ipvs
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct IpvsFields {
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<String>,
    pub min_sync_period: GoDuration,
    /// Empty for rr.
    pub scheduler: String,
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    pub sync_period: GoDuration,
    pub tcp_fin_timeout: GoDuration,
    pub tcp_timeout: GoDuration,
    pub udp_timeout: GoDuration,
}

/// logging
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct LoggingFields {
    #[serde(deserialize_with = "text_or_nanoseconds")]
    pub flush_frequency: GoDuration,
    pub format: String,
    pub options: LoggingOptions,
    pub verbosity: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vmodule: Vec<VerbosityOfFiles>,
}

/// logging.options
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct LoggingOptions {
    pub json: StreamOptions,
    pub text: StreamOptions,
}

/// logging.options.text and .json
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct StreamOptions {
    /// A quantity, such as 4Ki.
    #[serde(deserialize_with = "text_or_number")]
    pub info_buffer_size: String,
    #[serde(skip_serializing_if = "is_false")]
    pub split_stream: bool,
}

/// An element of logging.vmodule
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, which docs/configuration.md explains")]
pub struct VerbosityOfFiles {
    pub file_pattern: String,
    pub verbosity: u32,
}

/// winkernel
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names, none of which means anything here")]
pub struct WinkernelFields {
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    pub forward_health_check_vip: bool,
    pub network_name: String,
    pub root_hns_endpoint_name: String,
    pub source_vip: String,
}

const SYNC_PERIOD: GoDuration = GoDuration::of_seconds(30);
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

impl Default for KubeProxyConfiguration {
    fn default() -> Self {
        Self {
            bind_address: "0.0.0.0".to_owned(),
            bind_address_hard_fail: false,
            client_connection: ClientConnection::default(),
            cluster_cidr: String::new(),
            config_sync_period: GoDuration::of_seconds(15 * 60),
            conntrack: ConntrackFields::default(),
            detect_local: DetectLocal::default(),
            detect_local_mode: String::new(),
            enable_profiling: false,
            feature_gates: BTreeMap::new(),
            healthz_bind_address: format!("0.0.0.0:{HEALTHZ_PORT}"),
            hostname_override: String::new(),
            iptables: IptablesFields::default(),
            ipvs: IpvsFields::default(),
            logging: LoggingFields::default(),
            metrics_bind_address: format!("127.0.0.1:{METRICS_PORT}"),
            mode: String::new(),
            nftables: NftablesFields::default(),
            node_port_addresses: Vec::new(),
            oom_score_adj: -999,
            port_range: String::new(),
            show_hidden_metrics_for_version: String::new(),
            windows_run_as_service: false,
            winkernel: WinkernelFields::default(),
        }
    }
}

impl Default for ClientConnection {
    fn default() -> Self {
        Self {
            accept_content_types: String::new(),
            burst: 10,
            content_type: PROTOBUF.to_owned(),
            kubeconfig: String::new(),
            qps: 5.0,
        }
    }
}

impl Default for ConntrackFields {
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_be_liberal: false,
            tcp_close_wait_timeout: GoDuration::of_seconds(3600),
            tcp_established_timeout: GoDuration::of_seconds(24 * 3600),
            udp_stream_timeout: GoDuration::ZERO,
            udp_timeout: GoDuration::ZERO,
        }
    }
}

impl Default for IptablesFields {
    fn default() -> Self {
        Self {
            localhost_node_ports: true,
            masquerade_all: false,
            masquerade_bit: 14,
            min_sync_period: GoDuration::ZERO,
            sync_period: SYNC_PERIOD,
        }
    }
}

impl Default for NftablesFields {
    fn default() -> Self {
        Self {
            masquerade_all: false,
            masquerade_bit: 14,
            min_sync_period: GoDuration::ZERO,
            sync_period: SYNC_PERIOD,
        }
    }
}

impl Default for IpvsFields {
    fn default() -> Self {
        Self {
            exclude_cidrs: Vec::new(),
            min_sync_period: GoDuration::ZERO,
            scheduler: String::new(),
            strict_arp: false,
            sync_period: SYNC_PERIOD,
            tcp_fin_timeout: GoDuration::ZERO,
            tcp_timeout: GoDuration::ZERO,
            udp_timeout: GoDuration::ZERO,
        }
    }
}

impl Default for LoggingFields {
    fn default() -> Self {
        Self {
            flush_frequency: GoDuration::of_seconds(5),
            format: "text".to_owned(),
            options: LoggingOptions::default(),
            verbosity: 0,
            vmodule: Vec::new(),
        }
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { info_buffer_size: "0".to_owned(), split_stream: false }
    }
}

impl KubeProxyConfiguration {
    /// Gives the addresses that have no port these. Port 0 gives up the address, which healthz can do without.
    pub fn set_ports(&mut self, healthz: u16, metrics: u16) {
        for (address, port) in
            [(&mut self.healthz_bind_address, healthz), (&mut self.metrics_bind_address, metrics)]
        {
            match port {
                0 => address.clear(),
                port => append_port(address, port),
            }
        }
    }

    /// With what a file means that says nothing, or zero where zero has no meaning of its own.
    pub(super) fn defaulted(mut self) -> Self {
        let defaults = Self::default();
        let of_text = |field: &mut String, default: String| {
            if field.is_empty() {
                *field = default;
            }
        };
        let of_time = |field: &mut GoDuration, default: GoDuration| {
            if field.is_zero() {
                *field = default;
            }
        };
        of_text(&mut self.bind_address, defaults.bind_address);
        // Where the node is known by an IPv6 address, its servers have one too.
        let is_ipv6 = self.bind_address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_ipv6());
        let (healthz, metrics) = if is_ipv6 { ("[::]", "[::1]") } else { ("0.0.0.0", "127.0.0.1") };
        of_text(&mut self.healthz_bind_address, format!("{healthz}:{HEALTHZ_PORT}"));
        of_text(&mut self.metrics_bind_address, format!("{metrics}:{METRICS_PORT}"));
        append_port(&mut self.healthz_bind_address, HEALTHZ_PORT);
        append_port(&mut self.metrics_bind_address, METRICS_PORT);
        of_text(&mut self.client_connection.content_type, defaults.client_connection.content_type);
        if self.client_connection.burst == 0 {
            self.client_connection.burst = defaults.client_connection.burst;
        }
        if self.client_connection.qps == 0.0 {
            self.client_connection.qps = defaults.client_connection.qps;
        }
        of_time(&mut self.config_sync_period, defaults.config_sync_period);
        of_time(&mut self.iptables.sync_period, SYNC_PERIOD);
        of_time(&mut self.ipvs.sync_period, SYNC_PERIOD);
        of_time(&mut self.nftables.sync_period, SYNC_PERIOD);
        of_text(&mut self.logging.format, defaults.logging.format);
        of_time(&mut self.logging.flush_frequency, defaults.logging.flush_frequency);
        self
    }
}

/// Adds a port to an address that has none; whatever else it is stays, to be judged later.
fn append_port(address: &mut String, port: u16) {
    if let Ok(ip) = address.parse::<std::net::IpAddr>() {
        *address = std::net::SocketAddr::new(ip, port).to_string();
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !value
}

fn text_or_nanoseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GoDuration, D::Error> {
    let error = "expected a duration, such as 5s, or a number of nanoseconds";
    match Value::deserialize(deserializer)? {
        Value::String(text) => text.parse().map_err(de::Error::custom),
        Value::Number(number) => {
            number.as_i64().map(GoDuration::of_nanoseconds).ok_or_else(|| de::Error::custom(error))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(de::Error::custom(error)),
    }
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(de::Error::custom("expected a quantity, such as 4Ki"))
        }
    }
}

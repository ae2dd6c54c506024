//! What the proxy is told to do: kube-proxy's configuration and our own flags, checked once and from then on typed.
//!
//! ```text
//! file or flags ──▶ KubeProxyConfiguration ──check──▶ Configuration
//!                   (as written, defaulted)           (as the rest of the proxy takes it)
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proxy_modes::{LocalFallback, Transparency};
use relay::{Balancer, PortRange};
use service_plan::Settings;
use thiserror::Error;

use crate::ipvs::IpvsSettings;
use crate::modes::ProxyMode;

mod check;
mod differences;
mod duration;
mod feature_gates;
mod file;
mod log_fields;
mod news;
mod written;

pub use check::ModeSetting;
pub use differences::Differences;
pub use duration::{DurationError, GoDuration};
pub use file::{PassedOver, SyntaxError};
pub use news::FileNews;
pub use written::{
    ClientConnection, ConntrackFields, DetectLocal, IptablesFields, IpvsFields, KubeProxyConfiguration,
    LoggingFields, LoggingOptions, NftablesFields, StreamOptions, VerbosityOfFiles, WinkernelFields,
};

/// The kube-proxy that we are a drop-in for: whose flags, fields, metrics and defaults ours are.
pub const KUBERNETES_VERSION: KubernetesVersion = KubernetesVersion { major: 1, minor: 36, patch: 1 };

/// A version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubernetesVersion {
    /// 1
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

/// What the proxy is told to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// The mode; a mode of `auto` is decided already.
    pub mode: ProxyMode,
    /// The name of this node: the override, or the host's own; trimmed and in lower case.
    pub node_name: Arc<str>,
    /// The node's address where the operator knows better than its Node object; unspecified if not.
    pub bind_address: IpAddr,
    /// The kubeconfig, if there is one.
    pub kubeconfig: Option<PathBuf>,
    /// What is planned by.
    pub settings: Settings,
    /// When the kernel is looked at and written.
    pub sync: SyncPeriods,
    /// What the ipvs mode is told, and whoever cleans up after it.
    pub ipvs: IpvsSettings,
    /// The ports that listeners of the userspace mode may have.
    pub ports: PortRange,
    /// What upstream's configuration has no fields for.
    pub own: OwnSettings,
    /// Where /healthz and /livez are served; nothing if they are not.
    pub healthz: Option<SocketAddr>,
    /// Where /metrics and what is beside it is served.
    pub metrics: SocketAddr,
    /// What to do where an address of the two cannot be had.
    pub bind_failure: BindFailure,
    /// Whether profiles are served beside the metrics.
    pub profiling: Profiling,
    /// What the connection tracker is told.
    pub conntrack: ConntrackSettings,
    /// Our place in the line of those that the kernel ends when memory is short.
    pub oom_score_adj: i32,
    /// The feature gates that somebody set.
    pub feature_gates: BTreeMap<String, bool>,
    /// Those among them that no Kubernetes known to us has.
    pub unknown_gates: Vec<String>,
    /// As it is written, for those who ask for it: `--write-config-to`, `/configz`.
    pub written: KubeProxyConfiguration,
}

/// When the kernel is looked at and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncPeriods {
    /// syncPeriod: in this time whatever is pending must have been written, or the proxy is not healthy.
    pub period: Duration,
    /// How long the next write waits after a write, so that changes of a burst are written together.
    pub pace: Duration,
}

/// What to do where an address cannot be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindFailure {
    /// Try again.
    Retry,
    /// Exit.
    Exit,
}

/// enableProfiling
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profiling {
    /// Profiles are served.
    On,
    /// They are not.
    Off,
}

/// The conntrack block; what is nothing is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConntrackSettings {
    /// maxPerCore; nothing leaves the limit as it is, whatever `min` says.
    pub max_per_core: Option<u32>,
    /// min
    pub min: u32,
    /// tcpEstablishedTimeout
    pub tcp_established: Option<Duration>,
    /// tcpCloseWaitTimeout
    pub tcp_close_wait: Option<Duration>,
    /// udpTimeout
    pub udp: Option<Duration>,
    /// udpStreamTimeout
    pub udp_stream: Option<Duration>,
    /// tcpBeLiberal
    pub tcp_be_liberal: TcpBeLiberal,
}

/// tcpBeLiberal
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpBeLiberal {
    /// Packets outside the window are no reason to call a connection invalid.
    Yes,
    /// As the kernel has it; it is never switched off.
    AsItIs,
}

/// Our own flags, which upstream's configuration has no fields for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnSettings {
    /// Which endpoint a new client of the userspace mode gets.
    pub balancer: Balancer,
    /// Whether endpoints see their clients in the userspace mode.
    pub transparency: Transparency,
    /// How long a client that sends datagrams is remembered without any.
    pub udp_timeout: Duration,
    /// How long connections to an endpoint that has gone may live on.
    pub drain_timeout: Duration,
    /// How long connections may live on when the proxy is told to stop.
    pub shutdown_grace: Duration,
    /// Who gets an endpoint elsewhere in the ipvs mode, where the policy is Local and none is here.
    pub local_fallback: LocalFallback,
}

/// A field with a value that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {problem}")]
pub struct FieldError {
    path: String,
    problem: String,
}

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub Vec<FieldError>);

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(out, "failed validate: {}", all.join("; "))
    }
}

impl std::error::Error for Invalid {}

impl Invalid {
    /// One line for each field.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|error| format!("failed validate: {error}"))
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Default for OwnSettings {
    fn default() -> Self {
        Self {
            balancer: Balancer::RoundRobin,
            transparency: Transparency::Off,
            udp_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_mins(15),
            shutdown_grace: Duration::ZERO,
            local_fallback: LocalFallback::Drop,
        }
    }
}

impl FieldError {
    fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    /// In the words of Kubernetes' own checks.
    fn invalid(path: impl Into<String>, value: &dyn fmt::Debug, reason: &str) -> Self {
        Self::new(path, format!("Invalid value: {value:?}: {reason}"))
    }
}

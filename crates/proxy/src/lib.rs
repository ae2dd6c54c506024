//! The conductor of `fairlead proxy`: the one place where source, plan, modes and kernel meet.
//!
//! ```text
//! source ──▶ Facts ──▶ plan ──┬─▶ IPv4 writer: render, diff, write
//!  (one thread owns these)    └─▶ IPv6 writer: render, diff, write
//! ```

mod best_mode;
mod conductor;
mod config;
mod flows;
mod health;
mod initialize;
pub mod ipvs;
mod knowledge;
mod localhost;
mod messages;
mod metrics;
mod modes;
mod presence;
mod reconciler;
mod relaying;
mod remarks;
#[cfg(test)]
mod samples;
mod serving;
mod source;
mod tracking;
mod witness;
mod writer;

pub use best_mode::best_mode;
pub use conductor::{Input, ProxyError, clean_up, dry_run, once, serve};
pub use config::{
    BindFailure, ClientConnection, Configuration, ConntrackFields, ConntrackSettings, DetectLocal,
    Differences, DurationError, FieldError, FileNews, GoDuration, Invalid, IptablesFields, IpvsFields,
    KUBERNETES_VERSION, KubeProxyConfiguration, KubernetesVersion, LoggingFields, LoggingOptions,
    ModeSetting, NftablesFields, OwnSettings, PassedOver, Profiling, StreamOptions, SyncPeriods, SyntaxError,
    TcpBeLiberal, VerbosityOfFiles, WinkernelFields,
};
pub use flows::FlowsPass;
pub use initialize::initialize;
pub use localhost::LocalhostPass;
pub use messages::{forward, pass_on};
pub use modes::{ModeError, ProxyMode};
pub use proxy_modes::{LocalFallback, Transparency};
pub use reconciler::{Extent, Failure, Failures, Pass, Reconciler, Refusal, Rules, Sighting, Spent};
pub use relay::Balancer;
pub use service_watch::{Access, Feed};
pub use serving::{ServeError, StartError, What};
pub use source::Origin;

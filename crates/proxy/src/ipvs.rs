//! What the ipvs mode is written with, and what it needs of the kernel besides its own objects.

use std::marker::PhantomData;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel_io::SumTarget;
use kernel_io::ipset::{self, Ipsets};
use kernel_io::ipvs::{self, Ownership, Servers, Timeouts};
use kernel_io::link::{Device, LinkError};
use kernel_io::netlink::NetlinkError;
use kernel_io::sysctl::{self, SysctlError};
use kernel_io::xtables::{self, Tool, Xtables};
use kernel_state::ipset::{Family as SetFamily, Ipset};
use kernel_state::ipvs::{Ipvs as ServerObjects, Scheduler};
use kernel_state::links::Links;
use kernel_state::{Objects, State, Sum};
use proxy_modes::{IPVS_DEVICE, Ipvs, LocalFallback, Mode};
use service_plan::{Family, NodePlan, ServicePlan};
use thiserror::Error;
use tracing::{info, warn};

mod wishes;

pub(crate) use wishes::Wishes;

/// The targets of the mode's vocabularies, in the order in which they are written.
pub type IpvsTarget = SumTarget<Ipsets, SumTarget<Servers, SumTarget<Xtables, Device>>>;

/// The same without rules: what a mode that has rules of its own in those tables leaves to be removed.
pub(crate) type BareTarget = SumTarget<Ipsets, SumTarget<Servers, Device>>;

/// What the operator decided about the mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpvsSettings {
    /// Who chooses the endpoint.
    pub scheduler: Scheduler,
    /// Virtual servers in these ranges are never removed.
    pub excluded: Vec<IpNet>,
    /// Whether the node answers for the addresses of kube-ipvs0 only on the link that has them.
    pub strict_arp: StrictArp,
    /// How long the kernel remembers silent connections.
    pub timeouts: Timeouts,
    /// How long an endpoint that is gone may keep its connections.
    pub drain_limit: Duration,
    /// Who gets an endpoint elsewhere where the policy is Local and none is here.
    pub local_fallback: LocalFallback,
}

impl Default for IpvsSettings {
    fn default() -> Self {
        Self {
            scheduler: Scheduler::new("rr").expect("it is short"),
            excluded: Vec::new(),
            strict_arp: StrictArp::No,
            timeouts: Timeouts::default(),
            drain_limit: Duration::from_mins(15),
            local_fallback: LocalFallback::Drop,
        }
    }
}

/// strictARP
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrictArp {
    /// The node answers for its own addresses alone, each on its link.
    Yes,
    /// As the kernel does by itself.
    No,
}

/// The mode cannot be used here.
#[derive(Debug, Error)]
pub enum IpvsError {
    /// The iptables tools.
    #[error(transparent)]
    Xtables(#[from] xtables::OpenError),
    /// Sets of addresses.
    #[error(transparent)]
    Ipset(#[from] ipset::OpenError),
    /// Virtual servers.
    #[error(transparent)]
    Servers(#[from] ipvs::OpenError),
    /// The link that holds the addresses.
    #[error("{IPVS_DEVICE}: {0}")]
    Link(#[from] LinkError),
    /// The timeouts were refused.
    #[error("cannot set the IPVS timeouts: {0}")]
    Timeouts(NetlinkError),
}

impl IpvsError {
    /// Whether something is missing here that the mode cannot do without, so that it can have left nothing here.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::Xtables(error) => matches!(error, xtables::OpenError::Missing { .. }),
            Self::Ipset(error) => matches!(error, ipset::OpenError::Missing { .. }),
            Self::Servers(error) => matches!(error, ipvs::OpenError::Missing),
            Self::Link(_) | Self::Timeouts(_) => false,
        }
    }
}

/// Sees to what the mode needs of the kernel. Once for both families.
pub fn prepare(settings: &IpvsSettings) -> Result<(), IpvsError> {
    let mut servers = Servers::open(SetFamily::Inet, Ownership::default(), settings.drain_limit)?;
    servers.require(&settings.scheduler)?;
    let version = kernel_version(&rustix::system::uname().release().to_string_lossy());
    for (name, value) in sysctls(settings, version) {
        if !sysctl::read(name).is_ok_and(|found| found == value) {
            set_or_tell(name, value);
        }
    }
    servers.set_timeouts(&settings.timeouts).map_err(IpvsError::Timeouts)
}

/// Sets a setting of the kernel. Where we may not, as in a container whose /proc/sys is read-only, somebody else has
/// to: that is told, and most of the mode works without.
fn set_or_tell(name: &str, value: &str) {
    if let Err(error) = sysctl::write(name, value) {
        let error = with_cause(&error);
        warn!(
            error,
            "a setting of the kernel stays as it is; the ipvs mode does not work in full without it"
        );
    }
}

/// Opens what one family is written with.
pub fn target(family: Family, settings: &IpvsSettings) -> Result<IpvsTarget, IpvsError> {
    let SumTarget { first, then: SumTarget { first: servers, then: device } } =
        bare_target(family, settings)?;
    let tool = match family {
        Family::V4 => Tool::Iptables,
        Family::V6 => Tool::Ip6tables,
    };
    let rules = Xtables::open(tool, Ipvs::layout())?;
    let rest = SumTarget { first: servers, then: SumTarget { first: rules, then: device } };
    Ok(SumTarget { first, then: rest })
}

pub(crate) fn bare_target(family: Family, settings: &IpvsSettings) -> Result<BareTarget, IpvsError> {
    let mut sets = Ipsets::open(Ipvs::sets(family))?;
    sets.require(&Ipvs::set_types(family))?;
    let servers = servers(family, settings)?;
    let device = Device::open(IPVS_DEVICE, set_family(family))?;
    Ok(SumTarget { first: sets, then: SumTarget { first: servers, then: device } })
}

fn servers(family: Family, settings: &IpvsSettings) -> Result<Servers, IpvsError> {
    let ownership = Ownership {
        addresses: Ipvs::address_sets(family),
        ports: Ipvs::port_sets(family),
        spared: settings.excluded.clone(),
    };
    Ok(Servers::open(set_family(family), ownership, settings.drain_limit)?)
}

pub(crate) fn set_family(family: Family) -> SetFamily {
    match family {
        Family::V4 => SetFamily::Inet,
        Family::V6 => SetFamily::Inet6,
    }
}

/// How often it is looked whether the last connection has ended.
const DRAIN_LOOK: Duration = Duration::from_secs(1);

/// Waits until no connection goes through the virtual servers that the mode left, or the limit has passed. Who has no
/// connection to lose does not wait.
pub(crate) fn let_drain(family: Family, settings: &IpvsSettings) {
    if !is_loaded() {
        return;
    }
    let drained =
        servers(family, settings).and_then(|servers| Ok(await_last_connection(servers, family, settings)?));
    if let Err(error) = drained {
        warn!(%family, %error, "connections that came in by IPVS are cut");
    }
}

fn await_last_connection(
    mut servers: Servers,
    family: Family,
    settings: &IpvsSettings,
) -> Result<(), ipvs::OpenError> {
    servers.remove_connectionless()?;
    let start = Instant::now();
    let connections = servers.connections()?;
    if connections > 0 {
        info!(%family, connections, limit = ?settings.drain_limit, "connections that came in by IPVS live on");
    }
    while servers.connections()? > 0 && start.elapsed() < settings.drain_limit {
        thread::sleep(DRAIN_LOOK);
    }
    Ok(())
}

/// Whether the kernel has IPVS already. To ask IPVS itself would load it.
pub(crate) fn is_loaded() -> bool {
    Path::new("/proc/thread-self/net/ip_vs").exists()
}

/// A mode of some vocabulary that wants nothing.
pub(crate) struct Nothing<O>(PhantomData<fn() -> O>);

/// What is left of the mode beside its rules.
pub(crate) type BareObjects = Sum<Ipset, Sum<ServerObjects, Links>>;

impl<O> Nothing<O> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<O: Objects> Mode for Nothing<O> {
    type Objects = O;

    fn skeleton(&self, _node: &NodePlan) -> State<O> {
        State::new()
    }

    fn render(&self, _plan: &ServicePlan, _node: &NodePlan) -> State<O> {
        State::new()
    }
}

pub(crate) fn with_cause(error: &SysctlError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// The kernel's settings, with the values that the mode needs.
fn sysctls(settings: &IpvsSettings, kernel: Option<(u32, u32)>) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        // Rules see the packets of a virtual server, and can masquerade them.
        ("net.ipv4.vs.conntrack", "1"),
        // A connection to an endpoint that is gone ends at once, and its client finds another.
        ("net.ipv4.vs.expire_nodest_conn", "1"),
        // A client that was bound to an endpoint which drains finds another.
        ("net.ipv4.vs.expire_quiescent_template", "1"),
        ("net.ipv4.ip_forward", "1"),
    ];
    match kernel {
        // A port that is used again waits for a second there, unless it may go to where it went before. Since 5.9
        // it need not wait, and a new connection to an endpoint that drains goes elsewhere.
        Some(version) if ((4, 1)..(5, 9)).contains(&version) => {
            all.push(("net.ipv4.vs.conn_reuse_mode", "0"));
        }
        Some(version) if version < (4, 1) => {
            warn!("this kernel is older than 4.1: ports that are used again may wait for a second");
        }
        Some(_) | None => {}
    }
    if settings.strict_arp == StrictArp::Yes {
        all.extend([("net.ipv4.conf.all.arp_ignore", "1"), ("net.ipv4.conf.all.arp_announce", "2")]);
    }
    all
}

/// `6.1.176-1-cloud` is 6.1.
pub(crate) fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests;

//! The modes that exist: what each is written with, how it is shown without writing, and how it is removed.
//!
//! A new mode is a variant of [`ProxyMode`] and an arm in each function here.

use std::io;
use std::path::Path;
use std::time::Duration;

use kernel_io::link::{LinkError, Routing};
use kernel_io::listeners::{AddressBook, WithListeners};
use kernel_io::xtables::{OpenError, Tool, Xtables};
use kernel_io::{SumTarget, nft, sysctl};
use kernel_state::Retried;
use kernel_state::nft::Family as NftFamily;
use kernel_state::routing::Routing as Objects;
use kernel_state::xtables::{GuardedChain, Layout};
use proxy_modes::{
    InvalidPackets, Iptables, Ipvs, Localhost, Mode, Nftables, SourceRanges, Transparency, Userspace,
};
use relay::{PortRange, Relay};
use service_plan::{Family, LocalhostNodePorts, Plan, SentOn};
use thiserror::Error;
use tracing::{debug, warn};

use crate::config::Configuration;
use crate::flows::{Tracked, WithFlows};
use crate::ipvs::{self, BareObjects, IpvsError, IpvsSettings, Nothing};
use crate::localhost::WithLocalhost;
use crate::reconciler::{Pass, Reconciler, Sighting};
use crate::relaying::Relaying;

/// A mode of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// Rules that are searched one by one.
    Iptables,
    /// Maps that are asked once.
    Nftables,
    /// A process that relays every byte.
    Userspace,
    /// Virtual servers of the kernel's own load balancer.
    Ipvs,
}

impl ProxyMode {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Nftables, Self::Ipvs, Self::Iptables, Self::Userspace];

    /// As --proxy-mode has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Userspace => "userspace",
            Self::Ipvs => "ipvs",
        }
    }

    /// How long the next write waits after a write, so that changes of a burst are written together: iptables pays
    /// for each write what reading its tables costs.
    pub(crate) fn pace(self) -> Duration {
        match self {
            Self::Iptables | Self::Userspace => Duration::from_millis(100),
            Self::Nftables | Self::Ipvs => Duration::ZERO,
        }
    }
}

/// What a mode is written with cannot be used.
#[derive(Debug, Error)]
pub enum ModeError {
    /// The iptables tools.
    #[error(transparent)]
    Xtables(#[from] OpenError),
    /// The kernel's `nf_tables`.
    #[error(transparent)]
    Nft(#[from] nft::OpenError),
    /// The threads that relay.
    #[error("cannot start the relay: {0}")]
    Relay(io::Error),
    /// The kernel's policy routing.
    #[error("cannot see how packets are routed")]
    Routing(#[source] LinkError),
    /// The kernel's IPVS, and what the mode needs around it.
    #[error(transparent)]
    Ipvs(#[from] IpvsError),
}

/// A reconciler, whatever its mode and target.
pub(crate) trait Reconcile: Send {
    /// Takes a plan in.
    fn want(&mut self, plan: &Plan);

    /// Brings the kernel to what is wanted, as far as it lets us.
    fn write(&mut self) -> Pass;

    /// Tries again what was refused.
    fn try_again(&mut self) -> Retried;

    /// Looks whether a stranger may have changed what is ours; if so, the next pass sees to it.
    fn look(&mut self) -> Sighting;
}

/// The reconciler of each IP family that this node has.
pub(crate) type Families = Vec<(Family, Box<dyn Reconcile>)>;

/// What a mode is written with.
pub(crate) struct Opened {
    /// For each IP family.
    pub(crate) families: Families,
    /// The threads of the userspace mode, or of node ports on localhost; what they relay ends with them.
    pub(crate) relay: Option<Relay>,
}

impl Opened {
    pub(crate) fn served(&self) -> Vec<Family> {
        self.families.iter().map(|(family, _)| *family).collect()
    }
}

/// Opens what a mode is written with. IPv4 must be among the families; a node without IPv6 is an ordinary one.
pub(crate) fn open(
    mode: ProxyMode,
    localhost: LocalhostNodePorts,
    relaying: &Relaying,
    ipvs: &IpvsSettings,
) -> Result<Opened, ModeError> {
    let (families, relay) = match mode {
        ProxyMode::Iptables => (open_iptables(localhost)?, None),
        ProxyMode::Nftables if localhost == LocalhostNodePorts::Relay => {
            let relay = relaying.start_unmarked().map_err(ModeError::Relay)?;
            let beside = |(family, rules)| (family, beside_listeners(rules, &relay, family));
            (open_nftables()?.into_iter().map(beside).collect(), Some(relay))
        }
        ProxyMode::Nftables => (open_nftables()?, None),
        ProxyMode::Ipvs => {
            ipvs::prepare(ipvs)?;
            (open_ipvs(ipvs)?, None)
        }
        ProxyMode::Userspace => {
            let (families, relay) = open_userspace(relaying)?;
            (families, Some(relay))
        }
    };
    Ok(Opened { families: families.into_iter().map(|one| with_flows(mode, one)).collect(), relay })
}

/// The same, and the kernel forgets the flows that a write left stale.
fn with_flows(
    mode: ProxyMode,
    (family, reconciler): (Family, Box<dyn Reconcile>),
) -> (Family, Box<dyn Reconcile>) {
    let sent_on = match mode {
        ProxyMode::Iptables | ProxyMode::Nftables | ProxyMode::Ipvs => SentOn::ByKernel,
        ProxyMode::Userspace => SentOn::ByRelay,
    };
    (family, Box::new(WithFlows::new(family, sent_on, reconciler, Tracked::default())))
}

/// One for every family and whatever else a mode writes to, with nothing wanted: what they write removes all that
/// the mode left, ours or kube-proxy's.
pub(crate) fn cleaners(mode: ProxyMode, ipvs: &IpvsSettings) -> Result<Families, ModeError> {
    match mode {
        ProxyMode::Iptables => open_iptables(LocalhostNodePorts::Ignore),
        ProxyMode::Ipvs if ipvs::is_loaded() => open_ipvs(ipvs),
        ProxyMode::Ipvs => Ok(Families::new()),
        ProxyMode::Nftables => {
            let mut cleaners = open_nftables_to_clean()?;
            cleaners.extend(upstream_tables()?);
            Ok(cleaners)
        }
        // Its listeners are gone with the process that had them.
        ProxyMode::Userspace => {
            let mut cleaners = open_xtables(iptables_mode(), &Userspace::layout())?;
            cleaners.extend(of_both_families(|family| {
                Ok(Box::new(Reconciler::new(Nothing::<Objects>::new(), answers(family)?)))
            })?);
            Ok(cleaners)
        }
    }
}

/// The cleaners of every mode. What this kernel does not have can have left nothing here; but where only the iptables
/// tools are missing, their rules may be there all the same, so that is told.
pub(crate) fn cleaners_of_all(ipvs: &IpvsSettings) -> Result<Families, ModeError> {
    let all = ProxyMode::ALL.into_iter().map(|mode| match mode {
        ProxyMode::Iptables => cleaners(mode, ipvs),
        ProxyMode::Ipvs | ProxyMode::Nftables | ProxyMode::Userspace => if_installed(cleaners(mode, ipvs)),
    });
    all.collect::<Result<Vec<_>, _>>().map(|all| all.into_iter().flatten().collect())
}

/// The cleaners of what a mode follows on, but for what the ipvs mode has beside its rules: the other modes, and
/// kube-proxy's own nftables mode.
pub(crate) fn cleaners_of_others(mode: ProxyMode, ipvs: &IpvsSettings) -> Result<Families, ModeError> {
    let others = match mode {
        // The two keep rules in the same chains: the one that follows has removed those of the other already.
        ProxyMode::Iptables | ProxyMode::Ipvs => [ProxyMode::Nftables, ProxyMode::Userspace],
        ProxyMode::Nftables => [ProxyMode::Iptables, ProxyMode::Userspace],
        ProxyMode::Userspace => [ProxyMode::Nftables, ProxyMode::Iptables],
    };
    let mut all = match mode {
        // Where nftables is among the others, its cleaners have it among theirs.
        ProxyMode::Iptables | ProxyMode::Ipvs | ProxyMode::Userspace => Families::new(),
        ProxyMode::Nftables => upstream_tables()?,
    };
    for other in others {
        all.extend(if_installed(cleaners(other, ipvs))?);
    }
    Ok(all)
}

/// The cleaners of what the ipvs mode has beside its rules, where another one follows on. Sets can go only when no rule
/// names them any more.
pub(crate) fn cleaners_of_ipvs(mode: ProxyMode, ipvs: &IpvsSettings) -> Result<Families, ModeError> {
    if mode == ProxyMode::Ipvs { Ok(Families::new()) } else { if_installed(bare_ipvs_cleaners(ipvs)) }
}

/// No cleaners for a mode that this machine could never have been in.
fn if_installed(cleaners: Result<Families, ModeError>) -> Result<Families, ModeError> {
    let is_absence = |error: &ModeError| match error {
        ModeError::Xtables(error) => matches!(error, OpenError::Missing { .. }),
        ModeError::Nft(error) => matches!(error, nft::OpenError::Missing(_)),
        ModeError::Ipvs(error) => error.is_absence(),
        ModeError::Relay(_) | ModeError::Routing(_) => false,
    };
    match cleaners {
        Err(error) if is_absence(&error) => {
            debug!(%error, "nothing of that mode is looked for");
            Ok(Families::new())
        }
        other => other,
    }
}

/// Prints all that a mode wants for a plan of everything.
pub(crate) fn print(configuration: &Configuration, plan: &Plan, out: &mut dyn io::Write) -> io::Result<()> {
    let Configuration { mode, ipvs, own, .. } = configuration;
    match mode {
        ProxyMode::Iptables => {
            write!(out, "# {}\n{}", tool(plan.node.family).name(), whole_state(&iptables_mode(), plan))
        }
        ProxyMode::Nftables => {
            // As comments, so that nft takes the whole.
            let listeners = whole_state(&Localhost, plan).to_string();
            if !listeners.is_empty() {
                writeln!(out, "# {} listeners", plan.node.family)?;
                listeners.lines().try_for_each(|line| writeln!(out, "# {line}"))?;
            }
            write!(out, "{}", whole_state(&Nftables::MODERN, plan))
        }
        ProxyMode::Userspace => {
            let (routing, rest) = whole_state(&Userspace { transparency: own.transparency }, plan).parts();
            let (listeners, rules) = rest.parts();
            let family = plan.node.family;
            if own.transparency == Transparency::On {
                write!(out, "# {family} routing\n{routing}")?;
            }
            write!(out, "# {family} listeners\n{listeners}# {}\n{rules}", tool(family).name())
        }
        ProxyMode::Ipvs => {
            write!(out, "# {}\n{}", plan.node.family, whole_state(&ipvs_mode(ipvs), plan))
        }
    }
}

/// Sees to what a mode needs of the kernel besides its own objects.
pub(crate) fn prepare(mode: ProxyMode, localhost: LocalhostNodePorts) {
    // The relay's listeners are no localhost, so nothing has to be routed to it.
    if mode != ProxyMode::Userspace && localhost == LocalhostNodePorts::Serve {
        route_localhost();
    }
}

fn whole_state<M: Mode>(mode: &M, plan: &Plan) -> kernel_state::State<M::Objects> {
    let mut state = mode.skeleton(&plan.node);
    for port in plan.services.iter().flat_map(|(_, ports)| ports) {
        state.extend(mode.render(port, &plan.node));
    }
    state
}

fn open_iptables(localhost: LocalhostNodePorts) -> Result<Families, ModeError> {
    let mode = iptables_mode();
    let guarded_chain = match localhost {
        LocalhostNodePorts::Serve => GuardedChain::Wanted,
        LocalhostNodePorts::Relay | LocalhostNodePorts::Ignore => GuardedChain::Unwanted,
    };
    open_xtables(mode, &Iptables::layout(guarded_chain))
}

fn open_xtables(mode: Iptables, layout: &Layout) -> Result<Families, ModeError> {
    of_both_families(|family| {
        let target = Xtables::open(tool(family), layout.clone())?;
        Ok(Box::new(Reconciler::new(mode, target)))
    })
}

fn open_ipvs(settings: &IpvsSettings) -> Result<Families, ModeError> {
    let open = |family| -> Result<Box<dyn Reconcile>, ModeError> {
        Ok(Box::new(Reconciler::new(ipvs_mode(settings), ipvs::target(family, settings)?)))
    };
    of_both_families(open)
}

/// Those that remove what the mode left beside its rules.
fn bare_ipvs_cleaners(settings: &IpvsSettings) -> Result<Families, ModeError> {
    if !ipvs::is_loaded() {
        return Ok(Families::new());
    }
    let open = |family| -> Result<Box<dyn Reconcile>, ModeError> {
        let target = ipvs::bare_target(family, settings)?;
        Ok(Box::new(Reconciler::new(Nothing::<BareObjects>::new(), target)))
    };
    of_both_families(open)
}

/// IPv4, and IPv6 where the node has it and it can be opened.
fn of_both_families(
    open: impl Fn(Family) -> Result<Box<dyn Reconcile>, ModeError>,
) -> Result<Families, ModeError> {
    let mut families = vec![(Family::V4, open(Family::V4)?)];
    if !has_ipv6() {
        debug!("this node has no IPv6");
        return Ok(families);
    }
    match open(Family::V6) {
        Ok(reconciler) => families.push((Family::V6, reconciler)),
        Err(error) => warn!(%error, "IPv6 is not served"),
    }
    Ok(families)
}

/// One relay for both families, and for each the listeners and rules that lead to it.
fn open_userspace(relaying: &Relaying) -> Result<(Families, Relay), ModeError> {
    let relay = relaying.start().map_err(ModeError::Relay)?;
    let families = of_both_families(|family| {
        let book = AddressBook::default();
        let first = relay.listeners(relaying.ip(family), relaying.ports, book.clone());
        let rules = Xtables::open(tool(family), Userspace::layout())?;
        let then = SumTarget { first, then: WithListeners::new(rules, book) };
        let target = SumTarget { first: answers(family)?, then };
        Ok(Box::new(Reconciler::new(Userspace { transparency: relaying.transparency }, target)))
    })?;
    Ok((families, relay))
}

/// The way back of answers to clients' own addresses.
fn answers(family: Family) -> Result<Routing, ModeError> {
    Routing::open(ipvs::set_family(family), Userspace::ANSWERS_TABLE).map_err(ModeError::Routing)
}

/// Rules, and listeners on localhost beside them; nobody needs to know where those are.
fn beside_listeners(rules: Box<dyn Reconcile>, relay: &Relay, family: Family) -> Box<dyn Reconcile> {
    let listeners = relay.listeners(family.localhost(), PortRange::Any, AddressBook::default());
    Box::new(WithLocalhost::new(rules, listeners))
}

fn tool(family: Family) -> Tool {
    match family {
        Family::V4 => Tool::Iptables,
        Family::V6 => Tool::Ip6tables,
    }
}

/// The mode that this kernel can do, and what it is written with.
fn open_nftables() -> Result<Families, ModeError> {
    let abilities = nft::abilities(NftFamily::Ip)?;
    let source_ranges = match abilities.ranges {
        nft::Ability::There => SourceRanges::InSet,
        nft::Ability::Missing => SourceRanges::InChains,
    };
    debug!(?abilities, "this kernel's nf_tables");
    let mode = Nftables { source_ranges };
    let layout = nft::Layout { comment: mode.layout(), sets: mode.sets(), comments: abilities.comments };
    open_nftables_as(mode, layout, || nft::abilities(NftFamily::Ip6).map(drop))
}

/// What removes all that the mode left, whatever this kernel can do.
fn open_nftables_to_clean() -> Result<Families, ModeError> {
    open_nftables_as(Nftables::MODERN, nft::Layout::NONE, || Ok(()))
}

fn open_nftables_as(
    mode: Nftables,
    layout: nft::Layout,
    can_do_ipv6: impl FnOnce() -> Result<(), nft::OpenError>,
) -> Result<Families, ModeError> {
    let first = nft::Nft::open(NftFamily::Ip, layout)?;
    let open_second = || can_do_ipv6().and_then(|()| first.open_beside(NftFamily::Ip6));
    let second = if has_ipv6() { Some(open_second()) } else { None };
    let reconciler = |target| -> Box<dyn Reconcile> { Box::new(Reconciler::new(mode, target)) };
    let mut families = vec![(Family::V4, reconciler(first))];
    match second {
        None => debug!("this node has no IPv6"),
        Some(Ok(target)) => families.push((Family::V6, reconciler(target))),
        Some(Err(error)) => warn!(%error, "IPv6 is not served"),
    }
    Ok(families)
}

/// The nftables mode in the calling thread's network namespace.
pub(crate) fn nftables_here() -> Result<Families, ModeError> {
    open_nftables()
}

fn ipvs_mode(settings: &IpvsSettings) -> Ipvs {
    Ipvs { scheduler: settings.scheduler, local_fallback: settings.local_fallback }
}

fn nft_family(family: Family) -> NftFamily {
    match family {
        Family::V4 => NftFamily::Ip,
        Family::V6 => NftFamily::Ip6,
    }
}

/// Those that remove the tables of kube-proxy's own nftables mode.
fn upstream_tables() -> Result<Families, ModeError> {
    let remover = |family| -> Result<(Family, Box<dyn Reconcile>), ModeError> {
        let target = nft::Nft::open(nft_family(family), nft::Layout::NONE)?;
        Ok((family, Box::new(UpstreamTable { target })))
    };
    let ipv6 = has_ipv6().then_some(Family::V6);
    std::iter::once(Family::V4).chain(ipv6).map(remover).collect()
}

/// The table that kube-proxy's own nftables mode left.
struct UpstreamTable {
    target: nft::Nft,
}

impl Reconcile for UpstreamTable {
    fn want(&mut self, _plan: &Plan) {}

    fn write(&mut self) -> Pass {
        match self.target.remove_table("kube-proxy") {
            Ok(()) => Pass::default(),
            Err(error) => Pass { failure: Some(error.into()), ..Pass::default() },
        }
    }

    fn try_again(&mut self) -> Retried {
        Retried::Nobody
    }

    fn look(&mut self) -> Sighting {
        Sighting::Nothing
    }
}

/// The mode as this node's connection tracker asks for.
fn iptables_mode() -> Iptables {
    let liberal = sysctl::read("net.netfilter.nf_conntrack_tcp_be_liberal").unwrap_or_default();
    let invalid_packets =
        if matches!(liberal.as_str(), "" | "0") { InvalidPackets::Drop } else { InvalidPackets::Forward };
    Iptables { invalid_packets }
}

/// Lets the kernel route packets for 127.0.0.0/8, which node ports on localhost need.
fn route_localhost() {
    const NAME: &str = "net.ipv4.conf.all.route_localnet";
    if sysctl::read(NAME).is_ok_and(|value| value == "1") {
        return;
    }
    if let Err(error) = sysctl::write(NAME, "1") {
        let error = ipvs::with_cause(&error);
        warn!(error, "node ports are not served on localhost");
    }
}

fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
        && !sysctl::read("net.ipv6.conf.all.disable_ipv6").is_ok_and(|value| value == "1")
}

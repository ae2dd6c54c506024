//! The modes that exist: what each is written with, how it is shown without writing, and how it is removed.
//!
//! A new mode is a variant of [`ProxyMode`] and an arm in each function here.

use std::io;
use std::path::Path;

use kernel_io::sysctl;
use kernel_io::xtables::{OpenError, Tool, Xtables};
use kernel_state::Retried;
use kernel_state::xtables::GuardedChain;
use proxy_modes::{InvalidPackets, Iptables, Mode};
use service_plan::{Family, LocalhostNodePorts, Plan};
use thiserror::Error;
use tracing::{debug, warn};

use crate::reconciler::{Pass, Reconciler};

/// A mode of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// Rules that are searched one by one.
    Iptables,
}

/// What a mode is written with cannot be used.
#[derive(Debug, Error)]
pub enum ModeError {
    /// The iptables tools.
    #[error(transparent)]
    Xtables(#[from] OpenError),
}

/// A reconciler, whatever its mode and target.
pub(crate) trait Reconcile: Send {
    /// Takes a plan in.
    fn want(&mut self, plan: &Plan);

    /// Brings the kernel to what is wanted, as far as it lets us.
    fn write(&mut self) -> Pass;

    /// Tries again what was refused.
    fn try_again(&mut self) -> Retried;
}

/// The reconciler of each IP family that this node has.
pub(crate) type Families = Vec<(Family, Box<dyn Reconcile>)>;

/// Opens what a mode is written with. IPv4 must be among the families; a node without IPv6 is an ordinary one.
pub(crate) fn open(mode: ProxyMode, localhost: LocalhostNodePorts) -> Result<Families, ModeError> {
    match mode {
        ProxyMode::Iptables => open_iptables(localhost),
    }
}

/// One for every vocabulary and family, with nothing wanted: what they write removes all that is ours.
pub(crate) fn cleaners() -> Result<Families, ModeError> {
    open_iptables(LocalhostNodePorts::Ignore)
}

/// Prints all that a mode wants for a plan of everything.
pub(crate) fn print(mode: ProxyMode, plan: &Plan, out: &mut dyn io::Write) -> io::Result<()> {
    match mode {
        ProxyMode::Iptables => {
            let tool = match plan.node.family {
                Family::V4 => Tool::Iptables,
                Family::V6 => Tool::Ip6tables,
            };
            write!(out, "# {}\n{}", tool.name(), whole_state(&iptables_mode(), plan))
        }
    }
}

/// Sees to what a plan needs of the kernel besides a mode's own objects.
pub(crate) fn prepare(plan: &Plan) {
    if plan.node.localhost_node_ports == LocalhostNodePorts::Serve {
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
        LocalhostNodePorts::Ignore => GuardedChain::Unwanted,
    };
    let open = |tool| -> Result<Box<dyn Reconcile>, OpenError> {
        Ok(Box::new(Reconciler::new(mode, Xtables::open(tool, Iptables::layout(guarded_chain))?)))
    };
    let mut families = vec![(Family::V4, open(Tool::Iptables)?)];
    if !has_ipv6() {
        debug!("this node has no IPv6");
        return Ok(families);
    }
    match open(Tool::Ip6tables) {
        Ok(reconciler) => families.push((Family::V6, reconciler)),
        Err(error) => warn!(%error, "IPv6 is not served"),
    }
    Ok(families)
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
        warn!(%error, "node ports are not served on localhost");
    }
}

fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
        && !sysctl::read("net.ipv6.conf.all.disable_ipv6").is_ok_and(|value| value == "1")
}

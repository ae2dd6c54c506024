//! Which IP families this node has, and what they are written with.

use std::path::Path;

use kernel_io::sysctl;
use kernel_io::xtables::{OpenError, Tool, Xtables};
use kernel_state::xtables::GuardedChain;
use proxy_modes::{InvalidPackets, Iptables};
use service_plan::{Family, LocalhostNodePorts};
use tracing::{debug, warn};

use crate::reconciler::Reconciler;

/// The iptables mode of one family.
pub(crate) type IptablesReconciler = Reconciler<Iptables, Xtables>;

/// The families that can be written. IPv4 must be among them; a node without IPv6 is an ordinary one.
pub(crate) fn open_iptables(
    localhost: LocalhostNodePorts,
) -> Result<Vec<(Family, IptablesReconciler)>, OpenError> {
    let mode = iptables_mode();
    let guarded_chain = match localhost {
        LocalhostNodePorts::Serve => GuardedChain::Wanted,
        LocalhostNodePorts::Ignore => GuardedChain::Unwanted,
    };
    let open = |tool| Xtables::open(tool, Iptables::layout(guarded_chain));
    let mut families = vec![(Family::V4, Reconciler::new(mode, open(Tool::Iptables)?))];
    if !has_ipv6() {
        debug!("this node has no IPv6");
        return Ok(families);
    }
    match open(Tool::Ip6tables) {
        Ok(target) => families.push((Family::V6, Reconciler::new(mode, target))),
        Err(error) => warn!(%error, "IPv6 is not served"),
    }
    Ok(families)
}

/// The mode as this node's connection tracker asks for.
pub(crate) fn iptables_mode() -> Iptables {
    let liberal = sysctl::read("net.netfilter.nf_conntrack_tcp_be_liberal").unwrap_or_default();
    let invalid_packets =
        if matches!(liberal.as_str(), "" | "0") { InvalidPackets::Drop } else { InvalidPackets::Forward };
    Iptables { invalid_packets }
}

/// Lets the kernel route packets for 127.0.0.0/8, which node ports on localhost need.
pub(crate) fn route_localhost() {
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

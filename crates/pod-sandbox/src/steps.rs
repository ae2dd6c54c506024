//! The way to a sandbox, step by step, decided before anything is done.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::IpNet;
use kernel_io::link::{Mac, Route};
use kernel_io::namespaces::Namespace;

use crate::spec::{Network, PidSharing, PodNetwork, SandboxSpec};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the pod's cgroup.
    MakeCgroup {
        /// Its name below the place where groups are made.
        name: String,
    },
    /// Limit the memory of the cgroup.
    LimitMemory {
        /// To this many.
        bytes: u64,
    },
    /// Limit the processes and threads of the cgroup.
    LimitPids {
        /// To this many.
        count: u64,
    },
    /// Start the program that holds the pod's namespaces, in the cgroup.
    StartPause {
        /// The program.
        program: PathBuf,
        /// The namespaces that it gets; the others are the node's.
        new: Vec<Namespace>,
        /// How processes that join see each other.
        pids: PidSharing,
    },
    /// Set the pod's host name.
    SetHostname {
        /// To this.
        hostname: String,
    },
    /// Make the pair of links between pod and node.
    AddVeth {
        /// The pod's end.
        pod: VethEnd,
        /// The node's end.
        node: VethEnd,
    },
    /// Set a link up.
    SetLinkUp {
        /// Where.
        side: Side,
        /// Its name.
        link: String,
    },
    /// Wait until packets pass a link.
    AwaitLink {
        /// Where.
        side: Side,
        /// Its name.
        link: String,
    },
    /// Give a link an address.
    AddAddress {
        /// Where.
        side: Side,
        /// The link's name.
        link: String,
        /// The address.
        address: IpNet,
    },
    /// Say for good which Ethernet address an address has.
    AddNeighbour {
        /// Where.
        side: Side,
        /// The link's name.
        link: String,
        /// The address.
        address: IpAddr,
        /// Its Ethernet address.
        mac: Mac,
    },
    /// Add a route.
    AddRoute {
        /// Where.
        side: Side,
        /// The route.
        route: Route,
    },
    /// Set a setting of the pod's namespaces.
    SetSysctl {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

/// One end of a pair of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethEnd {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// In whose network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The pod's.
    Pod,
    /// The node's.
    Node,
}

/// The pod's own end of its link.
const POD_LINK: &str = "eth0";
/// The Ethernet address of every node's end: each is alone with its pod.
const NODE_MAC: Mac = Mac([0xee; 6]);
/// The gateways that exist nowhere but in the pods' routes.
const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// The steps to this sandbox, in order.
pub fn steps(spec: &SandboxSpec) -> Vec<Step> {
    let mut steps = vec![Step::MakeCgroup { name: format!("fairlead/{}", spec.name) }];
    steps.extend(spec.limits.memory.map(|bytes| Step::LimitMemory { bytes }));
    steps.extend(spec.limits.pids.map(|count| Step::LimitPids { count }));
    steps.push(Step::StartPause { program: spec.pause.clone(), new: namespaces(spec), pids: spec.pids });
    if let Network::Pod(network) = &spec.network {
        steps.push(Step::SetHostname { hostname: spec.hostname.clone() });
        links(network, &mut steps);
    }
    steps.extend(
        spec.sysctls.iter().map(|(name, value)| Step::SetSysctl { name: name.clone(), value: value.clone() }),
    );
    steps
}

/// The namespaces that the pod does not share with the node. The host name goes with the network.
fn namespaces(spec: &SandboxSpec) -> Vec<Namespace> {
    let network: &[_] = match spec.network {
        Network::Pod(_) => &[Namespace::Net, Namespace::Uts],
        Network::Node => &[],
    };
    // Its /proc must show its processes, so its mounts must be its own.
    let pids: &[_] = match spec.pids {
        PidSharing::Pod | PidSharing::Container => &[Namespace::Pid, Namespace::Mount],
        PidSharing::Node => &[],
    };
    [network, &[Namespace::Ipc], pids].concat()
}

/// Links first, since neighbours and routes need them up; then the ways of each family.
fn links(network: &PodNetwork, steps: &mut Vec<Step>) {
    let (pod_mac, link) = (pod_mac(&network.addresses), POD_LINK.to_owned());
    let node_link = network.node_link.clone();
    steps.extend([
        Step::SetLinkUp { side: Side::Pod, link: "lo".to_owned() },
        Step::AddVeth {
            pod: VethEnd { name: link.clone(), mac: pod_mac },
            node: VethEnd { name: node_link.clone(), mac: NODE_MAC },
        },
        Step::SetLinkUp { side: Side::Node, link: node_link.clone() },
        Step::SetLinkUp { side: Side::Pod, link: link.clone() },
        Step::AwaitLink { side: Side::Node, link: node_link.clone() },
        Step::AwaitLink { side: Side::Pod, link: link.clone() },
    ]);
    for address in network.addresses.iter().map(|address| IpNet::from(*address)) {
        steps.push(Step::AddAddress { side: Side::Pod, link: link.clone(), address });
    }
    for (gateway, route) in [
        (GATEWAY_V4, Route::default_via(GATEWAY_V4).dev(POD_LINK).on_link()),
        (GATEWAY_V6, Route::default_via(GATEWAY_V6).dev(POD_LINK)),
    ] {
        if network.addresses.iter().any(|address| address.is_ipv4() == gateway.is_ipv4()) {
            steps.extend([
                Step::AddNeighbour { side: Side::Pod, link: link.clone(), address: gateway, mac: NODE_MAC },
                Step::AddRoute { side: Side::Pod, route },
            ]);
        }
    }
    for address in &network.addresses {
        let route = Route::to(IpNet::from(*address)).dev(&node_link);
        steps.extend([
            Step::AddNeighbour { side: Side::Node, link: node_link.clone(), address: *address, mac: pod_mac },
            Step::AddRoute { side: Side::Node, route },
        ]);
    }
}

/// An Ethernet address that follows from the pod's first address, so that the steps are the same each time; it
/// is alone with the node on its link.
fn pod_mac(addresses: &[IpAddr]) -> Mac {
    let [a, b, c, d] = match addresses.first() {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => {
            u32::try_from(address.to_bits() & u128::from(u32::MAX)).unwrap_or(0).to_be_bytes()
        }
        None => [0; 4],
    };
    Mac([0x0a, 0x58, a, b, c, d])
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::MakeCgroup { name } => write!(formatter, "make cgroup {name}"),
            Step::LimitMemory { bytes } => write!(formatter, "limit memory to {bytes} bytes"),
            Step::LimitPids { count } => write!(formatter, "limit processes to {count}"),
            Step::StartPause { program, new, .. } => {
                let kinds: Vec<_> = new.iter().map(Namespace::to_string).collect();
                write!(formatter, "start {} with its own {}", program.display(), kinds.join(", "))
            }
            Step::SetHostname { hostname } => write!(formatter, "set host name {hostname}"),
            Step::AddVeth { pod, node } => {
                write!(
                    formatter,
                    "add veth pair, pod {} {} and node {} {}",
                    pod.name, pod.mac, node.name, node.mac
                )
            }
            Step::SetLinkUp { side, link } => write!(formatter, "{side}: set link {link} up"),
            Step::AwaitLink { side, link } => write!(formatter, "{side}: wait for link {link} to run"),
            Step::AddAddress { side, link, address } => {
                write!(formatter, "{side}: add address {address} to {link}")
            }
            Step::AddNeighbour { side, link, address, mac } => {
                write!(formatter, "{side}: add neighbour {address} at {mac} on {link}")
            }
            Step::AddRoute { side, route } => write!(formatter, "{side}: add route {route}"),
            Step::SetSysctl { name, value } => write!(formatter, "set sysctl {name} to {value}"),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Side::Pod => "pod",
            Side::Node => "node",
        })
    }
}

#[cfg(test)]
mod tests;

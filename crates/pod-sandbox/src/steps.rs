//! The way to a sandbox, step by step, decided before anything is done.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kernel_io::cgroup::Resources;
use kernel_io::link::{Mac, Route};
use kernel_io::namespaces::Namespace;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cni::NetworkList;
use crate::journal::Known;
use crate::spec::{HostPort, Network, PidSharing, SandboxSpec, Whose};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take addresses for the pod.
    ReserveAddresses,
    /// Take ports of the node for the pod.
    ReservePorts(Vec<HostPort>),
    /// Take user and group numbers for the pod.
    ReserveIds,
    /// Make the pod's cgroup.
    MakeCgroup,
    /// Limit it.
    Limit(Resources),
    /// Make the pod's namespaces, each with a file that stands for it.
    MakeNamespaces(Vec<Namespace>),
    /// Set the pod's host name.
    SetHostname(String),
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
    /// Give the pod's link an address.
    AddAddress {
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
    /// Lead ports of the node to the pod.
    MapPorts {
        /// The table that does so.
        table: String,
        /// Which ports.
        ports: Vec<HostPort>,
        /// The pod's addresses.
        addresses: Vec<IpAddr>,
    },
    /// Let the plugins of a CNI network make links and addresses.
    Attach(NetworkList),
    /// Set a setting of the pod's namespaces.
    SetSysctl {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Mount what will be the containers' /dev/shm.
    MountMemory {
        /// The most that it may hold.
        bytes: u64,
    },
    /// Write what will be the containers' /etc/hosts, /etc/hostname and /etc/resolv.conf.
    WriteFiles,
    /// From here on, processes may be in the pod.
    AdmitProcesses,
    /// Start the program that holds the pod's PID namespace.
    StartPause,
}

/// What a step leaves behind, with all that is needed to undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trace {
    /// Addresses of the pool.
    Addresses,
    /// Ports of the node.
    Ports,
    /// User numbers of the pool.
    Ids,
    /// The cgroup, and whoever is in it.
    Cgroup,
    /// Namespaces, by their files.
    Namespaces(Vec<Namespace>),
    /// A link of the node, and with it the pod's end, the addresses and the routes.
    Link(String),
    /// The table that leads ports of the node to the pod.
    PortMap(String),
    /// What the plugins of a CNI network made.
    Attachment(NetworkList),
    /// Mounted memory.
    Memory,
    /// Whoever runs in the pod.
    Processes,
    /// The process that holds the PID namespace.
    Pause,
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

/// How pods get their links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// A pair of links for each, routed, by ourselves.
    Routed,
    /// By the plugins of a CNI network.
    Cni(NetworkList),
}

/// The pod's own end of its link.
pub(crate) const POD_LINK: &str = "eth0";
/// The Ethernet address of every node's end: each is alone with its pod.
const NODE_MAC: Mac = Mac([0xee; 6]);
/// The gateways that exist nowhere but in the pods' routes.
const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// The first steps: they take what pods have from a pool, and what they took is known to those that follow.
pub fn reservations(spec: &SandboxSpec, wiring: &Wiring) -> Vec<Step> {
    let mut steps = Vec::new();
    if has_network(spec) && *wiring == Wiring::Routed {
        steps.push(Step::ReserveAddresses);
    }
    if !spec.host_ports().is_empty() {
        steps.push(Step::ReservePorts(spec.host_ports().to_vec()));
    }
    if spec.users == Whose::Pod {
        steps.push(Step::ReserveIds);
    }
    steps
}

/// The other steps, in order.
pub fn steps(spec: &SandboxSpec, wiring: &Wiring, known: &Known) -> Vec<Step> {
    let mut steps = vec![Step::MakeCgroup, Step::Limit(spec.resources.clone())];
    let namespaces = own_namespaces(spec);
    if !namespaces.is_empty() {
        steps.push(Step::MakeNamespaces(namespaces));
    }
    if has_network(spec) {
        steps.push(Step::SetHostname(spec.hostname.kernel()));
        steps.push(Step::SetLinkUp { side: Side::Pod, link: "lo".to_owned() });
        match wiring {
            Wiring::Routed => {
                let link = node_link(&spec.name);
                links(&link, &known.addresses, &mut steps);
                let (ports, addresses) = (spec.host_ports().to_vec(), known.addresses.clone());
                if !ports.is_empty() {
                    steps.push(Step::MapPorts { table: link, ports, addresses });
                }
            }
            Wiring::Cni(network) => steps.push(Step::Attach(network.clone())),
        }
    }
    let set =
        |(name, value): (&String, &String)| Step::SetSysctl { name: name.clone(), value: value.clone() };
    steps.extend(spec.sysctls.iter().map(set));
    steps.extend([Step::MountMemory { bytes: spec.shm_size }, Step::WriteFiles, Step::AdmitProcesses]);
    if spec.pids == PidSharing::Pod {
        steps.push(Step::StartPause);
    }
    steps
}

/// The namespaces that the pod does not share with the node and that need no process to live. The host name goes with
/// the network.
pub(crate) fn own_namespaces(spec: &SandboxSpec) -> Vec<Namespace> {
    let network: &[_] = if has_network(spec) { &[Namespace::Net, Namespace::Uts] } else { &[] };
    let ipc: &[_] = if spec.ipc == Whose::Pod { &[Namespace::Ipc] } else { &[] };
    [network, ipc].concat()
}

impl Step {
    /// What it leaves behind, even if it fails halfway.
    pub fn trace(&self) -> Option<Trace> {
        match self {
            Step::ReserveAddresses => Some(Trace::Addresses),
            Step::ReservePorts(_) => Some(Trace::Ports),
            Step::ReserveIds => Some(Trace::Ids),
            Step::MakeCgroup => Some(Trace::Cgroup),
            Step::MakeNamespaces(kinds) => Some(Trace::Namespaces(kinds.clone())),
            Step::AddVeth { node, .. } => Some(Trace::Link(node.name.clone())),
            Step::MapPorts { table, .. } => Some(Trace::PortMap(table.clone())),
            Step::Attach(network) => Some(Trace::Attachment(network.clone())),
            Step::MountMemory { .. } => Some(Trace::Memory),
            Step::AdmitProcesses => Some(Trace::Processes),
            Step::StartPause => Some(Trace::Pause),
            // These go with the cgroup, the namespaces, the links or the directory that they were set on.
            Step::Limit(_)
            | Step::SetHostname(_)
            | Step::SetLinkUp { .. }
            | Step::AwaitLink { .. }
            | Step::AddAddress { .. }
            | Step::AddNeighbour { .. }
            | Step::AddRoute { .. }
            | Step::SetSysctl { .. }
            | Step::WriteFiles => None,
        }
    }
}

impl Trace {
    /// The CNI network, if it is of one.
    pub(crate) fn attachment(&self) -> Option<&NetworkList> {
        if let Trace::Attachment(network) = self { Some(network) } else { None }
    }
}

fn has_network(spec: &SandboxSpec) -> bool {
    matches!(spec.network, Network::Pod(_))
}

/// The name of the node's end of a pod's link: short enough, and the same each time.
fn node_link(sandbox: &str) -> String {
    let digest = Sha256::digest(sandbox.as_bytes());
    let bytes: [u8; 8] = std::array::from_fn(|place| digest[place]);
    format!("fl{:012x}", u64::from_be_bytes(bytes) >> 16)
}

/// Links first, since neighbours and routes need them up; then the ways of each family.
fn links(node_link: &str, addresses: &[IpAddr], steps: &mut Vec<Step>) {
    let (pod_mac, link) = (pod_mac(addresses), POD_LINK.to_owned());
    let node_link = node_link.to_owned();
    steps.extend([
        Step::AddVeth {
            pod: VethEnd { name: link.clone(), mac: pod_mac },
            node: VethEnd { name: node_link.clone(), mac: NODE_MAC },
        },
        Step::SetLinkUp { side: Side::Node, link: node_link.clone() },
        Step::SetLinkUp { side: Side::Pod, link: link.clone() },
        Step::AwaitLink { side: Side::Node, link: node_link.clone() },
        Step::AwaitLink { side: Side::Pod, link: link.clone() },
    ]);
    for address in addresses.iter().map(|address| IpNet::from(*address)) {
        steps.push(Step::AddAddress { link: link.clone(), address });
    }
    for (gateway, route) in [
        (GATEWAY_V4, Route::default_via(GATEWAY_V4).dev(POD_LINK).on_link()),
        (GATEWAY_V6, Route::default_via(GATEWAY_V6).dev(POD_LINK)),
    ] {
        if addresses.iter().any(|address| address.is_ipv4() == gateway.is_ipv4()) {
            steps.extend([
                Step::AddNeighbour { side: Side::Pod, link: link.clone(), address: gateway, mac: NODE_MAC },
                Step::AddRoute { side: Side::Pod, route },
            ]);
        }
    }
    for address in addresses {
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
            Step::ReserveAddresses => formatter.write_str("reserve addresses"),
            Step::ReservePorts(_) => formatter.write_str("reserve ports of the node"),
            Step::ReserveIds => formatter.write_str("reserve user numbers"),
            Step::MakeCgroup => formatter.write_str("make the cgroup"),
            Step::Limit(_) => formatter.write_str("limit the cgroup"),
            Step::MakeNamespaces(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(Namespace::to_string).collect();
                write!(formatter, "make namespaces: {}", kinds.join(", "))
            }
            Step::SetHostname(hostname) => write!(formatter, "set host name {hostname}"),
            Step::AddVeth { pod, node } => {
                write!(
                    formatter,
                    "add veth pair, pod {} {} and node {} {}",
                    pod.name, pod.mac, node.name, node.mac
                )
            }
            Step::SetLinkUp { side, link } => write!(formatter, "{side}: set link {link} up"),
            Step::AwaitLink { side, link } => write!(formatter, "{side}: wait for link {link} to run"),
            Step::AddAddress { link, address } => write!(formatter, "pod: add address {address} to {link}"),
            Step::AddNeighbour { side, link, address, mac } => {
                write!(formatter, "{side}: add neighbour {address} at {mac} on {link}")
            }
            Step::AddRoute { side, route } => write!(formatter, "{side}: add route {route}"),
            Step::MapPorts { table, ports, .. } => {
                write!(formatter, "lead {} ports of the node to the pod by table {table}", ports.len())
            }
            Step::Attach(network) => write!(formatter, "attach to CNI network {}", network.name),
            Step::SetSysctl { name, value } => write!(formatter, "set sysctl {name} to {value}"),
            Step::MountMemory { bytes } => write!(formatter, "mount {bytes} bytes for /dev/shm"),
            Step::WriteFiles => formatter.write_str("write hosts, hostname and resolv.conf"),
            Step::AdmitProcesses => formatter.write_str("admit processes"),
            Step::StartPause => formatter.write_str("start pause"),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trace::Addresses => formatter.write_str("addresses"),
            Trace::Ports => formatter.write_str("ports of the node"),
            Trace::Ids => formatter.write_str("user numbers"),
            Trace::Cgroup => formatter.write_str("cgroup"),
            Trace::Namespaces(_) => formatter.write_str("namespaces"),
            Trace::Link(name) => write!(formatter, "link {name}"),
            Trace::PortMap(table) => write!(formatter, "table {table}"),
            Trace::Attachment(network) => write!(formatter, "attachment to CNI network {}", network.name),
            Trace::Memory => formatter.write_str("memory for /dev/shm"),
            Trace::Processes => formatter.write_str("processes"),
            Trace::Pause => formatter.write_str("pause"),
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

//! The namespaces of the lab, and the links between them.
//!
//! Every address stands alone, and every way leads through the node, so that it sees both directions. Nobody has to
//! ask who has an address: neighbours are written down, and one gateway address stands for whatever is at the other
//! end of a link.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use kernel_io::link::{Link, Links, Mac, Route, VethEnd};
use kernel_io::netns::Netns;
use kernel_io::sysctl;
use packet_trace::Sender;

use super::LabError;
use super::places::Places;
use crate::scenario::Stage;

/// The network of a scenario.
pub(super) struct Network {
    pub(super) node: Netns,
    pub(super) clients: Netns,
    pub(super) world: Netns,
    pub(super) pods: BTreeMap<IpAddr, Netns>,
}

/// Whatever is at the other end of a link.
const GATEWAYS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
];

const WORLD_INTERFACE: &str = "eth1";

impl Network {
    pub(super) fn build(stage: &Stage, places: &Places) -> Result<Self, LabError> {
        let node = node()?;
        let (clients, world) = (Netns::new()?, Netns::new()?);
        connect(&clients, &node, Stage::OUTSIDE_INTERFACE)?;
        connect(&world, &node, WORLD_INTERFACE)?;
        let uplink = Link::named(Stage::OUTSIDE_INTERFACE, &node);
        for ip in places.node.iter().filter(|ip| !ip.is_loopback()) {
            uplink.add_address(IpNet::from(*ip))?.wait_local(*ip)?;
        }
        for (netns, addresses) in [(&clients, &places.clients), (&world, &places.world)] {
            for ip in addresses {
                Link::loopback(netns).add_address(IpNet::from(*ip))?.wait_local(*ip)?;
            }
        }
        let mut routes = Links::of(&node)?;
        for ip in &places.clients {
            let gateway = gateway_of(*ip);
            routes.add_route(&Route::to(IpNet::from(*ip)).via(gateway).dev(uplink.name()).on_link())?;
        }
        for gateway in GATEWAYS {
            routes.add_route(&Route::default_via(gateway).dev(WORLD_INTERFACE).on_link())?;
        }
        let pods = pods(stage, places, &node)?;
        Ok(Self { node, clients, world, pods })
    }

    /// Where a sender sits.
    pub(super) fn netns_of(&self, sender: Sender) -> &Netns {
        match sender {
            Sender::Node(_) => &self.node,
            Sender::Outside(_) => &self.clients,
            // Each pod that sends has a place.
            Sender::Pod(ip) => self.pods.get(&ip).unwrap_or(&self.node),
        }
    }
}

/// The node: a router that answers every refusal, however many there are.
fn node() -> Result<Netns, LabError> {
    const SETTINGS: [(&str, &str); 8] = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.send_redirects", "0"),
        ("net.ipv4.icmp_ratelimit", "0"),
        ("net.ipv6.icmp.ratelimit", "0"),
    ];
    let node = Netns::new()?;
    node.run(|| SETTINGS.iter().try_for_each(|(name, value)| sysctl::write(name, value)))??;
    Ok(node)
}

/// Links a namespace to the node; all its ways lead there.
fn connect(netns: &Netns, node: &Netns, at_node: &str) -> Result<(Link, Link), LabError> {
    let (mac, node_mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    // From there, since kernels before 6.8 look for the first name where they are asked.
    Links::of(netns)?.create_veth(
        VethEnd { name: "eth0", netns, mac: Some(mac) },
        VethEnd { name: at_node, netns: node, mac: Some(node_mac) },
    )?;
    let (here, there) = (Link::named("eth0", netns), Link::named(at_node, node));
    here.set_up()?;
    there.set_up()?.wait_running()?;
    here.wait_running()?;
    for gateway in GATEWAYS {
        here.add_neighbour(gateway, node_mac)?;
        here.add_route(&Route::default_via(gateway).on_link())?;
        there.add_neighbour(gateway, mac)?;
    }
    Ok((here, there))
}

/// A pod that only asks shares its namespace with others of its kind, so that they come in on one interface. A pod
/// that is an endpoint has its own: what the node sends there must not find its way back without the node.
fn pods(stage: &Stage, places: &Places, node: &Netns) -> Result<BTreeMap<IpAddr, Netns>, LabError> {
    let mut pods = BTreeMap::new();
    let mut add = |interface: &str, addresses: &[IpAddr]| -> Result<(), LabError> {
        let pod = Netns::new()?;
        let (inside, outside) = connect(&pod, node, interface)?;
        for ip in addresses {
            inside.add_address(IpNet::from(*ip))?.wait_local(*ip)?;
            outside.add_route(&Route::to(IpNet::from(*ip)).via(gateway_of(*ip)).on_link())?;
            pods.insert(*ip, pod.clone());
        }
        Ok(())
    };
    add(&stage.pod_interface, &places.asking_pods.iter().copied().collect::<Vec<_>>())?;
    for (number, ip) in (1..).zip(&places.endpoint_pods) {
        add(&format!("{}-{number}", stage.pod_interface), &[*ip])?;
    }
    Ok(pods)
}

fn gateway_of(ip: IpAddr) -> IpAddr {
    let [v4, v6] = GATEWAYS;
    if ip.is_ipv4() { v4 } else { v6 }
}

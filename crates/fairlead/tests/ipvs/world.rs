//! A node with the proxy, somebody outside, and a machine behind it that has all endpoints.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use kernel_io::link::{Link, Route};
use kernel_io::netns::Netns;
use kernel_io::sysctl;

use crate::connections::serve;
use crate::stage::{Running, Stage, endpoints, service, until};

/// The node's address towards those outside, and theirs.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// The Service of most tests.
pub(crate) const WEB: &str = "10.96.0.10:80";

/// The endpoints that there are.
pub(crate) const ENDPOINTS: [&str; 4] = ["10.244.0.1", "10.244.0.2", "10.244.0.3", "10.244.0.4"];

pub(crate) struct World {
    pub(crate) stage: Stage,
    pub(crate) outside: Netns,
}

/// A real server as `/proc/net/ip_vs` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Real {
    pub(crate) at: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) connections: u32,
}

impl World {
    /// Without the proxy, and without Services.
    pub(crate) fn new() -> Self {
        let stage = Stage::new();
        let node = &stage.netns;
        let settings = [("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.all.rp_filter", "0")];
        let set = || settings.into_iter().try_for_each(|(name, value)| sysctl::write(name, value));
        node.run(set).expect("entered").expect("written");
        let (outside, behind) = (Netns::new().expect("a namespace"), Netns::new().expect("a namespace"));
        connect(node, "outside", &outside, (NODE, OUTSIDE));
        let gateway = Ipv4Addr::new(10, 0, 1, 2);
        let backends = connect(node, "backends", &behind, (Ipv4Addr::new(10, 0, 1, 1), gateway));
        let range = "10.244.0.0/16".parse().expect("a range");
        backends.add_route(&Route::to(range).via(gateway.into())).expect("a way to the endpoints");
        Link::loopback(&behind).add_route(&Route::local(range)).expect("their addresses");
        behind.run(|| serve(&ENDPOINTS)).expect("entered");
        Self { stage, outside }
    }

    /// With the Service web.
    pub(crate) fn with_web(addresses: &[&str]) -> Self {
        let world = Self::new();
        world.stage.write("service.yaml", &service("web", "10.96.0.10", ""));
        world.endpoints(addresses);
        world
    }

    /// Gives the Service web these endpoints.
    pub(crate) fn endpoints(&self, addresses: &[&str]) {
        self.stage.write("endpoints.yaml", &endpoints("web", addresses));
    }

    /// Starts the proxy, and waits until it has written both families.
    pub(crate) fn proxy(&self, arguments: &[&str]) -> Running {
        let mut command = self.stage.proxy_command(&["--proxy-mode", "ipvs", "-v4"]);
        command.args(arguments);
        let proxy = self.stage.start(command);
        let written = |log: &str, family: &str| {
            let pass = format!("pass{{family={family}}}: ");
            ["kernel brought to plan", "the kernel is as planned already"]
                .iter()
                .any(|words| log.contains(&format!("{pass}{words}")))
        };
        let all = || ["IPv4", "IPv6"].iter().all(|family| written(&proxy.log(), family));
        until("both families are written", all, || proxy.log());
        proxy
    }

    /// The same in the iptables mode, until its rules serve.
    pub(crate) fn in_iptables_mode(&self, arguments: &[&str]) -> Running {
        let mut command = self.stage.proxy_command(&["--proxy-mode", "iptables"]);
        command.args(arguments);
        let proxy = self.stage.start(command);
        self.stage.until_rules("the other mode serves", |rules| rules.contains("KUBE-SVC-"));
        proxy
    }

    /// The scheduler of a virtual server of IPv4 and TCP, if there is one at that address.
    pub(crate) fn scheduler(&self, at: &str) -> Option<String> {
        self.listed("ip_vs").lines().skip(3).find_map(|line| {
            match *line.split_whitespace().collect::<Vec<_>>() {
                ["TCP", found, scheduler, ..] if socket(found).to_string() == at => {
                    Some(scheduler.to_owned())
                }
                _ => None,
            }
        })
    }

    /// A file of the node's network under /proc.
    pub(crate) fn listed(&self, name: &str) -> String {
        let read = || fs::read_to_string(format!("/proc/thread-self/net/{name}")).expect("a list");
        self.stage.netns.run(read).expect("entered")
    }

    /// The virtual servers of IPv4, by protocol and address.
    pub(crate) fn servers(&self) -> BTreeMap<String, Vec<Real>> {
        let text = self.listed("ip_vs");
        let mut servers: BTreeMap<String, Vec<Real>> = BTreeMap::new();
        let mut last = String::new();
        for line in text.lines().skip(3).filter(|line| !line.contains('[')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["->", at, _, weight, active, inactive] => {
                    let number = |text: &str| text.parse::<u32>().expect("a number");
                    let connections = number(active) + number(inactive);
                    let real = Real { at: socket(at), weight: number(weight), connections };
                    servers.get_mut(&last).expect("a virtual server comes first").push(real);
                }
                [protocol, at, ..] => {
                    last = format!("{protocol} {}", socket(at));
                    servers.insert(last.clone(), Vec::new());
                }
                other => panic!("what is {other:?}?"),
            }
        }
        servers
    }

    /// The weights of the Service web's real servers, by the last number of their addresses.
    pub(crate) fn weights(&self) -> String {
        let servers = self.servers();
        let mut weights: Vec<String> = servers
            .get(&format!("TCP {WEB}"))
            .into_iter()
            .flatten()
            .map(|real| {
                format!("{}:{}", real.at.ip().to_string().rsplit('.').next().unwrap_or(""), real.weight)
            })
            .collect();
        weights.sort();
        weights.join(" ")
    }

    pub(crate) fn until_weights(&self, wanted: &str) {
        until(
            &format!("weights are {wanted:?}"),
            || self.weights() == wanted,
            || format!("{:?}", self.servers()),
        );
    }
}

/// Links a namespace to the node, which it asks for every way. Answers the node's end.
fn connect(node: &Netns, name: &str, other: &Netns, (here, there): (Ipv4Addr, Ipv4Addr)) -> Link {
    let (near, far) = Link::veth(name, node, "eth0", other).expect("a link");
    for (link, address) in [(&near, here), (&far, there)] {
        link.add_address(format!("{address}/24").parse().expect("an address")).expect("added");
        link.set_up().expect("up");
    }
    near.wait_running().expect("running");
    let far = far.wait_running().expect("running");
    far.add_route(&Route::default_via(here.into())).expect("a way");
    near
}

/// `0A60000A:0050` is 10.96.0.10:80.
fn socket(text: &str) -> SocketAddr {
    let (ip, port) = text.split_once(':').expect("an address and a port");
    let ip = u32::from_str_radix(ip, 16).expect("an address");
    SocketAddr::from((Ipv4Addr::from(ip), u16::from_str_radix(port, 16).expect("a port")))
}

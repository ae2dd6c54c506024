use std::collections::BTreeMap;

use super::steps;
use crate::{Limits, Network, PidSharing, PodNetwork, SandboxSpec};

fn spec() -> SandboxSpec {
    SandboxSpec {
        name: "web".to_owned(),
        hostname: "web-1".to_owned(),
        pids: PidSharing::Pod,
        network: Network::Pod(PodNetwork {
            node_link: "fl-web".to_owned(),
            addresses: ["10.1.0.2", "fd00:1::2"].map(|text| text.parse().expect("an address")).to_vec(),
        }),
        sysctls: BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())]),
        limits: Limits { memory: Some(64 << 20), pids: Some(32) },
        pause: "/pause".into(),
    }
}

fn printed(spec: &SandboxSpec) -> Vec<String> {
    steps(spec).iter().map(ToString::to_string).collect()
}

#[test]
fn a_pod_of_both_families_is_made_step_by_step() {
    let expected = "\
make cgroup fairlead/web
limit memory to 67108864 bytes
limit processes to 32
start /pause with its own network, UTS, IPC, PID, mount
set host name web-1
pod: set link lo up
add veth pair, pod eth0 0a:58:0a:01:00:02 and node fl-web ee:ee:ee:ee:ee:ee
node: set link fl-web up
pod: set link eth0 up
node: wait for link fl-web to run
pod: wait for link eth0 to run
pod: add address 10.1.0.2/32 to eth0
pod: add address fd00:1::2/128 to eth0
pod: add neighbour 169.254.1.1 at ee:ee:ee:ee:ee:ee on eth0
pod: add route default via 169.254.1.1 dev eth0 onlink
pod: add neighbour fe80::1 at ee:ee:ee:ee:ee:ee on eth0
pod: add route default via fe80::1 dev eth0
node: add neighbour 10.1.0.2 at 0a:58:0a:01:00:02 on fl-web
node: add route 10.1.0.2 dev fl-web
node: add neighbour fd00:1::2 at 0a:58:0a:01:00:02 on fl-web
node: add route fd00:1::2 dev fl-web
set sysctl net.ipv4.ip_unprivileged_port_start to 0";
    assert_eq!(printed(&spec()).join("\n"), expected);
}

#[test]
fn a_pod_on_the_nodes_network_keeps_its_host_name_and_links() {
    let spec = SandboxSpec {
        network: Network::Node,
        pids: PidSharing::Node,
        sysctls: BTreeMap::new(),
        limits: Limits::default(),
        ..spec()
    };
    assert_eq!(printed(&spec), ["make cgroup fairlead/web", "start /pause with its own IPC"]);
}

#[test]
fn a_pod_of_one_family_has_no_way_of_the_other() {
    let network = PodNetwork {
        node_link: "fl-web".to_owned(),
        addresses: vec!["fd00:1::2".parse().expect("an address")],
    };
    let spec = SandboxSpec { network: Network::Pod(network), ..spec() };
    assert!(printed(&spec).iter().all(|step| !step.contains("169.254")), "{:#?}", printed(&spec));
}

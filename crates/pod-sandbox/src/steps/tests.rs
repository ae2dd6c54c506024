use std::collections::BTreeMap;

use super::{Wiring, reservations, steps};
use crate::spec::{Network, PidSharing, PodName, Resources, SandboxSpec, Whose};
use crate::{Known, Step};

fn spec() -> SandboxSpec {
    let pod = PodName { namespace: "default".to_owned(), name: "web-1".to_owned(), uid: "1".to_owned() };
    SandboxSpec {
        pids: PidSharing::Pod,
        sysctls: BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())]),
        resources: Resources { memory: Some(64 << 20), ..Resources::default() },
        ..SandboxSpec::new("web", pod)
    }
}

fn known(addresses: &[&str]) -> Known {
    let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
    Known { addresses, ..Known::default() }
}

fn printed(spec: &SandboxSpec, known: &Known) -> Vec<String> {
    let all = [reservations(spec, &Wiring::Routed), steps(spec, &Wiring::Routed, known)].concat();
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn a_pod_of_both_families_is_made_step_by_step() {
    let expected = "\
reserve addresses
make the cgroup
limit the cgroup
make namespaces: network, UTS, IPC
set host name web-1
pod: set link lo up
add veth pair, pod eth0 0a:58:0a:01:00:02 and node fl4b5e57f6eb2f ee:ee:ee:ee:ee:ee
node: set link fl4b5e57f6eb2f up
pod: set link eth0 up
node: wait for link fl4b5e57f6eb2f to run
pod: wait for link eth0 to run
pod: add address 10.1.0.2/32 to eth0
pod: add address fd00:1::2/128 to eth0
pod: add neighbour 169.254.1.1 at ee:ee:ee:ee:ee:ee on eth0
pod: add route default via 169.254.1.1 dev eth0 onlink
pod: add neighbour fe80::1 at ee:ee:ee:ee:ee:ee on eth0
pod: add route default via fe80::1 dev eth0
node: add neighbour 10.1.0.2 at 0a:58:0a:01:00:02 on fl4b5e57f6eb2f
node: add route 10.1.0.2 dev fl4b5e57f6eb2f
node: add neighbour fd00:1::2 at 0a:58:0a:01:00:02 on fl4b5e57f6eb2f
node: add route fd00:1::2 dev fl4b5e57f6eb2f
set sysctl net.ipv4.ip_unprivileged_port_start to 0
mount 67108864 bytes for /dev/shm
write hosts, hostname and resolv.conf
admit processes
start pause";
    assert_eq!(printed(&spec(), &known(&["10.1.0.2", "fd00:1::2"])).join("\n"), expected);
}

#[test]
fn a_pod_on_the_nodes_namespaces_has_none_of_its_own() {
    let spec = SandboxSpec {
        network: Network::Node,
        ipc: Whose::Node,
        pids: PidSharing::Node,
        sysctls: BTreeMap::new(),
        ..spec()
    };
    let expected = [
        "make the cgroup",
        "limit the cgroup",
        "mount 67108864 bytes for /dev/shm",
        "write hosts, hostname and resolv.conf",
        "admit processes",
    ];
    assert_eq!(printed(&spec, &known(&[])), expected);
}

#[test]
fn a_pod_with_its_own_users_takes_their_numbers_before_anything_is_made() {
    let spec = SandboxSpec { users: Whose::Pod, ..spec() };
    assert_eq!(reservations(&spec, &Wiring::Routed), [Step::ReserveAddresses, Step::ReserveIds]);
}

#[test]
fn a_pod_of_one_family_has_no_way_of_the_other() {
    let lines = printed(&spec(), &known(&["fd00:1::2"]));
    assert!(lines.iter().all(|step| !step.contains("169.254")), "{lines:#?}");
}

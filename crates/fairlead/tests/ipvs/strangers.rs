//! What is not ours stays, and what is ours goes.

use std::time::Duration;

use kernel_io::Target;
use kernel_io::ipset::Ipsets;
use kernel_io::ipvs::{Ownership, Servers};
use kernel_state::Change;
use kernel_state::ipset::{self, Family, HashOf, SetName, SetType};
use kernel_state::ipvs::{Destination, Forwarding, Key, Scheduler, SchedulerFlags, Server, Service, Value};
use kernel_state::xtables::Protocol;

use crate::connections::Connection;
use crate::stage::{Stage, until};
use crate::world::{ENDPOINTS, WEB, World};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("virtual_servers_of_others_survive_us", of_others),
    ("cleanup_removes_the_sets_of_both_families", sets_go),
    ("what_is_refused_is_tried_again", refused),
    ("what_a_stranger_removes_comes_back", meddled_with),
];

/// Makes a virtual server that no set of ours knows.
fn stranger(stage: &Stage, at: &str) {
    let server = Server { protocol: Protocol::Tcp, at: at.parse().expect("an address") };
    let scheduler = Scheduler::new("wrr").expect("a short name");
    let service = Service { scheduler, persistence: None, flags: SchedulerFlags::default() };
    let behind = Key::Destination(server, "10.244.0.1:8080".parse().expect("an address"));
    let destination = Destination { weight: 7, forwarding: Forwarding::Masquerade };
    let put = |key, value| Change::Put { key, value, replaced: None };
    let changes =
        [put(Key::Server(server), Value::Server(service)), put(behind, Value::Destination(destination))];
    let write = || {
        let mut servers = Servers::open(Family::Inet, Ownership::default(), Duration::ZERO).expect("IPVS");
        servers.write(&changes).expect("a virtual server");
    };
    stage.netns.run(write).expect("entered");
}

fn of_others() {
    let world = World::with_web(&ENDPOINTS);
    let at = "198.51.100.7:80";
    stranger(&world.stage, at);
    let stays = |when: &str| {
        let servers = world.servers();
        let real = servers.get(&format!("TCP {at}")).unwrap_or_else(|| panic!("gone {when}"));
        assert_eq!(real.iter().map(|real| real.weight).collect::<Vec<_>>(), [7], "{when}");
    };
    let proxy = world.proxy(&[]);
    stays("after a start");
    world.endpoints(&ENDPOINTS[..1]);
    world.until_weights("1:1");
    stays("after a change");
    proxy.end_by("-TERM");
    world.stage.ended(world.stage.command(&["proxy", "--cleanup"])).success();
    stays("after a cleanup");
    assert_eq!(world.servers().len(), 1, "ours is gone");
}

fn sets_go() {
    const NAMES: [&str; 4] =
        ["KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP", "KUBE-6-LOOP-BACK", "KUBE-6-LOAD-BALANCER-SOURCE-CID"];
    let stage = Stage::with_example();
    let there = || {
        let name = |name: &str| SetName::new(name).expect("a short name");
        let count = || {
            let mut sets = Ipsets::open(Vec::new()).expect("ipset");
            NAMES.iter().filter(|each| sets.list(&name(each)).expect("listed").is_some()).count()
        };
        stage.netns.run(count).expect("entered")
    };
    stage.proxy(&["--once", "--proxy-mode", "ipvs"]).success();
    assert_eq!(there(), NAMES.len());
    stage.ended(stage.command(&["proxy", "--cleanup"])).success();
    assert_eq!(there(), 0);
    assert_eq!(stage.rules().matches("KUBE-").count(), 0);
    let links = stage.netns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev")).expect("entered");
    assert!(!links.expect("links").contains("kube-ipvs0"));
}

/// Somebody has a set of one of our names, of another type, in use.
fn refused() {
    let world = World::with_web(&ENDPOINTS);
    let name = SetName::new("KUBE-CLUSTER-IP").expect("a short name");
    let value = ipset::Value::Set(SetType::Hash(HashOf::Ip, Family::Inet));
    let put = Change::Put { key: ipset::Key::Set(name.clone()), value, replaced: None };
    let write = || Ipsets::open(vec![name]).expect("ipset").write(&[put]).expect("a set");
    world.stage.netns.run(write).expect("entered");
    let rule = |command| {
        let words = ["-t", "raw", command, "OUTPUT", "-m", "set", "--match-set", "KUBE-CLUSTER-IP", "dst"];
        world.stage.tool("iptables", &words, "");
    };
    rule("-A");
    let proxy = world.stage.start(world.stage.proxy_command(&["--proxy-mode", "ipvs"]));
    proxy.until_log("KUBE-CLUSTER-IP");
    assert!(Connection::open(&world.outside, WEB).is_err());
    rule("-D");
    let answers = || Connection::open(&world.outside, WEB).is_ok();
    until("the Service answers in the end", answers, || proxy.log());
}

fn meddled_with() {
    let world = World::with_web(&ENDPOINTS);
    let proxy = world.proxy(&[]);
    world.stage.tool("ip", &["link", "delete", "kube-ipvs0"], "");
    world.stage.tool("iptables", &["-t", "nat", "-F", "KUBE-POSTROUTING"], "");
    let answers = || Connection::open(&world.outside, WEB).is_ok();
    until("the Service answers again", answers, || proxy.log());
}

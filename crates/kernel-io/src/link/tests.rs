//! Needs root: makes network namespaces, and nothing outside them.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;

use super::{AddressScope, Link, LinkState, Links, Mac, Route, VethEnd, wire};
use crate::netlink::Reply;
use crate::netns::Netns;

fn net(text: &str) -> IpNet {
    text.parse().expect("a range")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn connects(from: &Netns, to: &Netns, at: &str) {
    let at: SocketAddr = at.parse().expect("an address and port");
    let listener = to.run(|| TcpListener::bind(at)).expect("entered").expect("listens");
    from.run(|| TcpStream::connect(at)).expect("entered").expect("connects");
    drop(listener);
}

#[test]
fn a_veth_pair_carries_both_families_at_once() {
    let (pod, node) = (Netns::new().expect("pod"), Netns::new().expect("node"));
    let (eth0, veth1) = Link::veth("eth0", &pod, "veth1", &node).expect("a pair");
    eth0.add_address(net("10.0.0.2/24")).expect("v4").add_address(net("fd00::2/64")).expect("v6");
    veth1.add_address(net("10.0.0.1/24")).expect("v4").add_address(net("fd00::1/64")).expect("v6");
    eth0.set_up().expect("up");
    veth1.set_up().expect("up").wait_running().expect("runs");
    eth0.wait_running().expect("runs").wait_local(ip("fd00::2")).expect("local");
    connects(&pod, &node, "10.0.0.1:80");
    connects(&node, &pod, "[fd00::2]:80");
}

#[test]
fn a_link_whose_other_end_is_down_does_not_run() {
    let netns = Netns::new().expect("a namespace");
    let (one, _two) = Link::veth("one", &netns, "two", &netns).expect("a pair");
    one.set_up().expect("up");
    let mut links = Links::of(&netns).expect("its links");
    let error = links.wait_running("one", Duration::from_millis(20)).expect_err("never");
    assert_eq!(error.to_string(), "link one does not run after 20ms; is its other end up?");
}

#[test]
fn an_address_that_nobody_added_is_not_local() {
    let netns = Netns::new().expect("a namespace");
    let mut links = Links::of(&netns).expect("its links");
    for address in ["fd00::7", "10.0.0.7"] {
        let error = links.wait_local(ip(address), Duration::from_millis(20)).expect_err("never");
        assert_eq!(
            error.to_string(),
            format!("address {address} is not local after 20ms; does its link run?")
        );
    }
    Link::loopback(&netns)
        .add_address(net("fd00::7/128"))
        .expect("added")
        .wait_local(ip("fd00::7"))
        .expect("local");
}

#[test]
fn deleting_one_end_deletes_both() {
    let (pod, node) = (Netns::new().expect("pod"), Netns::new().expect("node"));
    let (eth0, veth1) = Link::veth("eth0", &pod, "veth1", &node).expect("a pair");
    veth1.delete().expect("deleted");
    let error = eth0.entry().expect_err("gone");
    assert!(error.is_absence());
    assert_eq!(error.to_string(), "no link is called eth0");
}

#[test]
fn a_routed_pod_needs_no_address_on_the_node() {
    let (pod, node) = (Netns::new().expect("pod"), Netns::new().expect("node"));
    let (pod_mac, node_mac) = (Mac([0x0a, 0x58, 10, 1, 0, 2]), Mac([0xee; 6]));
    let mut in_pod = Links::of(&pod).expect("pod's links");
    let mut on_node = Links::of(&node).expect("node's links");
    in_pod
        .create_veth(
            VethEnd { name: "eth0", netns: &pod, mac: Some(pod_mac) },
            VethEnd { name: "veth1", netns: &node, mac: Some(node_mac) },
        )
        .expect("a pair");
    in_pod.set_up("eth0").expect("up");
    on_node.set_up("veth1").expect("up");
    in_pod.wait_running("eth0", Duration::from_secs(5)).expect("runs");
    on_node.wait_running("veth1", Duration::from_secs(5)).expect("runs");
    in_pod.add_address("eth0", net("10.1.0.2/32")).expect("an address");
    in_pod.add_neighbour("eth0", ip("169.254.1.1"), node_mac).expect("a neighbour");
    in_pod.add_route(&Route::default_via(ip("169.254.1.1")).dev("eth0").on_link()).expect("a route");
    on_node.add_neighbour("veth1", ip("10.1.0.2"), pod_mac).expect("a neighbour");
    on_node.add_route(&Route::to(net("10.1.0.2/32")).dev("veth1")).expect("a route");
    on_node.add_address("lo", net("10.9.0.1/32")).expect("an address");
    connects(&pod, &node, "10.9.0.1:80");
    connects(&node, &pod, "10.1.0.2:80");
    assert_eq!(on_node.get("veth1").expect("listed").mac, Some(node_mac));
}

#[test]
fn a_local_route_makes_a_namespace_answer_for_a_range() {
    let netns = Netns::new().expect("a namespace");
    let mut links = Links::of(&netns).expect("its links");
    for range in ["10.0.0.0/8", "fd00::/64"] {
        links.add_route(&Route::local(net(range))).expect("a local route");
    }
    connects(&netns, &netns, "10.1.2.3:80");
    // IPv6 accepts for such an address but does not let a socket bind to it.
    let listener = netns.run(|| TcpListener::bind("[::]:80")).expect("entered").expect("listens");
    netns.run(|| TcpStream::connect("[fd00::77]:80")).expect("entered").expect("connects");
    drop(listener);
    links.delete_route(&Route::local(net("10.0.0.0/8"))).expect("deleted");
    let again = links.delete_route(&Route::local(net("10.0.0.0/8"))).expect_err("gone");
    assert!(again.is_absence(), "{again:?}");
}

#[test]
fn addresses_come_with_link_and_scope() {
    let netns = Netns::new().expect("a namespace");
    let (one, _two) = Link::veth("one", &netns, "two", &netns).expect("a pair");
    one.add_address(net("10.0.0.1/24")).expect("v4").add_address(net("fd00::1/64")).expect("v6");
    let addresses = Links::of(&netns).and_then(|mut links| links.addresses()).expect("a list");
    let seen: Vec<_> =
        addresses.iter().map(|entry| (entry.link.as_str(), entry.address.to_string(), entry.scope)).collect();
    assert!(seen.contains(&("lo", "127.0.0.1/8".to_owned(), AddressScope::Host)), "{seen:?}");
    assert!(seen.contains(&("lo", "::1/128".to_owned(), AddressScope::Host)), "{seen:?}");
    assert!(seen.contains(&("one", "10.0.0.1/24".to_owned(), AddressScope::Global)), "{seen:?}");
    assert!(seen.contains(&("one", "fd00::1/64".to_owned(), AddressScope::Global)), "{seen:?}");
    one.delete_address(net("10.0.0.1/24")).expect("deleted");
}

#[test]
fn links_are_renamed_moved_and_set_down() {
    let (node, other) = (Netns::new().expect("node"), Netns::new().expect("other"));
    let (one, _two) = Link::veth("one", &node, "two", &node).expect("a pair");
    one.set_up().expect("up").set_down().expect("down");
    let entry = one.entry().expect("listed");
    assert_eq!((entry.state, entry.kind.as_deref()), (LinkState::Down, Some("veth")));
    let mut links = Links::of(&node).expect("its links");
    links.rename("one", "uno").expect("renamed");
    links.set_mtu("uno", 1400).expect("set");
    links.move_to("uno", &other).expect("moved");
    assert_eq!(Link::named("uno", &other).entry().expect("there").mtu, 1400);
}

#[test]
fn the_kernel_says_what_it_dislikes() {
    let netns = Netns::new().expect("a namespace");
    let mut links = Links::of(&netns).expect("its links");
    let error = links.add_route(&Route::default_via(ip("10.0.0.1"))).expect_err("no way there");
    assert_eq!(error.to_string(), "add route default via 10.0.0.1");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert_eq!(cause, "Network is unreachable (os error 101): Nexthop has invalid gateway");
}

#[test]
fn routes_print_as_ip_route_prints_them() {
    let route = Route::to(net("10.0.0.7/24")).dev("eth0").source(ip("10.0.0.1"));
    assert_eq!(route.to_string(), "10.0.0.0/24 dev eth0 src 10.0.0.1");
    assert_eq!(Route::local(net("10.0.0.0/8")).to_string(), "local 10.0.0.0/8 dev lo");
    assert_eq!(Route::default_via(ip("fe80::1")).dev("eth0").to_string(), "default via fe80::1 dev eth0");
    assert_eq!(Route::blackhole(net("10.0.0.1/32")).to_string(), "blackhole 10.0.0.1");
}

proptest! {
    #[test]
    fn any_bytes_are_read_as_links_and_addresses_without_a_panic(
        payload in proptest::collection::vec(any::<u8>(), 0..128),
    ) {
        for kind in [16, 20] {
            let reply = Reply { kind, flags: 0, sequence: 1, port: 0, payload: &payload };
            let _ = (wire::link(reply), wire::address(reply));
        }
    }
}

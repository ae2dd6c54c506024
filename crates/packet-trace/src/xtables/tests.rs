//! States that were written down by hand, in the words that kube-proxy 1.36 leaves in iptables-save.

use std::net::IpAddr;

use kernel_state::xtables::{Key, Part, XtablesState, parse_save};

use super::*;

/// Two endpoints, affinity, a node port of Local policy, and a Service without endpoints.
const KUBE_PROXY: &str = r#"
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "ns/gone has no local endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30002 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-SERVICES -d 172.30.0.42/32 -p tcp -m comment --comment "ns/none has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-EXT-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
:KUBE-SEP-CCCCCCCCCCCCCCCC - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SVC-CCCCCCCCCCCCCCCC - [0:0]
:KUBE-SVL-AAAAAAAAAAAAAAAA - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-EXT-AAAAAAAAAAAAAAAA -s 10.180.0.0/16 -m comment --comment "pod traffic for ns/web external destinations" -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-EXT-AAAAAAAAAAAAAAAA -m comment --comment "masquerade LOCAL traffic for ns/web external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-A KUBE-EXT-AAAAAAAAAAAAAAAA -m comment --comment "route LOCAL traffic for ns/web external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-EXT-AAAAAAAAAAAAAAAA -j KUBE-SVL-AAAAAAAAAAAAAAAA
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODEPORTS -p tcp -m comment --comment "ns/web" -m tcp --dport 30001 -j KUBE-EXT-AAAAAAAAAAAAAAAA
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SEP-AAAAAAAAAAAAAAAA -s 10.180.0.1/32 -m comment --comment "ns/web" -j KUBE-MARK-MASQ
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m comment --comment "ns/web" -m tcp -j DNAT --to-destination 10.180.0.1:80
-A KUBE-SEP-BBBBBBBBBBBBBBBB -s 10.180.1.7/32 -m comment --comment "ns/web" -j KUBE-MARK-MASQ
-A KUBE-SEP-BBBBBBBBBBBBBBBB -p tcp -m comment --comment "ns/web" -m tcp -j DNAT --to-destination 10.180.1.7:80
-A KUBE-SEP-CCCCCCCCCCCCCCCC -s 10.180.0.3/32 -m comment --comment "ns/sticky" -j KUBE-MARK-MASQ
-A KUBE-SEP-CCCCCCCCCCCCCCCC -p udp -m comment --comment "ns/sticky" -m recent --set --name KUBE-SEP-CCCCCCCCCCCCCCCC --mask 255.255.255.255 --rsource -m udp -j DNAT --to-destination 10.180.0.3:53
-A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SERVICES -d 172.30.0.53/32 -p udp -m comment --comment "ns/sticky cluster IP" -m udp --dport 53 -j KUBE-SVC-CCCCCCCCCCCCCCCC
-A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-AAAAAAAAAAAAAAAA ! -s 10.180.0.0/16 -d 172.30.0.41/32 -p tcp -m comment --comment "ns/web cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-AAAAAAAAAAAAAAAA -m comment --comment "ns/web -> 10.180.0.1:80" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -m comment --comment "ns/web -> 10.180.1.7:80" -j KUBE-SEP-BBBBBBBBBBBBBBBB
-A KUBE-SVC-CCCCCCCCCCCCCCCC -m comment --comment "ns/sticky -> 10.180.0.3:53" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-CCCCCCCCCCCCCCCC --mask 255.255.255.255 --rsource -j KUBE-SEP-CCCCCCCCCCCCCCCC
-A KUBE-SVC-CCCCCCCCCCCCCCCC -m comment --comment "ns/sticky -> 10.180.0.3:53" -j KUBE-SEP-CCCCCCCCCCCCCCCC
-A KUBE-SVL-AAAAAAAAAAAAAAAA -m comment --comment "ns/web -> 10.180.0.1:80" -j KUBE-SEP-AAAAAAAAAAAAAAAA
COMMIT
"#;

/// The chains of a save, whole and in their order.
fn state(save: &str) -> XtablesState {
    let mut state = XtablesState::new();
    for (table, chain, rules) in parse_save(save).expect("the save is well formed") {
        state.put(Key::run(table, chain, Part::Chain), rules.into());
    }
    state
}

fn host() -> Host {
    Host {
        addresses: BTreeSet::from([ip("192.168.0.10"), ip("10.180.0.254")]),
        pod_interface: "cali0".to_owned(),
        outside_interface: "eth0".to_owned(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn packet(from: Sender, protocol: service_plan::Protocol, to: &str) -> Packet {
    Packet { from, protocol, to: to.parse().expect("an address and port") }
}

fn tcp(from: Sender, to: &str) -> Packet {
    packet(from, service_plan::Protocol::Tcp, to)
}

fn pod() -> Sender {
    Sender::Pod(ip("10.180.0.9"))
}

fn node() -> Sender {
    Sender::Node(ip("192.168.0.10"))
}

fn outside() -> Sender {
    Sender::Outside(ip("203.0.113.9"))
}

/// What the rules of a save do to a packet, as text.
fn read(save: &str, packet: &Packet) -> String {
    match RuleReader::new(&state(save), &host()).outcome(packet) {
        Ok(outcome) => outcome.to_string(),
        Err(puzzle) => format!("? {puzzle}"),
    }
}

#[test]
fn the_rules_of_a_kube_proxy_are_followed() {
    let web = "172.30.0.41:80";
    let rows = [
        (tcp(pod(), web), "one of 10.180.0.1:80 10.180.1.7:80"),
        (tcp(node(), web), "one of 10.180.0.1:80 10.180.1.7:80, masqueraded"),
        (tcp(outside(), web), "one of 10.180.0.1:80 10.180.1.7:80, masqueraded"),
        (tcp(Sender::Pod(ip("10.180.0.1")), web), "one of 10.180.0.1:80(masqueraded) 10.180.1.7:80"),
        (tcp(outside(), "192.168.0.10:30001"), "one of 10.180.0.1:80"),
        (tcp(pod(), "192.168.0.10:30001"), "one of 10.180.0.1:80 10.180.1.7:80"),
        (tcp(node(), "192.168.0.10:30001"), "one of 10.180.0.1:80 10.180.1.7:80, masqueraded"),
        (tcp(node(), "127.0.0.1:30001"), "untouched"),
        (tcp(outside(), "192.168.0.11:30001"), "untouched"),
        (tcp(outside(), "192.168.0.10:30002"), "dropped"),
        (tcp(node(), "192.168.0.10:30002"), "dropped"),
        (tcp(pod(), "172.30.0.42:80"), "rejected"),
        (tcp(node(), "172.30.0.42:80"), "rejected"),
        (tcp(pod(), "172.30.0.42:81"), "untouched"),
        (packet(pod(), service_plan::Protocol::Udp, web), "untouched"),
        (packet(pod(), service_plan::Protocol::Udp, "172.30.0.53:53"), "one of 10.180.0.3:53, kept"),
        (packet(pod(), service_plan::Protocol::Sctp, "172.30.0.53:53"), "untouched"),
    ];
    for (packet, expected) in rows {
        assert_eq!(read(KUBE_PROXY, &packet), expected, "{packet}");
    }
}

/// A nat table whose PREROUTING holds these rules, and what they do to a pod's packet to 172.30.0.41:80.
fn prerouting(rules: &[&str]) -> String {
    let chains = ["PREROUTING", "POSTROUTING", "ONE", "TWO"].map(|chain| format!(":{chain} - [0:0]\n"));
    let rules: Vec<String> = rules.iter().map(|rule| format!("-A {rule}\n")).collect();
    let save = format!("*nat\n{}{}", chains.concat(), rules.concat());
    read(&save, &tcp(pod(), "172.30.0.41:80"))
}

#[test]
fn single_rules_are_understood() {
    let dnat = "-j DNAT --to-destination 10.0.0.1:8080";
    let rows: &[(&[&str], &str)] = &[
        (&[], "untouched"),
        (&["PREROUTING -j ACCEPT", "PREROUTING -j DROP"], "untouched"),
        (&["PREROUTING -j RETURN", "PREROUTING -j DROP"], "untouched"),
        (&["PREROUTING -i cali0 -j DROP"], "dropped"),
        (&["PREROUTING -i cali+ -j DROP"], "dropped"),
        (&["PREROUTING ! -i cali+ -j DROP"], "untouched"),
        (&["PREROUTING -i cali -j DROP"], "untouched"),
        (&["PREROUTING ! -s 10.180.0.0/24 -j DROP"], "untouched"),
        (&["PREROUTING ! -d 10.180.0.0/24 -j DROP"], "dropped"),
        (&["PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j DROP"], "untouched"),
        (&["PREROUTING -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP"], "dropped"),
        (&["PREROUTING -m conntrack --ctstate INVALID -j DROP"], "untouched"),
        (&["PREROUTING -m addrtype --src-type LOCAL -j DROP"], "untouched"),
        (&["PREROUTING -m mark --mark 0x4000/0x4000 -j DROP"], "untouched"),
        (&["PREROUTING -m mark ! --mark 0x4000/0x4000 -j DROP"], "dropped"),
        (&["PREROUTING -j MARK --set-xmark 0x1/0x1", "PREROUTING -m mark --mark 0x1/0x1 -j DROP"], "dropped"),
        (
            &[
                "PREROUTING -j MARK --set-xmark 0x1/0x1",
                "PREROUTING -j MARK --set-xmark 0x1/0x0",
                "PREROUTING -m mark --mark 0x1/0x1 -j DROP",
            ],
            "untouched",
        ),
        // Back from a chain, by its end or by RETURN, the next rule follows.
        (&["PREROUTING -j ONE", "PREROUTING -j DROP"], "dropped"),
        (&["PREROUTING -j ONE", "PREROUTING -j DROP", "ONE -j RETURN", "ONE -j ACCEPT"], "dropped"),
        (&["PREROUTING -j ONE", "PREROUTING -j DROP", "ONE -j TWO", "TWO -j ACCEPT"], "untouched"),
        (
            &[&format!("PREROUTING -m statistic --mode random --probability 1.00000000000 {dnat}")],
            "one of 10.0.0.1:8080",
        ),
        // What has no word in the vocabulary matters only where it is reached.
        (&["PREROUTING -s 1.2.3.4/32 -m time --timestart 08:00:00 -j DROP"], "untouched"),
        (
            &["PREROUTING -m time --timestart 08:00:00 -j DROP"],
            "? cannot tell what this does: -m time --timestart 08:00:00 -j DROP",
        ),
        (&["PREROUTING -j TPROXY --on-port 1"], "? cannot tell what this does: -j TPROXY --on-port 1"),
        (&["PREROUTING -j GONE"], "? no such chain in table nat: GONE"),
        (&["PREROUTING -j ONE", "ONE -j TWO", "TWO -j ONE"], "? the rules of chain ONE have no end"),
        (
            &["PREROUTING -m statistic --mode random --probability 0.50000000000 -j DROP"],
            "? chance decides between: dropped; untouched",
        ),
        (&["POSTROUTING -j MASQUERADE"], "? masqueraded although it is not forwarded to an endpoint"),
        // A client that is put on a list which nobody asks is not kept.
        (&[&format!("PREROUTING -m recent --set --name A --rsource {dnat}")], "one of 10.0.0.1:8080"),
    ];
    for (rules, expected) in rows {
        assert_eq!(prerouting(rules), *expected, "{rules:#?}");
    }
}

#[test]
fn chance_is_even_where_probabilities_are_one_in_those_left() {
    let rules = "*nat\n:PREROUTING ACCEPT [0:0]\n\
        -A PREROUTING -m statistic --mode random --probability 0.33333333349 -j DNAT --to-destination 10.0.0.1:1\n\
        -A PREROUTING -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.0.0.2:1\n\
        -A PREROUTING -j DNAT --to-destination 10.0.0.3:1\n";
    let state = state(rules);
    let shares = RuleReader::new(&state, &host()).shares(&tcp(pod(), "172.30.0.41:80")).expect("it can tell");
    assert_eq!(shares.len(), 3);
    assert!(shares.values().all(|share| (share - 1.0 / 3.0).abs() < 1e-6), "{shares:?}");
}

#[test]
fn runs_of_a_shared_chain_stand_in_the_order_of_their_parts() {
    let parse = |save: &str| parse_save(save).expect("the save is well formed").remove(0);
    let (table, chain, first) = parse("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j ACCEPT\n");
    let (_, _, last) = parse("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DROP\n");
    let mut state = XtablesState::new();
    state.put(Key::run(table, chain, Part::Tail), last.into());
    state.put(Key::run(table, chain, Part::Head), first.into());
    let outcome = RuleReader::new(&state, &host()).outcome(&tcp(pod(), "172.30.0.41:80"));
    assert_eq!(outcome, Ok(Outcome::Untouched));
}

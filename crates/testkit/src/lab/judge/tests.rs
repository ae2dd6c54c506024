use rustix::io::Errno;

use super::*;
use crate::{Stage, parse_packets};

const FROM: &str = "10.180.0.100:10001";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

fn answer(server: &str, peer: &str) -> Seen {
    Seen::Answer { from: address(FROM), server: address(server), peer: address(peer) }
}

/// What a judge says of packets to 172.30.0.41:80 that should fare so, when this is seen of all that it wants sent.
fn verdict(outcome: &str, seen: &[Seen]) -> Result<(), String> {
    let line = format!("pod TCP 172.30.0.41:80 {outcome}");
    let expectations = parse_packets(&line, &Stage::default()).expect("a good line");
    let mut judge = Judge::new(&expectations[0]);
    let mut all = seen.iter().cycle();
    while judge.packets_wanted() > 0 {
        for _ in 0..judge.packets_wanted() {
            judge.take(*all.next().expect("something is seen"));
        }
    }
    judge.verdict()
}

#[test]
fn what_should_be_seen_is_right() {
    let (one, two) = ("10.180.0.1:80", "10.180.1.7:80");
    let node = "192.168.0.10:33333";
    let rows: [(&str, &[Seen]); 8] = [
        ("dropped", &[Seen::Silence]),
        ("rejected", &[Seen::Refused]),
        ("untouched", &[answer("172.30.0.41:80", FROM)]),
        ("one of 10.180.0.1:80 10.180.1.7:80", &[answer(one, FROM), answer(two, FROM)]),
        ("one of 10.180.0.1:80, masqueraded", &[answer(one, node)]),
        ("one of 10.180.0.1:80(masqueraded) 10.180.1.7:80", &[answer(one, node), answer(two, FROM)]),
        // Masquerade chose the port that it was sent from.
        (
            "one of 10.180.0.1:80, masqueraded",
            &[answer(one, FROM), answer(one, node), answer(one, node), answer(one, node)],
        ),
        ("one of 10.180.0.1:80 10.180.1.7:80, kept", &[answer(one, FROM)]),
    ];
    for (outcome, seen) in rows {
        assert_eq!(verdict(outcome, seen), Ok(()), "{outcome}");
    }
}

#[test]
fn anything_else_is_wrong() {
    let (one, two) = ("10.180.0.1:80", "10.180.1.7:80");
    let node = "192.168.0.10:33333";
    // The node's own packets keep their address when they are masqueraded, but not their port.
    let same_address = "10.180.0.100:22222";
    let rows: [(&str, &[Seen], &str); 12] = [
        ("dropped", &[Seen::Refused], "in the lab it was refused"),
        ("dropped", &[answer(one, FROM)], "in the lab 10.180.0.1:80 answered it"),
        ("rejected", &[Seen::Silence], "in the lab nothing came back"),
        (
            "rejected",
            &[Seen::Odd(Errno::HOSTUNREACH)],
            "in the lab it failed: No route to host (os error 113)",
        ),
        ("untouched", &[answer(one, FROM)], "in the lab 10.180.0.1:80 answered it"),
        (
            "untouched",
            &[answer("172.30.0.41:80", node)],
            "in the lab 172.30.0.41:80 answered it, which saw 192.168.0.10:33333",
        ),
        ("one of 10.180.0.1:80", &[Seen::Silence], "in the lab nothing came back"),
        ("one of 10.180.0.1:80", &[answer(two, FROM)], "in the lab 10.180.1.7:80 answered it"),
        (
            "one of 10.180.0.1:80",
            &[answer(one, same_address)],
            "in the lab 10.180.0.1:80 answered it, which saw 10.180.0.100:22222",
        ),
        ("one of 10.180.0.1:80, masqueraded", &[answer(one, FROM)], "in the lab 10.180.0.1:80 answered it"),
        (
            "one of 10.180.0.1:80 10.180.1.7:80",
            &[answer(one, FROM)],
            "56 packets, and none reached 10.180.1.7:80",
        ),
        (
            "one of 10.180.0.1:80 10.180.1.7:80, kept",
            &[answer(one, FROM), answer(two, FROM)],
            "not kept: reached {10.180.0.1:80, 10.180.1.7:80}",
        ),
    ];
    for (outcome, seen, message) in rows {
        assert_eq!(verdict(outcome, seen), Err(message.to_owned()), "{outcome}");
    }
}

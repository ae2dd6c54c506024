use super::*;

fn parsed(text: &str) -> Result<Vec<Expectation>, String> {
    parse_packets(text, &Stage::default()).map_err(|error| error.to_string())
}

#[test]
fn lines_read_as_they_print() {
    let rows = [
        ("pod TCP 172.30.0.41:80 untouched", "pod 10.180.0.100 TCP 172.30.0.41:80 untouched"),
        ("node UDP [fd00:172:30::41]:53 dropped", "node fd00:192:168::10 UDP [fd00:172:30::41]:53 dropped"),
        (
            "outside 203.0.113.7   SCTP 1.2.3.4:80  rejected # why",
            "outside 203.0.113.7 SCTP 1.2.3.4:80 rejected",
        ),
        (
            "pod TCP 1.2.3.4:80 one of 10.0.0.2:80   10.0.0.1:80 , masqueraded",
            "pod 10.180.0.100 TCP 1.2.3.4:80 one of 10.0.0.1:80 10.0.0.2:80, masqueraded",
        ),
        (
            "pod TCP 1.2.3.4:80 one of 10.0.0.1:80(masqueraded) 10.0.0.2:80, kept",
            "pod 10.180.0.100 TCP 1.2.3.4:80 one of 10.0.0.1:80(masqueraded) 10.0.0.2:80, kept",
        ),
        ("node 127.0.0.1 TCP 127.0.0.1:80 untouched", "node 127.0.0.1 TCP 127.0.0.1:80 untouched"),
    ];
    for (line, expected) in rows {
        let all = parsed(line).expect("a good line");
        assert_eq!(format!("{} {}", all[0].packet, all[0].outcome), expected);
    }
}

#[test]
fn wrong_lines_are_named() {
    let rows = [
        ("\n\npod", "3: not TCP, UDP or SCTP: \"\""),
        ("dog TCP 1.2.3.4:80 dropped", "1: not pod, node or outside: \"dog\""),
        ("pod TCP 1.2.3.4 dropped", "1: not an address and port: \"1.2.3.4\""),
        ("pod tcp 1.2.3.4:80 dropped", "1: not TCP, UDP or SCTP: \"tcp\""),
        ("pod ::1 TCP 1.2.3.4:80 dropped", "1: ::1 cannot send to the other IP family"),
        ("node 1.1.1.1 TCP 1.2.3.4:80 dropped", "1: 1.1.1.1 is not an address of the node"),
        ("pod TCP 1.2.3.4:80", "1: not \"one of …\", dropped, rejected or untouched: \"\""),
        ("pod TCP 1.2.3.4:80 one of 1.1.1.1:1, seen", "1: not masqueraded or kept: \"seen\""),
        ("pod TCP 1.2.3.4:80 one of 1.1.1.1:1 1.1.1.1:1", "1: 1.1.1.1:1 stands there twice"),
        ("pod TCP 1.2.3.4:80 one of , kept", "1: one of nothing"),
        ("[iptables pod", "1: no ] after the mode"),
        (
            "pod TCP 1.2.3.4:80 dropped\npod TCP 1.2.3.4:80 rejected",
            "2: the same packet stands in line 1 already",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(parsed(text), Err(expected.to_owned()));
    }
}

#[test]
fn what_is_said_of_a_mode_goes_before_what_is_said_of_all() {
    let text =
        "pod TCP 1.2.3.4:80 dropped\n[iptables] pod TCP 1.2.3.4:80 rejected\nnode TCP 1.2.3.4:80 dropped";
    let all = parsed(text).expect("good lines");
    let lines = |mode| of_mode(&all, mode).iter().map(|each| each.line).collect::<Vec<_>>();
    assert_eq!(lines("iptables"), [2, 3]);
    assert_eq!(lines("nftables"), [1, 3]);
}

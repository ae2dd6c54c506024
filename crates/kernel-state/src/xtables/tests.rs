//! Lines that iptables-save 1.8.9 printed, which are the same in both backends, and scripts for restore.

use proptest::collection::vec;
use proptest::prelude::*;

use super::parse::parse_rule;
use super::*;

fn key(chain: &'static str, part: Part) -> Key {
    Key::run(Table::Nat, ChainName::of(chain), part)
}

fn chain(name: &'static str) -> Key {
    key(name, Part::Chain)
}

fn of(name: &str) -> Part {
    Part::Of(name.into(), Protocol::Tcp)
}

fn rules(texts: &[&str]) -> Rules {
    texts.iter().map(|text| parse_rule(text)).collect()
}

#[test]
fn what_kube_proxy_writes_is_understood_and_printed_alike() {
    let rows = [
        r#" -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL"#,
        r#" ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"#,
        r#" -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable"#,
        r" -d fd00::1/128 -p tcp -m tcp --dport 80 -j REJECT --reject-with icmp6-port-unreachable",
        r" -p tcp -m comment --comment plain -m tcp -j DROP",
        r#" -m comment --comment "quo\"te and \\ back \'n" -j DROP"#,
        r" -m comment --comment -j -j DROP",
        r" -m conntrack --ctstate INVALID -j DROP",
        r" -p tcp -m addrtype --dst-type LOCAL -m tcp --dport 30001 -j DROP",
        r" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
        r" -p sctp -m sctp --dport 80 -j DROP",
        r" -p udp -m udp -j DNAT --to-destination 10.180.0.1:53",
        r" -p tcp -m tcp -j DNAT --to-destination [fd00:10:180::1]:80",
        r" ! -i cali+ -j ACCEPT",
        r" -i cni0 -j RETURN",
        r" ! -d ::1/128 -m addrtype --dst-type LOCAL -j RETURN",
        r" -m mark --mark 0x4000/0x4000 -j ACCEPT",
        r" -m mark ! --mark 0x4000/0x4000 -j RETURN",
        r" -j MARK --set-xmark 0x4000/0x0",
        r" -j MARK --set-xmark 0x4000/0x4000",
        r#" -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully"#,
        r" -j MASQUERADE",
        r#" -s 10.180.0.1/32 -m comment --comment "ns1/svc1:p80" -j KUBE-SVC-XPGD46QRK7WJZT7O"#,
        r" -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-SXIVWICOYRO3J4NJ",
        r" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-SXIVWICOYRO3J4NJ",
        r#" -m comment --comment "other traffic to ns/web will be dropped by KUBE-PROXY-FIREWALL""#,
    ];
    for text in rows {
        let rule = parse_rule(text);
        assert_eq!(rule.to_string(), text);
        let unknown = rule.matches().iter().any(|each| matches!(each, Match::Other(_)));
        assert!(!unknown && !matches!(rule.target, Some(Target::Other(_))), "{rule:?}");
    }
}

#[test]
fn what_has_no_word_here_is_kept_in_iptables_own() {
    let rows = [
        r" -p tcp -m multiport --dports 80,443 -j ACCEPT",
        r" -p tcp -m tcp --sport 80 -j ACCEPT",
        r" -p tcp -m tcp --tcp-flags SYN,RST SYN -j ACCEPT",
        r" -p tcp -m tcp --dport 80:90 -j ACCEPT",
        r" -p tcp -m tcp ! --dport 80 -j ACCEPT",
        r" -p icmp -m icmp --icmp-type 8 -j ACCEPT",
        r" -o eth0 -j ACCEPT",
        r" ! -p udp -j ACCEPT",
        r" -s 10.0.0.0/255.0.255.0 -j ACCEPT",
        r#" -m limit --limit 5/min -j LOG --log-prefix "hello there: ""#,
        r" -f -j ACCEPT",
        r#" -m string --string "-j DROP" --algo bm -j ACCEPT"#,
        r" -p tcp -j REJECT --reject-with tcp-reset",
        r" -g KUBE-FIREWALL",
        r" -m addrtype ! --src-type LOCAL -j ACCEPT",
        r" -j DNAT --to-destination 10.180.0.1",
        r" -p udp -m udp -j DNAT --to-destination 10.180.0.1:80-90",
        r" -j MARK --set-xmark 0x4000/0xffffffff",
        r" -j SNAT --to-source 1.2.3.4",
        r" -p tcp -j REDIRECT --to-ports 8080",
        r" -m statistic --mode nth --every 3 --packet 0 -j KUBE-SEP-SXIVWICOYRO3J4NJ",
    ];
    for text in rows {
        let rule = parse_rule(text);
        assert_eq!(rule.to_string(), text);
        let unknown = rule.matches().iter().any(|each| matches!(each, Match::Other(_)));
        assert!(unknown || matches!(rule.target, Some(Target::Other(_))), "{rule:?}");
    }
}

#[test]
fn defaults_that_iptables_prints_are_not_repeated() {
    let rows = [
        (" -m recent --rcheck --seconds 10800 --reap --name A --mask 255.255.255.255 --rsource -j A", ""),
        (" -m recent --set --name A --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource -j A", ""),
        (" -m mark --mark 0x7 -j A", " -m mark --mark 0x7/0xffffffff -j A"),
        (" -s 10.180.0.1 -j A", " -s 10.180.0.1/32 -j A"),
        // The order of what every rule has is iptables' own.
        (
            " -p tcp -m tcp -d 10.180.0.1 ! -s 10.180.0.2 -j A",
            " ! -s 10.180.0.2/32 -d 10.180.0.1/32 -p tcp -m tcp -j A",
        ),
    ];
    for (text, printed) in rows {
        let rule = parse_rule(text);
        if !printed.is_empty() {
            assert_eq!(rule.to_string(), printed);
        }
        assert_eq!(parse_rule(&rule.to_string()), rule);
        assert!(!rule.matches().iter().any(|each| matches!(each, Match::Other(_))), "{rule:?}");
    }
}

#[test]
fn probabilities_are_those_of_kube_proxys_text() {
    // The vectors: what kube-proxy writes, and what iptables-save makes of it.
    let rows = [
        (1, "1.0000000000", "1.00000000000"),
        (2, "0.5000000000", "0.50000000000"),
        (3, "0.3333333333", "0.33333333349"),
        (100_001, "0.0000099999", "0.00001000008"),
    ];
    for (number, written, saved) in rows {
        assert_eq!(Some(Probability::of(1, number)), Probability::from_text(written));
        assert_eq!(Probability::of(1, number).to_string(), saved);
        assert_eq!(Some(Probability::of(1, number)), Probability::from_text(saved), "reads as it prints");
    }
    assert_eq!(Probability::from_text("1.1"), None);
    assert_eq!(Probability::from_text("NaN"), None);
}

#[test]
fn a_save_is_taken_apart_by_table_and_chain() {
    let save = "# Generated by iptables-save v1.8.9\n*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j ACCEPT\nCOMMIT\n\
        *nat\n:PREROUTING ACCEPT [1:60]\n:KUBE-SERVICES - [0:0]\n:EMPTY - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n\
        -A KUBE-SERVICES\nCOMMIT\n# Completed\n";
    let chains = parse_save(save).expect("it is well formed");
    let names: Vec<String> = chains
        .iter()
        .map(|(table, chain, rules)| format!("{} {chain} {}", table.name(), rules.len()))
        .collect();
    assert_eq!(names, ["nat PREROUTING 1", "nat KUBE-SERVICES 1", "nat EMPTY 0"]);
}

#[test]
fn a_save_that_is_none_is_refused_by_line() {
    let rows = [
        ("*nat\n-A GONE -j ACCEPT\n", 2, "a rule of a chain that was not declared"),
        ("*nat\n:A-NAME-OF-MORE-THAN-28-BYTES-XX - [0:0]\n", 2, "a name that is too long"),
        ("*nat\nhello\n", 2, "something else"),
        (
            "*nat\n:A - [0:0]\n:B - [0:0]\n-A A\n-A B\n-A A\n",
            6,
            "rules of a chain that do not stand together",
        ),
    ];
    for (save, line, why) in rows {
        assert_eq!(parse_save(save).expect_err(why).line, line, "{why}");
    }
}

fn put(key: Key, texts: &[&str], replaced: Option<&[&str]>) -> Change<Xtables> {
    Change::Put { key, value: rules(texts), replaced: replaced.map(rules) }
}

fn gone(key: Key, texts: &[&str]) -> Change<Xtables> {
    Change::Drop { key, value: rules(texts) }
}

/// Every line of a script, with the change that it stands for.
fn said(changes: &[Change<Xtables>]) -> Vec<(Option<usize>, String)> {
    let mut lines = Vec::new();
    script(changes, &mut |line| lines.push((line.change, line.text.to_string())));
    lines
}

/// A script's lines between `*nat` and `COMMIT`.
fn lines(changes: &[Change<Xtables>]) -> Vec<String> {
    let text = said(changes).into_iter().map(|(_, line)| line + "\n").collect::<String>();
    let body = text.strip_prefix("*nat\n").and_then(|text| text.strip_suffix("COMMIT\n"));
    body.expect("it is of the nat table alone").lines().map(str::to_owned).collect()
}

#[test]
fn a_new_chain_is_made_before_rules_jump_to_it_and_filled_in_order() {
    let changes = [
        put(key("PREROUTING", Part::Head), &["-j SHARED"], None),
        put(key("SHARED", Part::Tail), &["-j LAST"], None),
        put(key("SHARED", of("a/b")), &["-j OURS", "-j OURS"], None),
        put(chain("SHARED"), &[], None),
        put(chain("OURS"), &["-j ACCEPT"], None),
    ];
    assert_eq!(
        lines(&changes),
        [
            ":SHARED - [0:0]",
            ":OURS - [0:0]",
            "-A OURS -j ACCEPT",
            "-A SHARED -j OURS",
            "-A SHARED -j OURS",
            "-A SHARED -j LAST",
            "-I PREROUTING -j SHARED",
        ]
    );
}

#[test]
fn in_a_chain_that_is_there_only_the_runs_that_change_are_touched() {
    let changes = [
        put(key("SHARED", of("a/b")), &["-j A1", "-j A2"], Some(&["-j A0"])),
        put(key("SHARED", of("c/d")), &["-j C1"], None),
        put(key("SHARED", Part::Tail), &["-j T1"], Some(&["-j T0"])),
        gone(key("SHARED", of("e/f")), &["-j E0"]),
    ];
    assert_eq!(
        lines(&changes),
        [
            "-D SHARED -j A0",
            "-D SHARED -j T0",
            "-D SHARED -j E0",
            "-A SHARED -j T1",
            // Each goes to the head, so the last one goes first.
            "-I SHARED -j C1",
            "-I SHARED -j A2",
            "-I SHARED -j A1",
        ]
    );
}

#[test]
fn a_chain_of_ours_is_refilled() {
    let changes = [put(chain("OURS"), &["-j B"], Some(&["-j A"]))];
    assert_eq!(lines(&changes), [":OURS - [0:0]", "-A OURS -j B"]);
}

#[test]
fn a_chain_ends_after_nothing_jumps_to_it_any_more() {
    let changes = [
        gone(key("PREROUTING", Part::Head), &["-j SHARED"]),
        gone(key("SHARED", of("a/b")), &["-j OURS"]),
        gone(chain("OURS"), &["-j ACCEPT"]),
        gone(chain("SHARED"), &[]),
    ];
    assert_eq!(
        lines(&changes),
        [":OURS - [0:0]", ":SHARED - [0:0]", "-D PREROUTING -j SHARED", "-X OURS", "-X SHARED"]
    );
}

#[test]
fn each_table_is_one_transaction_and_each_line_knows_its_change() {
    let filter = Key::run(Table::Filter, ChainName::of("FORWARD"), Part::Head);
    let changes = [put(chain("OURS"), &["-j ACCEPT"], None), put(filter, &["-j DROP"], None)];
    let known = [
        (None, "*filter"),
        (Some(1), "-I FORWARD -j DROP"),
        (None, "COMMIT"),
        (None, "*nat"),
        (Some(0), ":OURS - [0:0]"),
        (Some(0), "-A OURS -j ACCEPT"),
        (None, "COMMIT"),
    ];
    assert_eq!(said(&changes), known.map(|(change, text)| (change, text.to_owned())));
}

/// Parts that rules are made of, known and unknown ones.
fn parts() -> impl Strategy<Value = Vec<&'static str>> {
    let matches = [
        "! -s 127.0.0.0/8",
        "-d 172.30.0.41/32",
        "-s 10.0.0.0/255.0.255.0",
        "-i cali+",
        "! -i cni0",
        "-o eth0",
        "-p tcp",
        "! -p udp",
        "-m comment --comment \"a \\\"b\\\" -j c\"",
        "-m comment --comment -j",
        "-m tcp --dport 80",
        "-m tcp ! --dport 80",
        "-m multiport --dports 80,443",
        "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT",
        "-m mark ! --mark 0x4000/0x4000",
        "-m addrtype --dst-type LOCAL",
        "-m recent --set --name A --mask 255.255.255.255 --rsource",
        "-m recent --rcheck --seconds 10 --reap --name A --rsource",
        "-m statistic --mode random --probability 0.33333333349",
        "-f",
    ];
    let targets = [
        "-j ACCEPT",
        "-j DNAT --to-destination [::1]:80",
        "-j LOG --log-prefix \"a b: \"",
        "-g KUBE-FIREWALL",
    ];
    let matches = proptest::sample::subsequence(matches.to_vec(), 0..8).prop_shuffle();
    (matches, proptest::sample::select(targets.to_vec())).prop_map(|(mut parts, target)| {
        parts.push(target);
        parts
    })
}

proptest! {
    #[test]
    fn anything_can_be_read(text in any::<String>()) {
        let _ = parse_save(&text);
        let _ = parse_save(&format!("*nat\n:A - [0:0]\n-A A {text}\n"));
    }

    #[test]
    fn parts_of_rules_in_any_number_and_order_can_be_read(mut words in vec(word(), 0..12), quote in 0..12_usize) {
        words.insert(quote.min(words.len()), "\"".to_owned());
        let _ = parse_rule(&words.join(" "));
    }

    #[test]
    fn what_was_read_prints_as_what_reads_the_same(parts in parts()) {
        let rule = parse_rule(&parts.join(" "));
        prop_assert_eq!(parse_rule(&rule.to_string()), rule);
    }
}

/// Words that rules are made of, and some that they are not.
fn word() -> impl Strategy<Value = String> {
    let known = "-A -s -d -i -p -m -j -g ! tcp comment --comment recent --rcheck --set --name --seconds 1 --reap \
        --mask --rsource 255.255.255.255 ::1 mark --mark 0x4000/0x4000 --ctstate NEW,DNAT conntrack ACCEPT DNAT \
        --to-destination 10.0.0.1:80 MARK --set-xmark --dport 99999 statistic --mode random --probability 2 -- - é";
    let known: Vec<&str> = known.split_whitespace().collect();
    prop_oneof![9 => proptest::sample::select(known).prop_map(str::to_owned), 1 => "\\PC{0,12}"]
}

//! The proxy while it runs, when it starts again, and when it cleans up.

use crate::stage::{Running, Stage, TOOLS, endpoints, service, until};

/// Service web with two pods, and Service api with one.
fn two_files() -> Stage {
    let stage = Stage::new();
    stage.write("web.yaml", &web(&["10.244.0.1", "10.244.0.2"]));
    stage.write("api.yaml", &(service("api", "10.96.0.2", "") + &endpoints("api", &["10.244.0.9"])));
    stage
}

fn web(pods: &[&str]) -> String {
    service("web", "10.96.0.1", ", nodePort: 30080") + &endpoints("web", pods)
}

/// Starts, and waits until both families are written.
fn started(stage: &Stage) -> Running {
    let proxy = stage.start(stage.proxy_command(&[]));
    for family in ["IPv4", "IPv6"] {
        proxy.until_log(&format!("pass{{family={family}}}: kernel brought to plan"));
    }
    proxy
}

fn serves(rules: &str, pod: &str) -> bool {
    rules.contains(&format!("--to-destination {pod}:8080"))
}

#[test]
fn a_changed_file_takes_effect() {
    let stage = two_files();
    let _proxy = started(&stage);
    let rules = stage.rules();
    assert!(["10.244.0.1", "10.244.0.2", "10.244.0.9"].iter().all(|pod| serves(&rules, pod)), "{rules}");
    stage.write("web.yaml", &web(&["10.244.0.2", "10.244.0.3"]));
    stage.until_rules("the new pod is served, and the old one is not", |rules| {
        serves(rules, "10.244.0.3") && !serves(rules, "10.244.0.1")
    });
    let rules = stage.rules();
    assert!(serves(&rules, "10.244.0.2") && serves(&rules, "10.244.0.9"), "{rules}");
}

#[test]
fn a_new_file_takes_effect_and_a_removed_one_leaves_nothing() {
    let stage = two_files();
    let _proxy = started(&stage);
    let before = stage.sorted_rules();
    stage.write("new.yaml", &(service("new", "10.96.0.3", "") + &endpoints("new", &["10.244.0.20"])));
    stage.until_rules("the new Service is served", |rules| serves(rules, "10.244.0.20"));
    stage.remove("new.yaml");
    stage.until_rules("it is gone", |rules| !rules.contains("default/new"));
    assert_eq!(stage.sorted_rules(), before);
}

#[test]
fn a_broken_file_keeps_what_it_gave_and_the_others_go_on() {
    let stage = two_files();
    let proxy = started(&stage);
    stage.write("web.yaml", "apiVersion: v1\nkind: [\n");
    proxy.until_log("does not parse");
    stage.write("api.yaml", &(service("api", "10.96.0.2", "") + &endpoints("api", &["10.244.0.8"])));
    stage.until_rules("the other file takes effect", |rules| serves(rules, "10.244.0.8"));
    let rules = stage.rules();
    assert!(serves(&rules, "10.244.0.1") && serves(&rules, "10.244.0.2"), "{rules}");
    stage.write("web.yaml", &web(&["10.244.0.4"]));
    stage.until_rules("the mended file takes effect", |rules| {
        serves(rules, "10.244.0.4") && !serves(rules, "10.244.0.1")
    });
}

#[test]
fn what_is_wrong_with_one_object_keeps_that_object_as_it_was() {
    let stage = two_files();
    let proxy = started(&stage);
    let bad = web(&["10.244.0.7"]).replace("port: 80,", "port: 70000,");
    stage.write("web.yaml", &bad);
    proxy.until_log("70000 is not a port");
    stage.until_rules("its slice, which is sound, takes effect", |rules| serves(rules, "10.244.0.7"));
    assert!(stage.rules().contains("-d 10.96.0.1/32 -p tcp"), "the Service is as it was");
}

#[test]
fn both_signals_end_it_well_and_leave_the_rules() {
    for signal in ["-TERM", "-INT"] {
        let stage = two_files();
        let proxy = started(&stage);
        let before = stage.rules();
        assert_eq!(proxy.end_by(signal).code(), Some(0), "{signal}");
        assert_eq!(stage.rules(), before);
    }
}

/// Counts packets in every IPv4 rule, as if there had been traffic: a rule that is rewritten loses its count.
/// (ip6tables-restore 1.8.9 sets no counters.)
fn count_packets(stage: &Stage) {
    let saved = stage.tool("iptables-save", &["-c"], "").replace("[0:0] -A", "[7:420] -A");
    stage.tool("iptables-restore", &["-c"], &saved);
}

#[test]
fn a_restart_writes_nothing() {
    let stage = two_files();
    stage.proxy(&["--once"]).success();
    count_packets(&stage);
    let before = stage.saved(&["-c"]);
    assert!(before.contains("[7:420] -A KUBE-SERVICES"), "{before}");
    stage.proxy(&["--once", "-v", "4"]).success().wrote_nothing();
    let proxy = stage.start(stage.proxy_command(&["-v", "4"]));
    proxy.until_log("serving");
    stage.write("new.yaml", &service("new", "10.96.0.3", ""));
    stage.until_rules("it is at work", |rules| rules.contains("default/new:http has no endpoints"));
    stage.remove("new.yaml");
    stage.until_rules("it is at work", |rules| !rules.contains("default/new"));
    proxy.end_by("-TERM");
    assert_eq!(stage.saved(&["-c"]), before);
}

#[test]
fn a_change_leaves_the_counts_of_every_other_rule() {
    let stage = two_files();
    stage.proxy(&["--once"]).success();
    count_packets(&stage);
    stage.write("web.yaml", &web(&["10.244.0.1", "10.244.0.3"]));
    stage.proxy(&["--once"]).success();
    let saved = stage.tool("iptables-save", &["-c"], "");
    let fresh: Vec<_> = saved.lines().filter(|line| line.starts_with("[0:0] -A")).collect();
    assert!(!fresh.is_empty());
    for line in fresh {
        assert!(line.contains("default/web:http"), "{line} in {saved}");
    }
}

/// What a host has of its own: rules in built-in chains, a chain, a table that we never touch.
const OF_THE_HOST: &str = "*mangle
-A PREROUTING -p tcp -j MARK --set-xmark 0x1/0x1
COMMIT
*filter
:MINE - [0:0]
-A INPUT -p icmp -j ACCEPT
-A INPUT -j MINE
-A FORWARD -j MINE
-A MINE -m comment --comment \"kubernetes is no word of ours alone\" -j RETURN
COMMIT
*nat
:MINE - [0:0]
-A PREROUTING -j MINE
-A POSTROUTING -p tcp -m tcp --dport 9 -j MASQUERADE
COMMIT
";

fn of_the_host() -> Stage {
    let stage = two_files();
    for tool in TOOLS {
        let rules =
            if tool == "ip6tables" { OF_THE_HOST.replace("icmp", "ipv6-icmp") } else { OF_THE_HOST.into() };
        stage.tool(&format!("{tool}-restore"), &[], &rules);
    }
    stage
}

#[test]
fn a_cleanup_leaves_the_tables_as_they_were_before() {
    let stage = of_the_host();
    let before = stage.rules();
    stage.proxy(&["--once", "--cluster-cidr", "10.244.0.0/16,fd00::/48"]).success();
    assert_ne!(stage.rules(), before);
    stage.ended(stage.command(&["proxy", "--cleanup"])).success();
    assert_eq!(stage.rules(), before);
    stage.ended(stage.command(&["proxy", "--cleanup"])).success();
    assert_eq!(stage.rules(), before, "nor does it matter how often");
}

#[test]
fn rules_of_strangers_stay_also_between_ours() {
    let stage = of_the_host();
    let before = stage.rules();
    stage.proxy(&["--once"]).success();
    let theirs = "-A INPUT -p udp -m udp --dport 53 -j ACCEPT";
    stage.tool("iptables", &["-I", "INPUT", "3", "-p", "udp", "--dport", "53", "-j", "ACCEPT"], "");
    let with_theirs = stage.rules();
    stage.proxy(&["--once"]).success();
    assert_eq!(stage.rules(), with_theirs);
    stage.write("web.yaml", &web(&[]));
    stage.proxy(&["--once"]).success();
    let rules = stage.rules();
    for line in OF_THE_HOST.lines().filter(|line| line.starts_with("-A")).chain([theirs]) {
        assert!(rules.contains(line), "{line} in {rules}");
    }
    stage.ended(stage.command(&["proxy", "--cleanup"])).success();
    stage.tool("iptables", &["-D", "INPUT", "-p", "udp", "--dport", "53", "-j", "ACCEPT"], "");
    assert_eq!(stage.rules(), before);
}

#[test]
fn a_strangers_rule_in_a_chain_of_ours_goes_with_the_next_start() {
    let stage = two_files();
    stage.proxy(&["--once"]).success();
    let before = stage.rules();
    stage.tool("iptables", &["-t", "nat", "-I", "KUBE-SERVICES", "-j", "RETURN"], "");
    stage.tool("iptables", &["-t", "nat", "-N", "KUBE-SVC-AAAAAAAAAAAAAAAA"], "");
    stage.tool("iptables", &["-t", "nat", "-F", "KUBE-MARK-MASQ"], "");
    stage.proxy(&["--once"]).success();
    assert_eq!(stage.rules(), before);
}

#[test]
fn rules_that_vanish_are_put_back_by_the_next_change() {
    let stage = two_files();
    let _proxy = started(&stage);
    stage.tool("iptables", &["-t", "nat", "-F"], "");
    stage.tool("iptables", &["-t", "nat", "-X"], "");
    stage.write("web.yaml", &web(&["10.244.0.1", "10.244.0.5"]));
    stage.until_rules("all is back", |rules| {
        ["10.244.0.1", "10.244.0.5", "10.244.0.9"].iter().all(|pod| serves(rules, pod))
    });
}

/// Whatever a stranger does to our rules is undone, without a change of any manifest.
fn heals(stage: &Stage, proxy_command: std::process::Command, tool: &str) {
    stage.tool(tool, &["-A", "INPUT", "-s", "192.0.2.7/32", "-j", "ACCEPT"], "");
    let _proxy = stage.start(proxy_command);
    let rules = || stage.tool(&format!("{tool}-save"), &[], "");
    let until = |what: &str, holds: &dyn Fn(&str) -> bool| until(what, || holds(&rules()), rules);
    until("all is written", &|rules| serves(rules, "10.244.0.9") && rules.contains("-A POSTROUTING"));
    for table in ["nat", "filter"] {
        stage.tool(tool, &["-t", table, "-F"], "");
        let jump = |rules: &str| rules.contains("-A PREROUTING") && rules.contains("-A KUBE-FORWARD");
        until("the flushed table is whole again", &|rules| serves(rules, "10.244.0.9") && jump(rules));
    }
    stage.tool(tool, &["-A", "INPUT", "-s", "192.0.2.8/32", "-j", "ACCEPT"], "");
    stage.tool(tool, &["-t", "nat", "-I", "KUBE-SERVICES", "-s", "192.0.2.9/32", "-j", "RETURN"], "");
    until("a stranger's rule among ours goes", &|rules| !rules.contains("192.0.2.9"));
    assert!(rules().contains("-A INPUT -s 192.0.2.8/32 -j ACCEPT"), "his own rule stays: {}", rules());
}

#[test]
fn what_a_stranger_does_to_our_rules_is_undone() {
    let stage = two_files();
    heals(&stage, stage.proxy_command(&[]), "iptables");
}

#[test]
fn what_a_stranger_does_to_our_legacy_rules_is_undone() {
    let stage = two_files();
    let path = stage.legacy_tools();
    let mut proxy = stage.proxy_command(&[]);
    proxy.env("PATH", path);
    heals(&stage, proxy, "iptables-legacy");
}

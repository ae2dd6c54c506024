//! The nftables mode from its command line: shown, written, meddled with, switched to and from. Needs nft to look.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use crate::stage::{Running, Stage, endpoints, service, until};

const MODE: [&str; 2] = ["--proxy-mode", "nftables"];

fn listed(stage: &Stage) -> String {
    stage.tool("nft", &["list", "ruleset"], "")
}

fn nft(stage: &Stage, command: &str) {
    stage.tool("nft", &command.split(' ').collect::<Vec<_>>(), "");
}

fn once(stage: &Stage, mode: &str) {
    stage.proxy(&["--once", "--proxy-mode", mode]).success();
}

fn started(stage: &Stage) -> Running {
    let proxy = stage.start(stage.proxy_command(&MODE));
    for family in ["IPv4", "IPv6"] {
        proxy.until_log(&format!("pass{{family={family}}}: kernel brought to plan"));
    }
    proxy
}

/// Whether our tables are there, by family, and whether iptables rules of a proxy are.
fn present(stage: &Stage) -> (bool, bool, bool) {
    let listed = listed(stage);
    let has = |table: &str| listed.contains(table);
    (has("table ip fairlead "), has("table ip6 fairlead "), stage.rules().contains("KUBE-SERVICES"))
}

#[test]
fn what_a_dry_run_shows_is_what_nft_reads_and_what_is_written() {
    let stage = Stage::with_example();
    let shown = stage.proxy(&["--dry-run", "--proxy-mode", "nftables"]).success().stdout;
    assert_eq!(listed(&stage), "");
    stage.tool("nft", &["-f", "-"], &shown);
    let read = listed(&stage);
    assert!(read.contains("10.96.0.10 . tcp . 80 : goto cluster-4"), "{read}");
    nft(&stage, "flush ruleset");
    once(&stage, "nftables");
    let sorted = |text: &str| {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        words.sort();
        words
    };
    assert_eq!(sorted(&listed(&stage)), sorted(&read));
}

#[test]
fn a_second_start_writes_nothing_also_after_nft_saved_and_restored_it() {
    let stage = Stage::with_example();
    once(&stage, "nftables");
    stage.proxy(&["--once", "-v4", "--proxy-mode", "nftables"]).success().wrote_nothing();
    let saved = listed(&stage);
    nft(&stage, "flush ruleset");
    stage.tool("nft", &["-f", "-"], &saved);
    stage.proxy(&["--once", "-v4", "--proxy-mode", "nftables"]).success().wrote_nothing();
}

#[test]
fn a_switch_leaves_the_rules_of_the_new_mode_alone() {
    let stage = Stage::with_example();
    once(&stage, "iptables");
    assert_eq!(present(&stage), (false, false, true));
    once(&stage, "nftables");
    assert_eq!(present(&stage), (true, true, false));
    once(&stage, "iptables");
    assert_eq!(present(&stage), (false, false, true));
    let _proxy = started(&stage);
    until("a proxy that stays cleans up, too", || present(&stage) == (true, true, false), || listed(&stage));
}

#[test]
fn cleanup_removes_our_tables_and_upstreams_and_nobody_elses() {
    let stage = Stage::with_example();
    once(&stage, "nftables");
    for family in ["ip", "ip6"] {
        nft(&stage, &format!("add table {family} kube-proxy"));
        nft(&stage, &format!("add table {family} stranger"));
    }
    stage.ended(stage.command(&["proxy", "--cleanup"])).success();
    assert_eq!(listed(&stage), "table ip stranger {\n}\ntable ip6 stranger {\n}\n");
}

#[test]
fn what_a_stranger_does_to_the_table_is_undone() {
    let stage = Stage::with_example();
    let proxy = started(&stage);
    let before = listed(&stage);
    for command in [
        "delete element ip fairlead endpoints { 10.96.0.10 . tcp . 80 . 0 }",
        "add element ip fairlead cluster-ips { 192.0.2.77 }",
        "flush chain ip fairlead services",
        "add rule ip fairlead cluster-4 counter drop",
        "add chain ip fairlead strange",
        "delete table ip fairlead",
        "flush ruleset",
    ] {
        nft(&stage, command);
        until(&format!("{command:?} is undone"), || listed(&stage).len() == before.len(), || proxy.log());
    }
}

/// A program of nft that goes on in the namespace for as long as the test.
struct Nft(Child);

impl Nft {
    fn start(stage: &Stage, argument: &str, output: &str) -> Self {
        let output = File::create(stage.directory().join(output)).expect("a file");
        let mut command = Command::new("nft");
        command.arg(argument).stdin(Stdio::piped()).stdout(output);
        Self(stage.netns.run(move || command.spawn().expect("nft starts")).expect("entered"))
    }
}

impl Drop for Nft {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Manifests of so many Services with two endpoints each.
fn many_services(count: u16) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        let [high, low] = number.to_be_bytes();
        let (name, ip) = (format!("web-{number}"), format!("10.97.{high}.{low}"));
        let pods = [format!("10.180.{high}.{low}"), format!("10.181.{high}.{low}")];
        let slice = endpoints(&name, &[&pods[0], &pods[1]]);
        write!(text, "{}{slice}", service(&name, &ip, "")).expect("writing to a String cannot fail");
        text
    })
}

#[test]
fn of_a_large_load_the_first_transaction_lets_this_node_reach_the_api_server() {
    let stage = Stage::new();
    stage.write("many.yaml", &many_services(600));
    let api_server = service("kubernetes", "10.96.0.1", "") + &endpoints("kubernetes", &["192.0.2.9"]);
    stage.write("api-server.yaml", &api_server);
    let _monitor = Nft::start(&stage, "monitor", "told");
    let told = || fs::read_to_string(stage.directory().join("told")).expect("a file");
    let listens = || {
        nft(&stage, "add table ip stranger");
        nft(&stage, "delete table ip stranger");
        told().contains("stranger")
    };
    until("nft listens", listens, told);
    once(&stage, "nftables");
    let is_told = || told().contains("add element ip fairlead services { 10.97.2.87 .");
    until("the last Service is told", is_told, || "it is not".to_owned());
    let told = told();
    let generations: Vec<&str> =
        told.split("# new generation").filter(|part| part.contains(" ip fairlead ")).collect();
    assert!(generations.len() > 1, "{} bytes in one transaction", told.len());
    for words in [
        "add chain ip fairlead nat-postrouting { type nat hook postrouting priority srcnat; policy accept; }",
        "add rule ip fairlead masquerading ip saddr . ip daddr @hairpins masquerade fully-random",
        "add element ip fairlead endpoints { 10.96.0.1 . tcp . 80 . 0 : 192.0.2.9 . 8080 }",
        "add element ip fairlead services { 10.96.0.1 . tcp . 80 : goto cluster-1 }",
    ] {
        assert!(generations[0].contains(words), "{words} is not in {}", generations[0]);
    }
    assert!(!generations[0].contains("10.97."), "{}", generations[0]);
    // Every Service is whole when it comes, in whatever transaction.
    for part in generations {
        for line in part.lines().filter(|line| line.starts_with("add element ip fairlead services { 10.97."))
        {
            let ip = line.split(' ').nth(6).expect("an address");
            for slot in 0..2 {
                let endpoint = format!("add element ip fairlead endpoints {{ {ip} . tcp . 80 . {slot} : ");
                assert!(part.contains(&endpoint), "{endpoint} is in another transaction");
            }
        }
    }
}

#[test]
fn a_set_that_holds_too_little_is_replaced_with_its_table() {
    let stage = Stage::with_example();
    once(&stage, "nftables");
    let before = listed(&stage);
    let of_services = "type ipv4_addr . inet_proto . inet_service : verdict";
    let cramped = before.replacen(of_services, &format!("{of_services}\n\t\tsize 2"), 1);
    assert!(cramped.contains("size 2"), "{cramped}");
    let cram = || {
        stage.tool("nft", &["-f", "-"], &format!("flush ruleset\n{cramped}"));
        listed(&stage)
    };
    assert!(cram().contains("size 2"));
    stage.write("more.yaml", &many_services(3));
    once(&stage, "nftables");
    let after = listed(&stage);
    assert!(!after.contains("size 2") && after.contains("10.97.0.2 . tcp . 80 : goto cluster-2"), "{after}");

    let proxy = stage.start(stage.proxy_command(&MODE));
    until("it is settled", || proxy.log().contains("serving"), || proxy.log());
    cram();
    let is_mended = || listed(&stage).len() == after.len();
    until("the table is replaced while the proxy runs", is_mended, || proxy.log());
    proxy.until_log("undid what a stranger changed");
}

#[test]
fn while_another_program_holds_the_table_one_family_waits_and_each_try_is_one_error() {
    let stage = Stage::with_example();
    let mut owner = Nft::start(&stage, "--interactive", "answers");
    let mut input = owner.0.stdin.take().expect("a pipe");
    input.write_all(b"add table ip fairlead { flags owner; }\n").expect("nft reads");
    until("the table is held", || listed(&stage).contains("flags owner"), || listed(&stage));
    let proxy = stage.start(stage.proxy_command(&MODE));
    proxy.until_log("another program holds the table ip fairlead");
    proxy.until_log("pass{family=IPv6}: kernel brought to plan");
    let log = proxy.log();
    assert_eq!(log.matches("ERROR").count(), log.matches("another program holds").count(), "{log}");
    assert!(listed(&stage).contains("flags owner"), "nothing of it was touched");
    drop(input);
    let whole = || listed(&stage).contains("10.96.0.10 . tcp . 80 : goto cluster-4");
    until("the table is ours when the other lets go", whole, || proxy.log());
}

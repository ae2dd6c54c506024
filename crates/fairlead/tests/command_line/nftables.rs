//! The nftables mode from its command line: shown, written, meddled with, switched to and from. Needs nft to look.

use crate::stage::{Running, Stage, until};

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

//! A configuration file that changes while the proxy runs.

use std::net::{Ipv4Addr, SocketAddr};

use kernel_io::sysctl;
use serde_json::Value;

use crate::stage::{Running, Stage, until};
use crate::web::get;

/// A proxy that runs by a configuration file.
fn running_by(stage: &Stage, fields: &str) -> Running {
    let path = stage.config(fields);
    let mut command = stage.proxy_command(&["--config"]);
    command.arg(path);
    let proxy = stage.start(command);
    for family in ["IPv4", "IPv6"] {
        proxy.until_log(&format!("pass{{family={family}}}: kernel brought to plan"));
    }
    proxy
}

#[test]
fn a_changed_configuration_takes_effect_without_a_new_process() {
    let stage = Stage::with_example();
    let proxy = running_by(&stage, "clusterCIDR: 10.244.0.0/16\nlogging: {verbosity: 0}\n");
    let masquerades = |range: &str| format!("! -s {range} -d 10.96.0.10/32");
    let rules = stage.rules();
    assert!(rules.contains(&masquerades("10.244.0.0/16")), "{rules}");
    stage.config("clusterCIDR: 10.32.0.0/12\nlogging: {verbosity: 4}\nclientConnection: {qps: 50}\n");
    stage.until_rules("the new range counts", |rules| {
        rules.contains(&masquerades("10.32.0.0/12")) && !rules.contains("10.244.0.0/16 -d")
    });
    proxy.until_log("fields=\"clientConnection.qps clusterCIDR logging.verbosity\"");
    proxy.until_log("DEBUG");
    assert_eq!(proxy.end_by("-TERM").code(), Some(0));
}

#[test]
fn a_changed_configuration_that_is_wrong_is_told_and_the_old_one_counts() {
    let stage = Stage::with_example();
    let mut proxy = running_by(&stage, "clusterCIDR: 10.244.0.0/16\n");
    let before = stage.rules();
    stage.config("clusterCIDR: nonsense\noomScoreAdj: 2000\n");
    proxy.until_log("DetectLocalConfiguration.ClusterCIDRs[0]");
    proxy.until_log("OOMScoreAdj");
    stage.config("mode: [");
    proxy.until_log("cannot use the configuration");
    assert!(proxy.log().matches("what it said before counts").count() >= 3, "{}", proxy.log());
    assert_eq!(stage.rules(), before);
    proxy.expect_alive();
    stage.config("clusterCIDR: 10.32.0.0/12\n");
    stage.until_rules("the mended file counts", |rules| rules.contains("! -s 10.32.0.0/12"));
}

#[test]
fn what_only_a_new_process_can_take_over_ends_this_one_and_leaves_the_rules() {
    let stage = Stage::with_example();
    let proxy = running_by(&stage, "clusterCIDR: 10.244.0.0/16\n");
    let before = stage.rules();
    stage.config("clusterCIDR: 10.244.0.0/16\nmode: nftables\nhostnameOverride: other\n");
    let (status, log) = proxy.ended_by_itself();
    assert_eq!(status.code(), Some(1), "{log}");
    let line = "error: the configuration file has changed hostnameOverride, mode, which only a new process can take over";
    assert_eq!(log.lines().filter(|found| *found == line).count(), 1, "{log}");
    assert_eq!(stage.rules(), before);
}

#[test]
fn servers_move_and_the_kernel_is_told_anew_without_a_new_process() {
    let stage = Stage::with_example();
    let fields = |healthz: u16, metrics: u16, more: &str| {
        format!("healthzBindAddress: 0.0.0.0:{healthz}\nmetricsBindAddress: 127.0.0.1:{metrics}\n{more}")
    };
    let proxy = running_by(&stage, &fields(11256, 11249, "conntrack: {udpTimeout: 40s}"));
    let ask = |port: u16, path: &str| {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        get(&stage.netns, at, path).ok().map(|answer| (answer.status, answer.body))
    };
    let status = |port: u16, path: &str| ask(port, path).map(|(status, _)| status);
    let udp_timeout = || {
        let read = || sysctl::read("net.netfilter.nf_conntrack_udp_timeout");
        stage.netns.run(read).expect("entered").expect("a setting")
    };
    assert_eq!((status(11256, "/livez"), status(11249, "/metrics")), (Some(200), Some(200)));
    assert_eq!(udp_timeout(), "40");

    // The port of the one becomes that of the other.
    let more = "conntrack: {udpTimeout: 50s}\niptables: {syncPeriod: 2m, minSyncPeriod: 250ms}";
    stage.config(&fields(11249, 12249, more));
    let moved = || status(11249, "/livez") == Some(200) && status(12249, "/metrics") == Some(200);
    until("both have moved", moved, || proxy.log());
    assert_eq!((status(11256, "/livez"), status(11249, "/metrics")), (None, Some(404)));
    assert_eq!(udp_timeout(), "50");
    let (_, configz) = ask(12249, "/configz").expect("an answer");
    let configz: Value = serde_json::from_str(&configz).expect("JSON");
    let in_force = &configz["kubeproxy.config.k8s.io"];
    assert_eq!(in_force["metricsBindAddress"], "127.0.0.1:12249");
    assert_eq!(in_force["iptables"]["minSyncPeriod"], "250ms");
    assert_eq!(in_force["conntrack"]["udpTimeout"], "50s");

    stage.config(&fields(11249, 12249, more).replace("0.0.0.0:11249", "\"\""));
    until("health is served no more", || status(11249, "/livez").is_none(), || proxy.log());
    assert_eq!(status(12249, "/metrics"), Some(200));
    assert_eq!(proxy.end_by("-TERM").code(), Some(0));
}

#[test]
fn a_server_that_must_move_to_where_it_cannot_ends_the_process() {
    let stage = Stage::with_example();
    let fields = |at: &str| format!("bindAddressHardFail: true\nmetricsBindAddress: {at}\n");
    let proxy = running_by(&stage, &fields("127.0.0.1:11249"));
    stage.config(&fields("192.0.2.77:11249"));
    let (status, log) = proxy.ended_by_itself();
    assert_eq!(status.code(), Some(1), "{log}");
    let line =
        "error: cannot serve metrics at 192.0.2.77:11249: Cannot assign requested address (os error 99)";
    assert_eq!(log.lines().filter(|found| *found == line).count(), 1, "{log}");
    assert!(stage.rules().contains("10.96.0.10"));
}

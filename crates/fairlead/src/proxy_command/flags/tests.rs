use std::collections::BTreeSet;

use clap::Parser;

use super::super::given::KubeProxyFlags;
use super::*;

#[derive(Debug, Parser)]
struct Alone {
    #[command(flatten)]
    flags: KubeProxyFlags,
}

fn flags(arguments: &[&str]) -> KubeProxyFlags {
    let arguments = ["kube-proxy"].iter().chain(arguments);
    Alone::try_parse_from(arguments).expect("it is sound").flags
}

fn written(arguments: &[&str]) -> KubeProxyConfiguration {
    flags(arguments).draft.configuration
}

#[test]
fn without_flags_all_is_as_without_fields() {
    assert_eq!(written(&[]), KubeProxyConfiguration::default());
    let names: BTreeSet<&str> = FLAGS.iter().map(|flag| flag.name).collect();
    assert_eq!(names.len(), FLAGS.len());
}

#[test]
fn a_switch_may_have_a_value() {
    for (given, expected) in [
        (&["--masquerade-all"][..], true),
        (&["--masquerade-all=true"], true),
        (&["--masquerade-all=T"], true),
        (&["--masquerade-all=0"], false),
        (&[], false),
    ] {
        let configuration = written(given);
        assert_eq!(configuration.iptables.masquerade_all, expected, "{given:?}");
        assert_eq!(configuration.nftables.masquerade_all, expected, "{given:?}");
    }
}

#[test]
fn lists_grow_and_gates_add_up() {
    let configuration = written(&[
        "--nodeport-addresses=10.0.0.0/8,fd00::/8",
        "--nodeport-addresses",
        "192.168.0.0/16",
        "--feature-gates=AllAlpha=true, AllBeta=false",
        "--feature-gates=AllBeta=true",
        "--vmodule=a=1,b=2",
    ]);
    assert_eq!(configuration.node_port_addresses, ["10.0.0.0/8", "fd00::/8", "192.168.0.0/16"]);
    let gates = [("AllAlpha".to_owned(), true), ("AllBeta".to_owned(), true)];
    assert_eq!(configuration.feature_gates, gates.into());
    assert_eq!(configuration.logging.vmodule.len(), 2);
}

#[test]
fn verbosity_has_every_form() {
    for given in [&["-v=4"][..], &["-v4"], &["-v", "4"], &["--v=4"], &["--v", "4"]] {
        assert_eq!(written(given).logging.verbosity, 4, "{given:?}");
    }
}

#[test]
fn the_sync_periods_of_iptables_are_those_of_nftables_too() {
    let configuration = written(&["--iptables-sync-period=1m", "--iptables-min-sync-period=2s"]);
    for (period, least) in [
        (configuration.iptables.sync_period, configuration.iptables.min_sync_period),
        (configuration.nftables.sync_period, configuration.nftables.min_sync_period),
    ] {
        assert_eq!((period, least), (GoDuration::of_seconds(60), GoDuration::of_seconds(2)));
    }
}

#[test]
fn addresses_of_servers_take_the_ports_of_the_old_flags() {
    for (given, healthz, metrics) in [
        (&[][..], "0.0.0.0:10256", "127.0.0.1:10249"),
        (&["--bind-address=::"], "0.0.0.0:10256", "127.0.0.1:10249"),
        (&["--healthz-bind-address=::1", "--healthz-port=5"], "[::1]:5", "127.0.0.1:10249"),
        (&["--healthz-bind-address=1.2.3.4:9", "--healthz-port=5"], "1.2.3.4:9", "127.0.0.1:10249"),
        (&["--healthz-bind-address=", "--metrics-bind-address=1.2.3.4"], "0.0.0.0:10256", "1.2.3.4:10249"),
        (&["--healthz-port=0"], "", "127.0.0.1:10249"),
        (&["--metrics-port=0"], "0.0.0.0:10256", ""),
    ] {
        let configuration = written(given);
        assert_eq!(configuration.healthz_bind_address, healthz, "{given:?}");
        assert_eq!(configuration.metrics_bind_address, metrics, "{given:?}");
    }
}

#[test]
fn a_wrong_value_is_told_with_its_flag() {
    for (flag, value, problem) in [
        ("--bind-address", "nowhere", "it is no IP address"),
        ("--healthz-bind-address", "nowhere", "it is neither an IP address nor one with a port"),
        ("--metrics-bind-address", ":5", "it is neither an IP address nor one with a port"),
        ("--metrics-port", "70000", "number too large"),
        ("--config-sync-period", "5", "\"5\" is not a duration, such as 250ms, 30s or 1h30m"),
        ("--oom-score-adj", "99999999999", "number too large"),
        ("--masquerade-all", "maybe", "it is neither true nor false"),
        ("--feature-gates", "NFTablesProxyMode", "NFTablesProxyMode is not like Name=true"),
        ("--feature-gates", "NFTablesProxyMode=x", "NFTablesProxyMode=x is neither true nor false"),
        ("--vmodule", "a", "a is not like pattern=3"),
        ("-v", "-1", "invalid digit"),
        ("--kube-api-qps", "many", "invalid float literal"),
    ] {
        let error = Alone::try_parse_from(["kube-proxy", &format!("{flag}={value}")]);
        let text = error.expect_err("it is wrong").to_string();
        let line = text.lines().next().unwrap_or_default();
        assert!(line.contains(flag) && line.contains(problem) && line.contains(value), "{line}");
    }
}

#[test]
fn beside_a_file_only_some_flags_count() {
    let flags = flags(&[
        "--proxy-mode=nftables",
        "--hostname-override=node-2",
        "-v=5",
        "--cluster-cidr=10.0.0.0/8",
        "--oom-score-adj=5",
    ]);
    let file = KubeProxyConfiguration { mode: "ipvs".into(), ..KubeProxyConfiguration::default() };
    let both = flags.beside(file.clone());
    assert_eq!((&*both.mode, &*both.hostname_override, both.logging.verbosity), ("nftables", "node-2", 5));
    assert_eq!((&*both.cluster_cidr, both.oom_score_adj), ("", -999));
    assert_eq!(flags.ignored_beside_config(), ["cluster-cidr", "oom-score-adj"]);
    assert_eq!(super::tests::flags(&[]).beside(file.clone()), file);
}

#[test]
fn flags_without_a_meaning_say_why() {
    let flags = flags(&["--kube-api-qps=50", "--cluster-cidr=10.0.0.0/8", "--machine-id-file=/etc/x"]);
    let told: Vec<_> = flags.without_meaning().collect();
    assert_eq!(
        told,
        [
            ("kube-api-qps", "three requests at start, and then only watches."),
            ("machine-id-file", "we name no machine.")
        ]
    );
}

//! What is wrong is told in one line that names it, and everything else keeps working.

use std::process::Command;
use std::time::Duration;

use second_kernel::{Boot, Modules};

use crate::stage::{BINARY, Ended, Stage, endpoints, service};

/// Has Service good, and one file more.
fn beside_a_good_service(name: &str, text: &str) -> Stage {
    let stage = Stage::new();
    stage.write("good.yaml", &(service("good", "10.96.0.1", "") + &endpoints("good", &["10.244.0.1"])));
    stage.write(name, text);
    stage
}

/// Writes once; Service good must be served whatever else there is.
fn once(stage: &Stage) -> Ended {
    let ended = stage.proxy(&["--once"]).success();
    let rules = stage.rules();
    assert!(
        rules.contains("-d 10.96.0.1/32") && rules.contains("--to-destination 10.244.0.1:8080"),
        "{rules}"
    );
    ended
}

#[test]
fn a_syntax_error_is_told_with_file_and_line() {
    let stage = beside_a_good_service("broken.yaml", "apiVersion: v1\nkind: Service\nspec: [\n");
    let path = stage.manifests().join("broken.yaml");
    once(&stage).line_with(&["does not parse", &format!("{}:", path.display())]);
}

#[test]
fn a_file_that_is_not_text_is_told() {
    let stage = beside_a_good_service("other.yaml", "");
    std::fs::write(stage.manifests().join("binary.yaml"), b"kind: \xff\xfe").expect("written");
    once(&stage).line_with(&["is not UTF-8", "binary.yaml:1"]);
}

#[test]
fn a_wrong_field_is_told_with_its_path_and_its_file() {
    for (yaml, field, what) in [
        (service("bad", "10.96.0.2", ", protocol: HTTP"), "spec.ports[0].protocol", "\"HTTP\" is not known"),
        (service("bad", "10.96.0.2", ", nodePort: 70000"), "spec.ports[0].nodePort", "70000 is not a port"),
        (service("bad", "10.96.0.2", "").replace("80", "70000"), "spec.ports[0].port", "70000 is not a port"),
        (service("bad", "10.96.0.2", "").replace("80", "0"), "spec.ports[0].port", "0 is not a port"),
        (service("bad", "10.96.0.256", ""), "spec.clusterIP", "\"10.96.0.256\" is not an IP address"),
        (service("Bad", "10.96.0.2", ""), "metadata.name", "\"Bad\" is not a name"),
        (endpoints("bad", &["10.244.0.2"]).replace("8080", "-1"), "ports[0].port", "-1 is not a port"),
        (
            endpoints("bad", &["fd00::1"]).replace("IPv6", "IPv4"),
            "endpoints[0].addresses[0]",
            "not an IPv4 address",
        ),
    ] {
        let stage = beside_a_good_service("bad.yaml", &yaml);
        let ended = once(&stage);
        ended.line_with(&[field, what, "bad.yaml:1"]);
        assert!(!stage.rules().contains("10.96.0.2"), "{field}");
    }
}

#[test]
fn every_wrong_field_of_an_object_is_told() {
    let yaml = service("bad", "10.96.0.2", ", protocol: HTTP, nodePort: -1").replace("80", "70000");
    let stage = beside_a_good_service("bad.yaml", &yaml);
    let ended = once(&stage);
    for field in ["spec.ports[0].port:", "spec.ports[0].protocol:", "spec.ports[0].nodePort:"] {
        ended.line_with(&["Service default/bad", field, "bad.yaml:1"]);
    }
}

#[test]
fn ranges_of_the_other_family_alone_are_refused_where_a_node_has_but_one() {
    let stage = Stage::with_example();
    let disable = || kernel_io::sysctl::write("net.ipv6.conf.all.disable_ipv6", "1");
    stage.netns.run(disable).expect("entered").expect("written");
    let line = stage.proxy(&["--once", "--cluster-cidr", "fd00:244::/48"]).one_line(1);
    assert_eq!(line, "error: this node has IPv4 alone, and clusterCIDR has no range of it");
    assert!(!stage.rules().contains("10.96.0.10"));
    stage.proxy(&["--once", "--cluster-cidr", "10.244.0.0/16,fd00:244::/48"]).success();
    assert!(stage.rules().contains("10.96.0.10"));
}

#[test]
fn of_two_services_with_one_cluster_ip_the_oldest_wins() {
    let made = |name: &str, year: u32, more: &str| {
        let created = format!("{{name: {name}, creationTimestamp: \"{year}-01-01T00:00:00Z\",");
        service(name, "10.96.0.2", more).replace(&format!("{{name: {name},"), &created)
    };
    let text = made("young", 2025, ", nodePort: 30001")
        + &made("zz-old", 2024, "")
        + &endpoints("young", &["10.244.0.2"])
        + &endpoints("zz-old", &["10.244.0.3"]);
    let stage = beside_a_good_service("two.yaml", &text);
    once(&stage).line_with(&[
        "Service default/young:http: spec.clusterIP 10.96.0.2:80/TCP is already taken by Service default/zz-old",
    ]);
    let rules = stage.rules();
    assert!(rules.contains("\"default/zz-old:http cluster IP\""), "{rules}");
    assert!(!rules.contains("\"default/young:http cluster IP\""), "{rules}");
    assert!(rules.contains("--dport 30001"), "its node port is served all the same: {rules}");
}

#[test]
fn an_object_that_two_files_define_is_told_and_the_first_file_counts() {
    let stage = beside_a_good_service("other.yaml", &service("good", "10.96.0.9", ""));
    once(&stage).line_with(&["Service default/good", "other.yaml", "good.yaml defines it"]);
    assert!(!stage.rules().contains("10.96.0.9"));
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    for mode in ["--once", "--dry-run"] {
        let stage = Stage::new();
        let line = stage.ended(stage.command(&["proxy", mode, "--manifests", "/nowhere/at/all"])).one_line(1);
        assert_eq!(
            line,
            "error: cannot read manifests from /nowhere/at/all: No such file or directory (os error 2)"
        );
    }
}

/// In a second kernel, for this one may have or get the module.
#[test]
fn without_ipvs_it_says_what_is_missing() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/two-services");
    let boot = Boot::new(BINARY, Duration::from_mins(2)).modules(Modules::None);
    let boot = boot.arguments(["proxy", "--once", "--proxy-mode", "ipvs", "--manifests", example]);
    let ended = boot.run().expect("it boots");
    assert_eq!((ended.status, &*ended.output), (1, "error: the kernel has no IPVS; load the module ip_vs\n"));
}

#[test]
fn without_root_it_says_that_it_may_not() {
    let stage = Stage::with_example();
    let line = stage.proxy_of_nobody(&["--once"]).one_line(1);
    assert!(line.starts_with("error: iptables: permission denied; writing rules needs root"), "{line}");
    assert_eq!(stage.rules(), "iptables\n\nip6tables\n\n");
}

#[test]
fn without_iptables_on_path_it_names_what_is_missing() {
    let stage = Stage::with_example();
    let empty = stage.directory().join("empty");
    std::fs::create_dir(&empty).expect("a directory");
    let with_empty_path = |mut command: Command| {
        command.env("PATH", &empty);
        stage.ended(command).one_line(1)
    };
    let expected = "error: cannot find iptables on PATH; install the package iptables";
    assert_eq!(with_empty_path(stage.proxy_command(&["--once"])), expected);
    assert_eq!(with_empty_path(stage.proxy_command(&[])), expected);
    assert_eq!(with_empty_path(stage.command(&["proxy", "--cleanup"])), expected);
}

#[test]
fn a_flag_with_a_wrong_value_is_named() {
    let stage = Stage::with_example();
    for (flag, value, expected) in [
        ("--proxy-mode", "nonsense", "Mode.ProxyMode: Invalid value: \"nonsense\": must be iptables"),
        (
            "--cluster-cidr",
            "10.0.0.0/99",
            "DetectLocalConfiguration.ClusterCIDRs[0]: Invalid value: \"10.0.0.0/99\": must be a valid CIDR",
        ),
        ("--detect-local-mode", "Guess", "DetectLocalMode: Unsupported value: \"Guess\": supported values:"),
        ("--nodeport-addresses", "any", "NodePortAddresses[0]: Invalid value: \"any\": must be a valid CIDR"),
        (
            "--iptables-masquerade-bit",
            "32",
            "KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: 32: must be within the range [0, 31]",
        ),
        ("--metrics-port", "0", "MetricsBindAddress: Invalid value: \"\": must be IP:port"),
        ("--iptables-sync-period", "0s", "SyncPeriod: Invalid value: \"0s\": must be greater than 0"),
        ("--hostname-override", " ", "HostnameOverride: Invalid value: \" \": must not be blank"),
        ("--logging-format", "xml", "logging.format: Invalid value: \"xml\": Unsupported log format"),
    ] {
        let line = stage.proxy(&["--once", flag, value]).one_line(1);
        let prefix = if expected.starts_with("logging") { "" } else { "KubeProxyConfiguration." };
        assert!(line.starts_with(&format!("error: failed validate: {prefix}{expected}")), "{line}");
    }
    assert_eq!(stage.rules(), "iptables\n\nip6tables\n\n");
}

#[test]
fn wrong_usage_is_another_exit_code() {
    let stage = Stage::with_example();
    for (arguments, expected) in [
        (vec!["proxy", "--nonsense"], "unexpected argument '--nonsense' found"),
        (vec!["proxy", "--manifests", "x", "--once", "--dry-run"], "cannot be used with"),
        (vec!["proxy", "--manifests", "x", "positional"], "unexpected argument 'positional' found"),
        (vec!["proxy", "--manifests", "x", "--iptables-masquerade-bit", "many"], "invalid value 'many'"),
        (vec!["nonsense"], "unrecognized subcommand 'nonsense'"),
        (vec!["completions", "csh"], "invalid value 'csh'"),
    ] {
        let ended = stage.ended(stage.command(&arguments));
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {ended:#?}");
        assert!(ended.stderr.contains(expected), "{arguments:?}: {ended:#?}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn without_a_source_there_is_no_way_to_the_api_server() {
    let stage = Stage::new();
    for arguments in [vec!["proxy"], vec!["proxy", "--once"], vec!["proxy", "--dry-run"]] {
        let mut command = stage.command(&arguments);
        command.env_remove("KUBERNETES_SERVICE_HOST");
        let line = stage.ended(command).one_line(1);
        assert!(
            line.starts_with("error: no way to the API server: neither --kubeconfig nor --master"),
            "{line}"
        );
    }
}

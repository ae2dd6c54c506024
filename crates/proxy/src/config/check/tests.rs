use proxy_modes::LocalFallback;
use relay::Balancer;

use super::*;

fn written(text: &str) -> KubeProxyConfiguration {
    KubeProxyConfiguration::parse(text).expect("fields")
}

fn checked(text: &str) -> Result<Configuration, Invalid> {
    written(text).checked(&OwnSettings::default(), || ProxyMode::Nftables)
}

fn configuration(text: &str) -> Configuration {
    checked(text).expect("a valid configuration")
}

fn settings(text: &str) -> Settings {
    configuration(text).settings
}

/// All that is wrong with a configuration.
fn complaints(text: &str) -> Vec<String> {
    let invalid = checked(text).expect_err("an invalid configuration");
    invalid.0.iter().map(ToString::to_string).collect()
}

fn ranges(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|range| range.parse().expect("a range")).collect()
}

#[test]
fn the_defaults_are_upstreams() {
    let found = configuration("");
    assert_eq!(
        found.settings,
        Settings {
            masquerade_all: MasqueradeAll::No,
            mark: Mark(0x4000),
            local_pods: LocalPodsSetting::Ranges(Vec::new()),
            node_ports: NodePortSetting::Ranges(Vec::new()),
            localhost_node_ports: LocalhostNodePorts::Serve,
        }
    );
    assert_eq!(found.mode, ProxyMode::Iptables);
    assert_eq!(found.bind_address, IpAddr::from([0, 0, 0, 0]));
    assert_eq!(found.healthz, Some(SocketAddr::from(([0, 0, 0, 0], 10256))));
    assert_eq!(found.metrics, SocketAddr::from(([127, 0, 0, 1], 10249)));
    assert_eq!((found.bind_failure, found.profiling), (BindFailure::Retry, Profiling::Off));
    assert_eq!(found.oom_score_adj, -999);
    assert_eq!((found.kubeconfig, found.ports), (None, PortRange::Any));
    assert_eq!(found.ipvs, IpvsSettings::default());
    let hours = |hours| Some(Duration::from_hours(hours));
    let conntrack = ConntrackSettings {
        max_per_core: Some(32768),
        min: 131_072,
        tcp_established: hours(24),
        tcp_close_wait: hours(1),
        udp: None,
        udp_stream: None,
        tcp_be_liberal: TcpBeLiberal::AsItIs,
    };
    assert_eq!(found.conntrack, conntrack);
    assert_eq!((&*found.written.mode, &*found.written.detect_local_mode), ("iptables", "ClusterCIDR"));
}

#[test]
fn only_the_block_of_the_mode_says_when_to_write() {
    let text = "iptables: {syncPeriod: 1m, minSyncPeriod: 1s}, ipvs: {syncPeriod: 2m}, \
                nftables: {syncPeriod: 3m, minSyncPeriod: 3s}";
    for (mode, period, pace) in [
        ("iptables", 60, 1000),
        ("userspace", 60, 1000),
        ("ipvs", 120, 0),
        ("nftables", 180, 3000),
        ("auto", 180, 3000),
    ] {
        let sync = configuration(&format!("{{mode: {mode}, {text}}}")).sync;
        let expected = SyncPeriods { period: Duration::from_secs(period), pace: Duration::from_millis(pace) };
        assert_eq!(sync, expected, "{mode}");
    }
}

#[test]
fn a_mode_has_its_own_pace_where_nothing_is_said() {
    for (mode, pace) in [("''", 100), ("userspace", 100), ("ipvs", 0), ("nftables", 0)] {
        let text = format!("{{mode: {mode}, iptables: {{minSyncPeriod: 0s}}}}");
        assert_eq!(configuration(&text).sync.pace, Duration::from_millis(pace), "{mode}");
    }
}

#[test]
fn our_own_flags_reach_the_ipvs_mode() {
    let own = OwnSettings {
        drain_timeout: Duration::from_secs(7),
        local_fallback: LocalFallback::Cluster,
        balancer: Balancer::LeastConnections,
        ..OwnSettings::default()
    };
    let found = written("mode: ipvs").checked(&own, || ProxyMode::Iptables).expect("it is valid");
    assert_eq!(found.ipvs.drain_limit, Duration::from_secs(7));
    assert_eq!((found.ipvs.local_fallback, found.own), (LocalFallback::Cluster, own));
}

#[test]
fn zero_leaves_the_connection_tracker_as_it_is() {
    let zero = "conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s, udpTimeout: 90s, \
                tcpBeLiberal: true}";
    let found = configuration(zero).conntrack;
    assert_eq!((found.max_per_core, found.tcp_established, found.tcp_close_wait), (None, None, None));
    assert_eq!((found.udp, found.tcp_be_liberal), (Some(Duration::from_secs(90)), TcpBeLiberal::Yes));
}

#[test]
fn gates_are_taken_by_name_and_unknown_ones_are_known_as_such() {
    let found = configuration("featureGates: {NFTablesProxyMode: false, Nonsense: true}");
    assert_eq!(found.feature_gates.len(), 2);
    assert_eq!(found.unknown_gates, ["Nonsense"]);
}

#[test]
fn nftables_has_its_own_block_and_serves_node_ports_on_the_nodes_own_address() {
    let expected = Settings {
        masquerade_all: MasqueradeAll::Yes,
        mark: Mark(0x8000),
        local_pods: LocalPodsSetting::Ranges(Vec::new()),
        node_ports: NodePortSetting::Primary(Vec::new()),
        localhost_node_ports: LocalhostNodePorts::Ignore,
    };
    assert_eq!(settings("{mode: nftables, nftables: {masqueradeBit: 15, masqueradeAll: true}}"), expected);
    let ranges = settings("{mode: nftables, nodePortAddresses: [10.0.0.0/8]}").node_ports;
    assert_eq!(ranges, NodePortSetting::Ranges(vec!["10.0.0.0/8".parse().expect("a range")]));
}

#[test]
fn nftables_relays_node_ports_on_localhost_where_it_is_named_and_the_gate_is_not_off() {
    const OFF: &str = "featureGates: {KubeProxyNFTablesLocalhostNodePorts: false}";
    const ON: &str = "featureGates: {KubeProxyNFTablesLocalhostNodePorts: true}";
    let (relay, serve, ignore) =
        (LocalhostNodePorts::Relay, LocalhostNodePorts::Serve, LocalhostNodePorts::Ignore);
    for (mode, addresses, more, expected) in [
        ("nftables", "[primary, localhost]", "", relay),
        ("nftables", "[primary, localhost]", ON, relay),
        ("nftables", "[primary, localhost]", OFF, ignore),
        ("nftables", "[10.0.0.0/8, 127.0.0.1/32]", "", relay),
        ("nftables", "['::1/128']", "", relay),
        ("nftables", "[all]", ON, ignore),
        ("nftables", "[]", ON, ignore),
        ("nftables", "[localhost]", "iptables: {localhostNodePorts: false}", relay),
        ("iptables", "[localhost]", OFF, serve),
        ("userspace", "[localhost]", "", serve),
        ("iptables", "[localhost]", "iptables: {localhostNodePorts: false}", ignore),
        ("ipvs", "[localhost]", ON, ignore),
    ] {
        let text = format!("mode: {mode}\nnodePortAddresses: {addresses}\n{more}");
        assert_eq!(settings(&text).localhost_node_ports, expected, "{text}");
    }
}

#[test]
fn ipvs_takes_mark_and_masquerade_from_the_iptables_block() {
    let settings = settings("{mode: ipvs, iptables: {masqueradeBit: 15, masqueradeAll: true}}");
    assert_eq!((settings.mark, settings.masquerade_all), (Mark(0x8000), MasqueradeAll::Yes));
    assert_eq!(settings.localhost_node_ports, LocalhostNodePorts::Ignore);
}

#[test]
fn the_ipvs_block_is_read() {
    let given = configuration(
        "{mode: ipvs, ipvs: {scheduler: mh, strictARP: true, tcpTimeout: 0s, udpTimeout: 90s, \
         excludeCIDRs: [10.0.0.1/8]}}",
    );
    let ipvs = given.ipvs;
    assert_eq!((ipvs.scheduler.as_str(), ipvs.strict_arp), ("mh", StrictArp::Yes));
    assert_eq!((ipvs.timeouts.tcp, ipvs.timeouts.udp), (None, Some(Duration::from_secs(90))));
    assert_eq!(ipvs.excluded, ranges("10.0.0.0/8"));
}

#[test]
fn the_iptables_block_becomes_settings() {
    let settings = settings("iptables: {masqueradeBit: 31, masqueradeAll: true, localhostNodePorts: false}");
    assert_eq!(settings.mark, Mark(0x8000_0000));
    assert_eq!(settings.masquerade_all, MasqueradeAll::Yes);
    assert_eq!(settings.localhost_node_ports, LocalhostNodePorts::Ignore);
}

#[test]
fn local_pods_are_told_as_the_mode_says() {
    for (text, expected) in [
        ("clusterCIDR: 10.0.0.0/8", LocalPodsSetting::Ranges(ranges("10.0.0.0/8"))),
        (
            "clusterCIDR: ' 10.1.2.3/8 , fd00::1/48 '",
            LocalPodsSetting::Ranges(ranges("10.0.0.0/8 fd00::/48")),
        ),
        (
            "detectLocalMode: ClusterCIDR\nclusterCIDR: fd00::/48",
            LocalPodsSetting::Ranges(ranges("fd00::/48")),
        ),
        ("detectLocalMode: ClusterCIDR", LocalPodsSetting::Ranges(Vec::new())),
        ("detectLocalMode: NodeCIDR\nclusterCIDR: 10.0.0.0/8", LocalPodsSetting::NodeRanges),
        (
            "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: br0}",
            LocalPodsSetting::Interface("br0".into()),
        ),
        (
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}",
            LocalPodsSetting::InterfacePrefix("veth".into()),
        ),
    ] {
        assert_eq!(settings(text).local_pods, expected, "{text}");
    }
}

#[test]
fn node_port_addresses_are_ranges_and_keywords() {
    for (text, expected) in [
        ("[primary]", NodePortSetting::Primary(Vec::new())),
        ("[primary, localhost]", NodePortSetting::Primary(ranges("127.0.0.0/8 ::1/128"))),
        ("[10.0.0.0/8, primary]", NodePortSetting::Primary(ranges("10.0.0.0/8"))),
        ("[all]", NodePortSetting::Ranges(ranges("0.0.0.0/0 ::/0"))),
        ("[]", NodePortSetting::Ranges(Vec::new())),
        ("[10.0.0.0/8, 'fd00::/8']", NodePortSetting::Ranges(ranges("10.0.0.0/8 fd00::/8"))),
    ] {
        assert_eq!(settings(&format!("nodePortAddresses: {text}")).node_ports, expected, "{text}");
    }
}

fn node_name(hostname_override: &str) -> Arc<str> {
    configuration(&format!("hostnameOverride: {hostname_override:?}")).node_name
}

#[test]
fn the_override_names_the_node_trimmed_and_in_lower_case() {
    assert_eq!(&*node_name("node-1"), "node-1");
    assert_eq!(&*node_name(" Node-1.Example \n"), "node-1.example");
}

#[test]
fn without_an_override_the_node_has_the_hosts_name_in_lower_case() {
    let host = rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase();
    assert_eq!(*node_name(""), *host);
}

/// Each row of upstream's table, in upstream's own words but for the modes that we have more of.
const WRONG_FIELDS: &[(&str, &str)] = &[
    (
        "bindAddress: foo",
        r#"BindAddress: Invalid value: "foo": not a valid textual representation of an IP address"#,
    ),
    (
        "iptables: {masqueradeBit: 32}",
        "KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: 32: must be within the range [0, 31]",
    ),
    (
        "iptables: {masqueradeBit: -1}",
        "KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: -1: must be within the range [0, 31]",
    ),
    (
        "{mode: nftables, nftables: {masqueradeBit: 32}}",
        "KubeProxyNFTablesConfiguration.MasqueradeBit: Invalid value: 32: must be within the range [0, 31]",
    ),
    (
        "mode: IPTables",
        r#"Mode.ProxyMode: Invalid value: "IPTables": must be iptables, ipvs, nftables, userspace, auto or blank (blank means iptables)"#,
    ),
    (
        "clientConnection: {burst: -1}",
        "ClientConnection.Burst: Invalid value: -1: must be greater than or equal to 0",
    ),
    ("configSyncPeriod: -1s", r#"ConfigSyncPeriod: Invalid value: "-1s": must be greater than 0"#),
    (
        "iptables: {syncPeriod: -1s, minSyncPeriod: -1s}",
        r#"SyncPeriod: Invalid value: "-1s": must be greater than 0"#,
    ),
    (
        "iptables: {minSyncPeriod: -1s}",
        r#"MinSyncPeriod: Invalid value: "-1s": must be greater than or equal to 0"#,
    ),
    (
        "iptables: {minSyncPeriod: 31s}",
        r#"SyncPeriod: Invalid value: "31s": must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod"#,
    ),
    (
        "{mode: ipvs, ipvs: {minSyncPeriod: 31s}}",
        r#"SyncPeriod: Invalid value: "31s": must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod"#,
    ),
    (
        "oomScoreAdj: 1001",
        "KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: 1001: must be within the range [-1000, 1000]",
    ),
    (
        "oomScoreAdj: -1001",
        "KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: -1001: must be within the range [-1000, 1000]",
    ),
    (
        "conntrack: {maxPerCore: -1}",
        "KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.MaxPerCore: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        "conntrack: {min: -1}",
        "KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.Min: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        "conntrack: {tcpEstablishedTimeout: -1s}",
        r#"KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.TCPEstablishedTimeout: Invalid value: "-1s": must be greater than or equal to 0"#,
    ),
    (
        "conntrack: {tcpCloseWaitTimeout: -1s}",
        r#"KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.TCPCloseWaitTimeout: Invalid value: "-1s": must be greater than or equal to 0"#,
    ),
    (
        "conntrack: {udpTimeout: -1s}",
        r#"KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.UDPTimeout: Invalid value: "-1s": must be greater than or equal to 0"#,
    ),
    (
        "conntrack: {udpStreamTimeout: -1s}",
        r#"KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.UDPStreamTimeout: Invalid value: "-1s": must be greater than or equal to 0"#,
    ),
    ("healthzBindAddress: foo", r#"HealthzBindAddress: Invalid value: "foo": must be IP:port"#),
    ("healthzBindAddress: 'foo:1'", r#"HealthzBindAddress: Invalid value: "foo": must be a valid IP"#),
    ("healthzBindAddress: '1.2.3.4:0'", r#"HealthzBindAddress: Invalid value: "0": must be a valid port"#),
    (
        "healthzBindAddress: '[::1]:65536'",
        r#"HealthzBindAddress: Invalid value: "65536": must be a valid port"#,
    ),
    ("metricsBindAddress: '1.2.3.4:x'", r#"MetricsBindAddress: Invalid value: "x": must be a valid port"#),
    ("metricsBindAddress: ':10249'", r#"MetricsBindAddress: Invalid value: "": must be a valid IP"#),
    ("metricsBindAddress: '[::1]'", r#"MetricsBindAddress: Invalid value: "[::1]": must be IP:port"#),
    ("nodePortAddresses: [foo]", r#"NodePortAddresses[0]: Invalid value: "foo": must be a valid CIDR"#),
    ("nodePortAddresses: ['']", r#"NodePortAddresses[0]: Invalid value: "": must be a valid CIDR"#),
    (
        "showHiddenMetricsForVersion: '1.30'",
        r#"ShowHiddenMetricsForVersion: Invalid value: "1.30": must be omitted or have the value '1.35'; only the previous minor version is allowed"#,
    ),
    (
        "detectLocalMode: Guess",
        r#"DetectLocalMode: Unsupported value: "Guess": supported values: "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", """#,
    ),
    (
        "detectLocalMode: BridgeInterface",
        r#"DetectLocalConfiguration.InterfaceName: Invalid value: "": must not be empty"#,
    ),
    (
        "detectLocalMode: InterfaceNamePrefix",
        r#"DetectLocalConfiguration.InterfacePrefix: Invalid value: "": must not be empty"#,
    ),
    (
        "clusterCIDR: foo",
        r#"DetectLocalConfiguration.ClusterCIDRs[0]: Invalid value: "foo": must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"#,
    ),
    (
        "clusterCIDR: 'fd00::/48,10.0.0.0'",
        r#"DetectLocalConfiguration.ClusterCIDRs[1]: Invalid value: "10.0.0.0": must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"#,
    ),
    (
        "clusterCIDR: '10.0.0.0/8,11.0.0.0/8'",
        r#"DetectLocalConfiguration.ClusterCIDRs: Invalid value: ["10.0.0.0/8", "11.0.0.0/8"]: must be either a single CIDR or a dual-stack pair of CIDRs (e.g. 10.100.0.0/16, fde4:8dba:82e1::/48)"#,
    ),
    (
        "{mode: ipvs, ipvs: {tcpTimeout: -1s}}",
        r#"KubeProxyIPVSConfiguration.TCPTimeout: Invalid value: "-1s": must be greater than or equal to 0"#,
    ),
    (
        "{mode: ipvs, ipvs: {tcpFinTimeout: -1s}}",
        r#"KubeProxyIPVSConfiguration.TCPFinTimeout: Invalid value: "-1s": must be greater than or equal to 0"#,
    ),
    (
        "{mode: ipvs, ipvs: {udpTimeout: -1s}}",
        r#"KubeProxyIPVSConfiguration.UDPTimeout: Invalid value: "-1s": must be greater than or equal to 0"#,
    ),
    (
        "{mode: ipvs, ipvs: {excludeCIDRs: [10.0.0.0/8, 10.0.0.0/33]}}",
        r#"KubeProxyIPVSConfiguration.ExcludeCidrs[1]: Invalid value: "10.0.0.0/33": must be a valid CIDR"#,
    ),
    (
        "{mode: ipvs, ipvs: {scheduler: a-very-long-name}}",
        r#"KubeProxyIPVSConfiguration.Scheduler: Invalid value: "a-very-long-name": must be the name of a scheduler, such as rr, lc, sh or mh"#,
    ),
    (
        "{mode: userspace, portRange: many}",
        r#"PortRange: Invalid value: "many": must be a range of ports like 40000-41000, 40000+1000 or 40000"#,
    ),
    (
        "hostnameOverride: ' '",
        r#"HostnameOverride: Invalid value: " ": must not be blank; a host without a name needs --hostname-override"#,
    ),
];

#[test]
fn each_wrong_field_is_told_by_its_path() {
    for (text, expected) in WRONG_FIELDS {
        assert_eq!(complaints(text)[0], format!("KubeProxyConfiguration.{expected}"), "{text}");
    }
}

#[test]
fn the_logging_block_has_rules_of_its_own() {
    for (text, expected) in [
        ("format: yaml", r#"logging.format: Invalid value: "yaml": Unsupported log format"#),
        ("flushFrequency: -1s", r#"logging.flushFrequency: Invalid value: "-1s": Must be greater than zero"#),
        (
            "vmodule: [{filePattern: '', verbosity: 1}]",
            "logging.vmodule[0]: Required value: File pattern must not be empty",
        ),
        (
            "vmodule: [{filePattern: a=b, verbosity: 1}]",
            r#"logging.vmodule[0]: Invalid value: "a=b": File pattern must not contain equal sign or comma"#,
        ),
        (
            "format: json, vmodule: [{filePattern: a, verbosity: 1}]",
            "logging.vmodule: Forbidden: Only supported for text log format",
        ),
        (
            "options: {json: {infoBufferSize: 4K}}",
            r#"logging.options.json.infoBufferSize: Invalid value: "4K": must be a quantity, such as 4Ki"#,
        ),
    ] {
        assert_eq!(complaints(&format!("logging: {{{text}}}")), [expected], "{text}");
    }
    for sound in [
        "format: json",
        "vmodule: [{filePattern: a, verbosity: 1}]",
        "options: {text: {infoBufferSize: 4Ki}}",
    ] {
        configuration(&format!("logging: {{{sound}}}"));
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = "{mode: foo, bindAddress: foo, oomScoreAdj: 2000, nodePortAddresses: [primary, foo], \
                conntrack: {min: -1, maxPerCore: -1}, logging: {format: yaml}}";
    let all = complaints(text);
    assert_eq!(all.len(), 7, "{all:#?}");
    let invalid = checked(text).expect_err("it is wrong");
    assert_eq!(invalid.lines().count(), 7);
    assert!(invalid.lines().all(|line| line.starts_with("failed validate: ") && !line.contains('\n')));
}

/// Like upstream, which leaves the blocks of the other modes and portRange unread.
#[test]
fn what_the_mode_does_not_use_may_be_wrong() {
    for text in [
        "ipvs: {excludeCIDRs: [foo], scheduler: a-very-long-name, tcpTimeout: -1s}",
        "nftables: {masqueradeBit: 77, syncPeriod: -1s}",
        "portRange: foo",
        "{detectLocalMode: NodeCIDR, clusterCIDR: foo}",
    ] {
        configuration(text);
    }
}

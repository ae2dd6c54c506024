use super::*;

fn parsed(text: &str) -> Config {
    Config::parse(text).expect("a configuration")
}

fn settings(text: &str) -> Settings {
    parsed(text).settings().expect("a valid configuration")
}

/// What is wrong with a configuration.
fn complaint(text: &str) -> String {
    parsed(text).settings().expect_err("an invalid configuration").to_string()
}

fn ranges(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|range| range.parse().expect("a range")).collect()
}

#[test]
fn the_defaults_are_upstreams() {
    let defaults = Settings {
        masquerade_all: MasqueradeAll::No,
        mark: Mark(0x4000),
        local_pods: LocalPodsSetting::Ranges(Vec::new()),
        node_ports: NodePortSetting::Ranges(Vec::new()),
        localhost_node_ports: LocalhostNodePorts::Serve,
    };
    assert_eq!(settings("{}"), defaults);
    assert_eq!(Config::default().settings(), Ok(defaults));
    assert_eq!(parsed("{}"), Config::default());
}

#[test]
fn every_field_is_read_by_upstreams_name() {
    let config = parsed(
        "clientConnection: {kubeconfig: /etc/kubeconfig}
hostnameOverride: Node-1
mode: iptables
clusterCIDR: 10.0.0.0/8,fd00::/48
detectLocalMode: BridgeInterface
detectLocal: {bridgeInterface: br0, interfaceNamePrefix: veth}
nodePortAddresses: [primary]
iptables: {masqueradeBit: 15, masqueradeAll: true, localhostNodePorts: false}
nftables: {masqueradeBit: 16, masqueradeAll: true}
portRange: 40000-41000
ipvs: {scheduler: mh, excludeCIDRs: [10.9.0.0/16], strictARP: true, tcpTimeout: 1h, tcpFinTimeout: 2m, udpTimeout: 3s}",
    );
    let expected = Config {
        client_connection: ClientConnection { kubeconfig: "/etc/kubeconfig".into() },
        hostname_override: "Node-1".into(),
        mode: "iptables".into(),
        cluster_cidr: "10.0.0.0/8,fd00::/48".into(),
        detect_local_mode: "BridgeInterface".into(),
        detect_local: DetectLocal { bridge_interface: "br0".into(), interface_name_prefix: "veth".into() },
        node_port_addresses: vec!["primary".into()],
        iptables: IptablesConfig { masquerade_bit: 15, masquerade_all: true, localhost_node_ports: false },
        nftables: NftablesConfig { masquerade_bit: 16, masquerade_all: true },
        port_range: "40000-41000".into(),
        userspace: UserspaceConfig::default(),
        ipvs: IpvsConfig {
            scheduler: "mh".into(),
            exclude_cidrs: vec!["10.9.0.0/16".into()],
            strict_arp: true,
            tcp_timeout: "1h".into(),
            tcp_fin_timeout: "2m".into(),
            udp_timeout: "3s".into(),
            ..IpvsConfig::default()
        },
    };
    assert_eq!(config, expected);
}

#[test]
fn nftables_has_its_own_block_and_serves_node_ports_on_the_nodes_own_address() {
    let expected = Settings {
        masquerade_all: MasqueradeAll::Yes,
        mark: Mark(0x8000),
        local_pods: LocalPodsSetting::Ranges(Vec::new()),
        node_ports: NodePortSetting::Primary,
        localhost_node_ports: LocalhostNodePorts::Ignore,
    };
    assert_eq!(settings("{mode: nftables, nftables: {masqueradeBit: 15, masqueradeAll: true}}"), expected);
    let ranges = settings("{mode: nftables, nodePortAddresses: [10.0.0.0/8]}").node_ports;
    assert_eq!(ranges, NodePortSetting::Ranges(vec!["10.0.0.0/8".parse().expect("a range")]));
    assert!(complaint("{mode: nftables, nftables: {masqueradeBit: 32}}").contains("KubeProxyNFTables"));
}

#[test]
fn ipvs_takes_mark_and_masquerade_from_the_iptables_block() {
    let settings = settings("{mode: ipvs, iptables: {masqueradeBit: 15, masqueradeAll: true}}");
    assert_eq!((settings.mark, settings.masquerade_all), (Mark(0x8000), MasqueradeAll::Yes));
    assert_eq!(settings.localhost_node_ports, LocalhostNodePorts::Ignore);
}

#[test]
fn the_ipvs_block_is_checked() {
    let settings = |text: &str| parsed(&format!("ipvs: {{{text}}}")).ipvs_settings();
    let defaults = settings("").expect("the defaults are valid");
    assert_eq!(defaults.scheduler.as_str(), "rr");
    assert_eq!(defaults.drain_limit, Duration::from_mins(15));
    let given = settings("tcpTimeout: 0s, udpTimeout: 90s, excludeCIDRs: [10.0.0.1/8]").expect("valid");
    assert_eq!((given.timeouts.tcp, given.timeouts.udp), (None, Some(Duration::from_secs(90))));
    assert_eq!(given.excluded, ranges("10.0.0.0/8"));
    for (text, complaint) in [
        (
            "excludeCIDRs: [10.0.0.0]",
            "KubeProxyIPVSConfiguration.ExcludeCidrs: invalid value \"10.0.0.0\": must be a valid CIDR",
        ),
        (
            "tcpTimeout: -1s",
            "KubeProxyIPVSConfiguration.TCPTimeout: invalid value \"-1s\": must be greater than or equal to 0",
        ),
        (
            "udpTimeout: soon",
            "KubeProxyIPVSConfiguration.UDPTimeout: invalid value \"soon\": must be a duration, such as 30s or 15m",
        ),
        (
            "scheduler: a-very-long-name",
            "KubeProxyIPVSConfiguration.Scheduler: invalid value \"a-very-long-name\": must be the name of a \
             scheduler, such as rr, lc, sh or mh",
        ),
    ] {
        assert_eq!(settings(text).expect_err("refused").to_string(), complaint);
    }
}

#[test]
fn fields_that_nothing_depends_on_yet_are_passed_over() {
    let text =
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nconntrack: {min: 1}";
    assert_eq!(parsed(text), Config::default());
}

#[test]
fn what_is_no_configuration_is_told() {
    for text in ["mode: [", "iptables: {masqueradeBit: many}", "nodePortAddresses: 10.0.0.0/8"] {
        let error = Config::parse(text).expect_err("not a configuration");
        assert!(error.to_string().starts_with("KubeProxyConfiguration: "), "{error}");
    }
}

#[test]
fn the_iptables_block_becomes_settings() {
    let settings = settings("iptables: {masqueradeBit: 31, masqueradeAll: true, localhostNodePorts: false}");
    assert_eq!(settings.mark, Mark(0x8000_0000));
    assert_eq!(settings.masquerade_all, MasqueradeAll::Yes);
    assert_eq!(settings.localhost_node_ports, LocalhostNodePorts::Ignore);
}

#[test]
fn the_mark_is_any_of_32_bits() {
    assert_eq!(settings("iptables: {masqueradeBit: 0}").mark, Mark(1));
    for bit in ["-1", "32", "4294967296"] {
        assert_eq!(
            complaint(&format!("iptables: {{masqueradeBit: {bit}}}")),
            format!(
                "KubeProxyIPTablesConfiguration.MasqueradeBit: invalid value \"{bit}\": must be within the \
                 range [0, 31]"
            )
        );
    }
}

#[test]
fn a_mode_that_is_not_there_is_refused() {
    for mode in ["winkernel", "IPTables", "nonsense"] {
        let complaint = complaint(&format!("mode: {mode}"));
        assert!(complaint.starts_with(&format!("Mode.ProxyMode: invalid value \"{mode}\": ")), "{complaint}");
    }
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
fn local_pods_that_cannot_be_told_are_refused() {
    for (text, expected) in [
        (
            "clusterCIDR: 10.0.0.0",
            "DetectLocalConfiguration.ClusterCIDRs: invalid value \"10.0.0.0\": must be a valid CIDR",
        ),
        (
            "clusterCIDR: 10.0.0.0/8,nonsense",
            "DetectLocalConfiguration.ClusterCIDRs: invalid value \"nonsense\": must be a valid CIDR",
        ),
        (
            "clusterCIDR: 10.0.0.0/8,11.0.0.0/8",
            "DetectLocalConfiguration.ClusterCIDRs: invalid value \"10.0.0.0/8,11.0.0.0/8\": two CIDRs must be \
             of different IP families",
        ),
        (
            "clusterCIDR: 10.0.0.0/8,fd00::/48,11.0.0.0/8",
            "DetectLocalConfiguration.ClusterCIDRs: invalid value \"10.0.0.0/8,fd00::/48,11.0.0.0/8\": only one \
             CIDR, or one of each IP family",
        ),
        (
            "detectLocalMode: Guess",
            "DetectLocalMode: invalid value \"Guess\": must be ClusterCIDR, NodeCIDR, BridgeInterface, \
             InterfaceNamePrefix or blank",
        ),
        (
            "detectLocalMode: BridgeInterface",
            "DetectLocalConfiguration.InterfaceName: invalid value \"\": must not be empty",
        ),
        (
            "detectLocalMode: InterfaceNamePrefix",
            "DetectLocalConfiguration.InterfacePrefix: invalid value \"\": must not be empty",
        ),
    ] {
        assert_eq!(complaint(text), expected, "{text}");
    }
}

#[test]
fn node_port_addresses_are_ranges_or_the_primary_ones() {
    for (text, expected) in [
        ("[primary]", NodePortSetting::Primary),
        ("[]", NodePortSetting::Ranges(Vec::new())),
        ("[10.0.0.0/8, 'fd00::/8']", NodePortSetting::Ranges(ranges("10.0.0.0/8 fd00::/8"))),
    ] {
        assert_eq!(settings(&format!("nodePortAddresses: {text}")).node_ports, expected, "{text}");
    }
    for (text, value, reason) in [
        ("[10.0.0.1]", "10.0.0.1", "must be a valid CIDR"),
        ("[10.0.0.0/8, nonsense]", "nonsense", "must be a valid CIDR"),
        ("[primary, 10.0.0.0/8]", "primary", "can't use both 'primary' and CIDRs"),
        ("[10.0.0.0/8, primary]", "primary", "can't use both 'primary' and CIDRs"),
    ] {
        assert_eq!(
            complaint(&format!("nodePortAddresses: {text}")),
            format!("NodePortAddresses: invalid value {value:?}: {reason}")
        );
    }
}

fn node_name(hostname_override: &str) -> Arc<str> {
    let config = Config { hostname_override: hostname_override.into(), ..Config::default() };
    config.node_name().expect("a name")
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
    assert_eq!(*node_name("  "), *host);
}

/// As kubeadm writes it: most fields say that they say nothing.
#[test]
fn a_file_of_kubeadm_is_read() {
    let config = Config::parse_file(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
clientConnection: {acceptContentTypes: \"\", burst: 0, kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
conntrack: {maxPerCore: null, min: null}
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, syncPeriod: 0s}
kind: KubeProxyConfiguration
nftables: {masqueradeAll: false, masqueradeBit: null}
nodePortAddresses: null
mode: \"\"
",
    );
    let expected = Config {
        client_connection: ClientConnection { kubeconfig: "/var/lib/kube-proxy/kubeconfig.conf".to_owned() },
        cluster_cidr: "10.244.0.0/16".to_owned(),
        ..Config::default()
    };
    assert_eq!(config, Ok(expected));
}

#[test]
fn a_file_must_tell_what_it_is_and_where_it_is_wrong() {
    let version = "apiVersion: kubeproxy.config.k8s.io/v1alpha1";
    for (text, expected) in [
        (String::new(), "apiVersion is \"\", and not \"kubeproxy.config.k8s.io/v1alpha1\""),
        (format!("{version}\nkind: Pod"), "kind is \"Pod\", and not \"KubeProxyConfiguration\""),
        (
            format!("{version}\nkind: KubeProxyConfiguration\niptables: {{masqueradeBit: many}}"),
            "iptables.masqueradeBit: invalid type: string \"many\", expected i64",
        ),
    ] {
        let error = Config::parse_file(&text).expect_err("it is wrong").to_string();
        assert_eq!(error, format!("KubeProxyConfiguration: {expected}"));
    }
}

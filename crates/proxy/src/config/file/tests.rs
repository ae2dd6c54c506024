use super::super::{GoDuration, VerbosityOfFiles};
use super::*;

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn read(fields: &str) -> (KubeProxyConfiguration, Vec<PassedOver>) {
    let text = match fields.strip_prefix('{') {
        Some(rest) => format!("{{{},{rest}", HEAD.trim_end().replace('\n', ", ")),
        None => format!("{HEAD}{fields}"),
    };
    KubeProxyConfiguration::parse_file(&text).expect("a configuration")
}

/// What is read without a word about it.
fn quietly(fields: &str) -> KubeProxyConfiguration {
    let (configuration, passed_over) = read(fields);
    assert_eq!(passed_over, []);
    configuration
}

/// Every field, with another value than the default.
const EVERY_FIELD: &str = "
bindAddress: 10.0.0.1
bindAddressHardFail: true
clientConnection: {acceptContentTypes: a, burst: 11, contentType: b, kubeconfig: c, qps: 6}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 16m
conntrack:
  maxPerCore: 1
  min: 2
  tcpBeLiberal: true
  tcpCloseWaitTimeout: 3s
  tcpEstablishedTimeout: 4s
  udpStreamTimeout: 5s
  udpTimeout: 6s
detectLocal: {bridgeInterface: br0, interfaceNamePrefix: veth}
detectLocalMode: NodeCIDR
enableProfiling: true
featureGates: {AllAlpha: true}
healthzBindAddress: 10.0.0.1:1
hostnameOverride: node-1
iptables: {localhostNodePorts: false, masqueradeAll: true, masqueradeBit: 15, minSyncPeriod: 7s, syncPeriod: 8s}
ipvs:
  excludeCIDRs: [10.9.0.0/16]
  minSyncPeriod: 9s
  scheduler: mh
  strictARP: true
  syncPeriod: 10s
  tcpFinTimeout: 11s
  tcpTimeout: 12s
  udpTimeout: 13s
logging:
  flushFrequency: 14s
  format: json
  options:
    json: {infoBufferSize: 4Ki, splitStream: true}
    text: {infoBufferSize: 8Ki, splitStream: true}
  verbosity: 3
  vmodule: [{filePattern: a, verbosity: 5}]
metricsBindAddress: 10.0.0.1:2
mode: auto
nftables: {masqueradeAll: true, masqueradeBit: 16, minSyncPeriod: 15s, syncPeriod: 16s}
nodePortAddresses: [primary]
oomScoreAdj: 17
portRange: 40000-41000
showHiddenMetricsForVersion: '1.35'
windowsRunAsService: true
winkernel:
  enableDSR: true
  forwardHealthCheckVip: true
  networkName: d
  rootHnsEndpointName: e
  sourceVip: f
";

#[test]
fn every_field_is_read_and_written_by_upstreams_name() {
    let configuration = quietly(EVERY_FIELD);
    let yaml = configuration.to_yaml();
    let (again, passed_over) = KubeProxyConfiguration::parse_file(&yaml).expect("what we wrote");
    assert_eq!((&again, passed_over), (&configuration, vec![]), "{yaml}");
    // Whatever is not read would be written as it is by default.
    let default = KubeProxyConfiguration::default().as_object();
    for (path, value) in leaves(&configuration.as_object(), String::new()) {
        assert!(!leaves(&default, String::new()).contains(&(path.clone(), value)), "{path} has its default");
    }
}

fn leaves(value: &Value, path: String) -> Vec<(String, Value)> {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "kind" | "apiVersion"));
            fields.flat_map(|(name, value)| leaves(value, format!("{path}.{name}"))).collect()
        }
        leaf @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            vec![(path, leaf.clone())]
        }
    }
}

#[test]
fn a_file_of_kubeadm_says_nothing_with_most_of_its_fields() {
    let configuration = quietly(
        "bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: \"\", burst: 0, contentType: \"\", kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: \"\", interfaceNamePrefix: \"\"}
detectLocalMode: \"\"
enableProfiling: false
healthzBindAddress: \"\"
hostnameOverride: \"\"
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: \"\", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: \"0\"}, text: {infoBufferSize: \"0\"}}, verbosity: 0}
metricsBindAddress: \"\"
mode: \"\"
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: \"\"
showHiddenMetricsForVersion: \"\"
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: \"\", rootHnsEndpointName: \"\", sourceVip: \"\"}
",
    );
    let mut expected = KubeProxyConfiguration {
        cluster_cidr: "10.244.0.0/16".to_owned(),
        ..KubeProxyConfiguration::default()
    };
    "/var/lib/kube-proxy/kubeconfig.conf".clone_into(&mut expected.client_connection.kubeconfig);
    assert_eq!(configuration, expected);
}

#[test]
fn zero_means_something_where_upstream_says_so() {
    let configuration = quietly(
        "{oomScoreAdj: 0, conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s}, iptables: {masqueradeBit: 0}}",
    );
    assert_eq!((configuration.oom_score_adj, configuration.iptables.masquerade_bit), (0, 0));
    let conntrack = configuration.conntrack;
    assert_eq!(
        (conntrack.max_per_core, conntrack.min, conntrack.tcp_established_timeout),
        (0, 0, GoDuration::ZERO)
    );
}

#[test]
fn addresses_are_completed_as_upstream_does() {
    for (text, healthz, metrics) in [
        ("", "0.0.0.0:10256", "127.0.0.1:10249"),
        ("bindAddress: '::'", "[::]:10256", "[::1]:10249"),
        ("bindAddress: 'fd00::1'", "[::]:10256", "[::1]:10249"),
        ("{bindAddress: '::', healthzBindAddress: 1.2.3.4}", "1.2.3.4:10256", "[::1]:10249"),
        ("{healthzBindAddress: '::1', metricsBindAddress: 1.2.3.4:5}", "[::1]:10256", "1.2.3.4:5"),
        ("{healthzBindAddress: nonsense}", "nonsense", "127.0.0.1:10249"),
    ] {
        let configuration = quietly(text);
        assert_eq!(configuration.healthz_bind_address, healthz, "{text}");
        assert_eq!(configuration.metrics_bind_address, metrics, "{text}");
    }
}

#[test]
fn logging_takes_what_upstream_takes() {
    let logging = quietly("logging: {flushFrequency: 5000000, vmodule: [{filePattern: a, verbosity: 2}], options: {json: {infoBufferSize: 512}}}").logging;
    assert_eq!(logging.flush_frequency.to_string(), "5ms");
    assert_eq!(logging.vmodule, [VerbosityOfFiles { file_pattern: "a".to_owned(), verbosity: 2 }]);
    assert_eq!(logging.options.json.info_buffer_size, "512");
}

#[test]
fn unknown_fields_are_told_and_the_rest_counts() {
    let (configuration, passed_over) =
        read("{foo: bar, mode: nftables, iptables: {masqueradeBit: 15, bar: {}}, featureGates: {Foo: true}}");
    let unknown = |path: &str| PassedOver::UnknownField(path.to_owned());
    assert_eq!(passed_over, [unknown("foo"), unknown("iptables.bar")]);
    assert_eq!((&*configuration.mode, configuration.iptables.masquerade_bit), ("nftables", 15));
}

#[test]
fn of_a_field_that_is_written_twice_the_last_one_counts() {
    let (configuration, passed_over) = read("mode: iptables\nmode: nftables\n");
    assert_eq!(configuration.mode, "nftables");
    let [PassedOver::DuplicateField(what)] = &passed_over[..] else { panic!("{passed_over:?}") };
    assert_eq!(what, "duplicate mapping key: mode at line 4, column 1");
}

#[test]
fn a_file_must_tell_what_it_is_and_where_it_is_wrong() {
    for (text, expected) in [
        (String::new(), "apiVersion is \"\", and not \"kubeproxy.config.k8s.io/v1alpha1\""),
        (
            HEAD.replace("v1alpha1", "v1beta1"),
            "apiVersion is \"kubeproxy.config.k8s.io/v1beta1\", and not \"kubeproxy.config.k8s.io/v1alpha1\"",
        ),
        (HEAD.replace("KubeProxyC", "C"), "kind is \"Configuration\", and not \"KubeProxyConfiguration\""),
        (format!("{HEAD}mode: 5"), "mode: invalid type: integer `5`, expected a string"),
        (
            format!("{HEAD}iptables: {{masqueradeBit: many}}"),
            "iptables.masqueradeBit: invalid type: string \"many\", expected i32",
        ),
        (
            format!("{HEAD}oomScoreAdj: 99999999999"),
            "oomScoreAdj: invalid value: integer `99999999999`, expected i32",
        ),
        (
            format!("{HEAD}iptables: {{syncPeriod: soon}}"),
            "iptables.syncPeriod: \"soon\" is not a duration, such as 250ms, 30s or 1h30m",
        ),
        (
            format!("{HEAD}logging: {{verbosity: -1}}"),
            "logging.verbosity: invalid value: integer `-1`, expected u32",
        ),
        (
            format!("{HEAD}nodePortAddresses: 10.0.0.0/8"),
            "nodePortAddresses: invalid type: string \"10.0.0.0/8\", expected a sequence",
        ),
    ] {
        let error = KubeProxyConfiguration::parse_file(&text).expect_err("it is wrong").to_string();
        assert_eq!(error, format!("KubeProxyConfiguration: {expected}"));
    }
    let error = KubeProxyConfiguration::parse_file("mode: [").expect_err("it is no YAML").to_string();
    assert!(error.starts_with("KubeProxyConfiguration: ") && !error.contains('\n'), "{error}");
}

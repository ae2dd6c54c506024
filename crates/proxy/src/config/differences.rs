//! What two configurations differ in, and whether a proxy that runs by the one can take over the other.

use std::collections::BTreeMap;

use serde_json::Value;

use service_plan::LocalhostNodePorts;

use super::{Configuration, KubeProxyConfiguration};
use crate::modes::ProxyMode;

/// The fields in which another configuration differs, by their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Those that take effect while the proxy runs, and those that have no effect in its mode.
    pub live: Vec<String>,
    /// Those that only a new process can take over.
    pub of_a_new_process: Vec<String>,
}

/// Fields that change the plans alone, or what can be set at any time. A path also stands for all below it.
const LIVE: [&str; 13] = [
    "bindAddress",
    "bindAddressHardFail",
    "clusterCIDR",
    "conntrack",
    "detectLocal",
    "detectLocalMode",
    "healthzBindAddress",
    "iptables.masqueradeAll",
    "iptables.masqueradeBit",
    "metricsBindAddress",
    "nftables.masqueradeAll",
    "nodePortAddresses",
    "oomScoreAdj",
];

/// Fields that may have node ports relayed on localhost, which needs threads that are there from the start.
const RELAYING: [&str; 2] = ["nodePortAddresses", "featureGates"];

/// Fields that do nothing here, and the verbosity, which is the business of whoever logs.
const WITHOUT_EFFECT: [&str; 14] = [
    "clientConnection.acceptContentTypes",
    "clientConnection.burst",
    "clientConnection.contentType",
    "clientConnection.qps",
    "configSyncPeriod",
    "featureGates",
    "logging.flushFrequency",
    "logging.options",
    "logging.verbosity",
    "logging.vmodule",
    "nftables.masqueradeBit",
    "showHiddenMetricsForVersion",
    "windowsRunAsService",
    "winkernel",
];

impl Configuration {
    /// What another one would change.
    pub fn differences(&self, other: &Self) -> Differences {
        let (before, after) = (leaves(&self.written.as_object()), leaves(&other.written.as_object()));
        let mut differences = Differences::default();
        let is_relayed = |one: &Self| one.settings.localhost_node_ports == LocalhostNodePorts::Relay;
        let localhost_begins = is_relayed(other) && !is_relayed(self);
        for path in before.keys().chain(after.keys().filter(|path| !before.contains_key(*path))) {
            if before.get(path) == after.get(path) {
                continue;
            }
            let is_unrelayed = localhost_begins && is_among(path, &RELAYING);
            if is_live(path, self.mode) && !is_unrelayed {
                differences.live.push(path.clone());
            } else {
                differences.of_a_new_process.push(path.clone());
            }
        }
        differences
    }
}

impl KubeProxyConfiguration {
    /// The fields that say something else than by default, and do nothing here.
    pub fn without_effect(&self) -> Vec<String> {
        let default = leaves(&Self::default().as_object());
        let mut said = leaves(&self.as_object());
        // Whoever logs does something with it.
        said.retain(|path, value| path != "logging.verbosity" && default.get(path) != Some(value));
        said.into_keys().filter(|path| is_among(path, &WITHOUT_EFFECT)).collect()
    }
}

fn is_live(path: &str, mode: ProxyMode) -> bool {
    let is_among = |paths: &[&str]| is_among(path, paths);
    if is_among(&WITHOUT_EFFECT) {
        return true;
    }
    // What the other modes alone look at, and what this one takes over beside the rest; last what it cannot.
    let (of_others, of_its_own, but) = match mode {
        // Its relay listens on the node's address, and marks its own connections.
        ProxyMode::Userspace => (
            &["ipvs", "nftables"][..],
            &["iptables.minSyncPeriod", "iptables.syncPeriod"][..],
            &["bindAddress", "iptables.masqueradeBit"][..],
        ),
        // What is dropped as invalid is a rule, and decided at start.
        ProxyMode::Iptables => (
            &["ipvs", "nftables", "portRange"][..],
            &["iptables.minSyncPeriod", "iptables.syncPeriod"][..],
            &["conntrack.tcpBeLiberal"][..],
        ),
        ProxyMode::Nftables => (
            &["iptables", "ipvs", "portRange"][..],
            &["nftables.minSyncPeriod", "nftables.syncPeriod"][..],
            &[][..],
        ),
        ProxyMode::Ipvs => (
            &[
                "iptables.localhostNodePorts",
                "iptables.minSyncPeriod",
                "iptables.syncPeriod",
                "nftables",
                "portRange",
            ][..],
            &[
                "ipvs.minSyncPeriod",
                "ipvs.strictARP",
                "ipvs.syncPeriod",
                "ipvs.tcpFinTimeout",
                "ipvs.tcpTimeout",
                "ipvs.udpTimeout",
            ][..],
            &[][..],
        ),
    };
    is_among(of_others) || (is_among(&LIVE) || is_among(of_its_own)) && !is_among(but)
}

fn is_among(path: &str, paths: &[&str]) -> bool {
    let leads_to = |parent: &&str| {
        path.strip_prefix(*parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    paths.iter().any(leads_to)
}

/// Every field that has no fields of its own, by its path.
fn leaves(object: &Value) -> BTreeMap<String, Value> {
    fn collect(value: &Value, path: &str, out: &mut BTreeMap<String, Value>) {
        let Value::Object(fields) = value else {
            out.insert(path.to_owned(), value.clone());
            return;
        };
        for (name, value) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            collect(value, &path, out);
        }
    }
    let mut out = BTreeMap::new();
    collect(object, "", &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OwnSettings;

    fn configuration(text: &str) -> Configuration {
        let written = KubeProxyConfiguration::parse(text).expect("fields");
        written.checked(&OwnSettings::default(), || ProxyMode::Nftables).expect("a valid configuration")
    }

    #[test]
    fn what_does_nothing_is_known_where_it_says_something() {
        let of = |text: &str| KubeProxyConfiguration::parse(text).expect("fields").without_effect();
        assert_eq!(of("mode: nftables\nlogging: {verbosity: 4}\nclientConnection: {qps: 5}"), [""; 0]);
        assert_eq!(
            of(
                "clientConnection: {qps: 50, burst: 100}\nfeatureGates: {AllBeta: true}\nconfigSyncPeriod: 1m"
            ),
            ["clientConnection.burst", "clientConnection.qps", "configSyncPeriod", "featureGates.AllBeta"]
        );
    }

    #[test]
    fn the_mode_decides_what_can_be_taken_over() {
        for (mode, change, live, of_a_new_process) in [
            ("iptables", "", &[][..], &[][..]),
            ("iptables", "clusterCIDR: 10.0.0.0/8", &["clusterCIDR"], &[]),
            ("iptables", "featureGates: {AllBeta: true}", &["featureGates.AllBeta"], &[]),
            ("iptables", "detectLocal: {bridgeInterface: br0}", &["detectLocal.bridgeInterface"], &[]),
            ("iptables", "bindAddressHardFail: true", &["bindAddressHardFail"], &[]),
            ("iptables", "healthzBindAddress: 127.0.0.1", &["healthzBindAddress"], &[]),
            ("iptables", "iptables: {minSyncPeriod: 2s}", &["iptables.minSyncPeriod"], &[]),
            ("iptables", "conntrack: {udpTimeout: 20s}", &["conntrack.udpTimeout"], &[]),
            ("iptables", "conntrack: {tcpBeLiberal: true}", &[], &["conntrack.tcpBeLiberal"]),
            ("nftables", "conntrack: {tcpBeLiberal: true}", &["conntrack.tcpBeLiberal"], &[]),
            ("iptables", "hostnameOverride: other", &[], &["hostnameOverride"]),
            ("iptables", "iptables: {localhostNodePorts: false}", &[], &["iptables.localhostNodePorts"]),
            ("iptables", "iptables: {masqueradeBit: 15}", &["iptables.masqueradeBit"], &[]),
            ("userspace", "iptables: {masqueradeBit: 15}", &[], &["iptables.masqueradeBit"]),
            ("userspace", "bindAddress: 10.0.0.1", &[], &["bindAddress"]),
            ("userspace", "portRange: 40000-41000", &[], &["portRange"]),
            ("nftables", "nodePortAddresses: [localhost]", &[], &["nodePortAddresses"]),
            ("nftables", "nodePortAddresses: [10.0.0.0/8]", &["nodePortAddresses"], &[]),
            ("iptables", "nodePortAddresses: [localhost]", &["nodePortAddresses"], &[]),
            ("nftables", "portRange: 40000-41000", &["portRange"], &[]),
            ("nftables", "iptables: {localhostNodePorts: false}", &["iptables.localhostNodePorts"], &[]),
            ("nftables", "nftables: {minSyncPeriod: 2s}", &["nftables.minSyncPeriod"], &[]),
            ("ipvs", "ipvs: {syncPeriod: 1m}", &["ipvs.syncPeriod"], &[]),
            ("ipvs", "ipvs: {tcpTimeout: 20m}", &["ipvs.tcpTimeout"], &[]),
            ("ipvs", "ipvs: {scheduler: mh}", &[], &["ipvs.scheduler"]),
            ("nftables", "ipvs: {scheduler: mh}", &["ipvs.scheduler"], &[]),
        ] {
            let before = configuration(&format!("mode: {mode}"));
            let after = configuration(&format!("mode: {mode}\n{change}"));
            let expected = |paths: &[&str]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
            let found = before.differences(&after);
            assert_eq!(found.live, expected(live), "{mode}: {change}");
            assert_eq!(found.of_a_new_process, expected(of_a_new_process), "{mode}: {change}");
        }
        let relayed = configuration("{mode: nftables, nodePortAddresses: [localhost]}");
        let found = relayed.differences(&configuration("{mode: nftables, nodePortAddresses: [primary]}"));
        assert_eq!((found.live, found.of_a_new_process), (vec!["nodePortAddresses".to_owned()], vec![]));
        let found = configuration("").differences(&configuration("{mode: ipvs, clusterCIDR: 10.0.0.0/8}"));
        assert_eq!((found.live, found.of_a_new_process), (vec!["clusterCIDR".into()], vec!["mode".into()]));
    }
}

//! What two configurations differ in, and whether a proxy that runs by the one can take over the other.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Configuration;
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
const LIVE: [&str; 9] = [
    "bindAddress",
    "clusterCIDR",
    "detectLocal",
    "detectLocalMode",
    "iptables.masqueradeAll",
    "iptables.masqueradeBit",
    "nftables.masqueradeAll",
    "nodePortAddresses",
    "oomScoreAdj",
];

/// Fields that do nothing here, and the verbosity, which is the business of whoever logs.
const WITHOUT_EFFECT: [&str; 13] = [
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
    "windowsRunAsService",
    "winkernel",
];

impl Configuration {
    /// What another one would change.
    pub fn differences(&self, other: &Self) -> Differences {
        let (before, after) = (leaves(&self.written.as_object()), leaves(&other.written.as_object()));
        let mut differences = Differences::default();
        for path in before.keys().chain(after.keys().filter(|path| !before.contains_key(*path))) {
            if before.get(path) == after.get(path) {
                continue;
            }
            if is_live(path, self.mode) {
                differences.live.push(path.clone());
            } else {
                differences.of_a_new_process.push(path.clone());
            }
        }
        differences
    }
}

fn is_live(path: &str, mode: ProxyMode) -> bool {
    let is_among = |paths: &[&str]| {
        let leads_to = |parent: &&str| {
            path.strip_prefix(*parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        paths.iter().any(leads_to)
    };
    if is_among(&WITHOUT_EFFECT) {
        return true;
    }
    match mode {
        // Its relay listens on the node's address, and marks its own connections.
        ProxyMode::Userspace => {
            is_among(&["ipvs", "nftables"])
                || is_among(&LIVE) && !is_among(&["bindAddress", "iptables.masqueradeBit"])
        }
        ProxyMode::Iptables => is_among(&LIVE) || is_among(&["ipvs", "nftables", "portRange"]),
        ProxyMode::Nftables => is_among(&LIVE) || is_among(&["iptables", "ipvs", "portRange"]),
        ProxyMode::Ipvs => {
            let unused = ["iptables.localhostNodePorts", "iptables.minSyncPeriod", "iptables.syncPeriod"];
            is_among(&LIVE) || is_among(&["nftables", "portRange"]) || is_among(&unused)
        }
    }
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
    use crate::config::{KubeProxyConfiguration, OwnSettings};

    fn configuration(text: &str) -> Configuration {
        let written = KubeProxyConfiguration::parse(text).expect("fields");
        written.checked(&OwnSettings::default(), || ProxyMode::Nftables).expect("a valid configuration")
    }

    #[test]
    fn the_mode_decides_what_can_be_taken_over() {
        for (mode, change, live, of_a_new_process) in [
            ("iptables", "", &[][..], &[][..]),
            ("iptables", "clusterCIDR: 10.0.0.0/8", &["clusterCIDR"], &[]),
            ("iptables", "featureGates: {AllBeta: true}", &["featureGates.AllBeta"], &[]),
            ("iptables", "detectLocal: {bridgeInterface: br0}", &["detectLocal.bridgeInterface"], &[]),
            ("iptables", "bindAddressHardFail: true", &[], &["bindAddressHardFail"]),
            ("iptables", "hostnameOverride: other", &[], &["hostnameOverride"]),
            ("iptables", "iptables: {localhostNodePorts: false}", &[], &["iptables.localhostNodePorts"]),
            ("iptables", "iptables: {masqueradeBit: 15}", &["iptables.masqueradeBit"], &[]),
            ("userspace", "iptables: {masqueradeBit: 15}", &[], &["iptables.masqueradeBit"]),
            ("userspace", "bindAddress: 10.0.0.1", &[], &["bindAddress"]),
            ("userspace", "portRange: 40000-41000", &[], &["portRange"]),
            ("nftables", "portRange: 40000-41000", &["portRange"], &[]),
            ("nftables", "iptables: {localhostNodePorts: false}", &["iptables.localhostNodePorts"], &[]),
            ("nftables", "nftables: {minSyncPeriod: 2s}", &[], &["nftables.minSyncPeriod"]),
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
        let found = configuration("").differences(&configuration("{mode: ipvs, clusterCIDR: 10.0.0.0/8}"));
        assert_eq!((found.live, found.of_a_new_process), (vec!["clusterCIDR".into()], vec!["mode".into()]));
    }
}

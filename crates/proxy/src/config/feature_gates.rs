//! Feature gates: taken by name, so that one list can serve every component of a node; one changes what we do.

use std::collections::BTreeMap;

/// The gates that kube-proxy and the libraries in it know from 1.36 on, one a line, with those that 1.37 and 1.38 add
/// for kube-proxy.
const KNOWN: &str = include_str!("feature_gates.txt");

/// Where it is switched off, nobody listens on localhost for node ports.
pub(super) const LOCALHOST_NODE_PORTS: &str = "KubeProxyNFTablesLocalhostNodePorts";

/// The names that no Kubernetes known to us has.
pub(super) fn unknown(gates: &BTreeMap<String, bool>) -> Vec<String> {
    gates.keys().filter(|name| !KNOWN.lines().any(|known| known == *name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gates_of_kube_proxy_are_known_and_others_are_not() {
        let gates = [
            "AllAlpha",
            "AllowServiceExternalIPs",
            "ContextualLogging",
            "KubeProxyIPVS",
            LOCALHOST_NODE_PORTS,
            "NFTablesNetlink",
            "NFTablesProxyMode",
            "Nonsense",
            "",
        ];
        let gates = gates.map(|name| (name.to_owned(), true)).into();
        assert_eq!(unknown(&gates), ["", "Nonsense"]);
    }
}

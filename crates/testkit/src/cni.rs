//! A network of pods by Debian's CNI plugins, the same for whoever makes them.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::debian;

/// Where the plugins are.
///
/// # Panics
///
/// If the package cannot be fetched.
pub fn plugins() -> PathBuf {
    debian::unpacked("containernetworking-plugins").join("usr/lib/cni")
}

/// A bridge, and addresses by host-local, which keeps them in this directory.
pub fn bridged(addresses: &Path) -> String {
    let network = json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.88.0.0/16" }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
                "dataDir": addresses,
            },
        }],
    });
    network.to_string()
}

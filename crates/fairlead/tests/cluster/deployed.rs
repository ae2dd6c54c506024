//! A proxy that runs from its image, as a DaemonSet has it, with the rights of its service account.

use std::fs;
use std::path::Path;

use crate::acts::create;
use crate::cluster::Cluster;
use crate::kubelet::{self, Kubelet};
use crate::node::Node;

/// What kubectl is given in `docs/install.md`, in that order.
const MANIFESTS: [&str; 3] = ["rbac.yaml", "configmap.yaml", "daemonset.yaml"];

/// Where the server is, in the manifests as they are written.
const SERVER: &str = "CONTROL-PLANE";

/// The files of `deploy`, on a node that had no proxy yet.
pub(crate) fn from_nothing(cluster: &mut Cluster) {
    deployed(cluster, 3, &manifests(), &[]);
}

/// kubeadm's DaemonSet, configuration and role, in which nothing changes but the image.
pub(crate) fn another_image(cluster: &mut Cluster) {
    let image = concat!("kube-proxy=fairlead.dev/fairlead:", env!("CARGO_PKG_VERSION"));
    deployed(cluster, 4, include_str!("kubeadm.yaml"), &["set", "image", DAEMONSET, image]);
}

/// No kubeconfig: the account that the pod has, at the address that its environment tells.
pub(crate) fn by_its_account_alone(cluster: &mut Cluster) {
    let kubeconfig = "    clientConnection:\n      kubeconfig: /var/lib/kube-proxy/kubeconfig.conf\n";
    let manifests = manifests();
    assert!(manifests.contains(kubeconfig), "{manifests}");
    let server = format!("KUBERNETES_SERVICE_HOST={}", crate::cluster::SERVER);
    let port = format!("KUBERNETES_SERVICE_PORT={}", crate::cluster::PORT);
    deployed(cluster, 5, &manifests.replace(kubeconfig, ""), &["set", "env", DAEMONSET, &server, &port]);
}

const DAEMONSET: &str = "daemonset/kube-proxy";

fn manifests() -> String {
    let manifests = MANIFESTS.map(|name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name);
        fs::read_to_string(&path).expect("a manifest")
    });
    manifests.join("---\n")
}

/// Applies the manifests, changes them by a command of kubectl, and is a kubelet on a new node.
fn deployed(cluster: &mut Cluster, number: u8, manifests: &str, change: &[&str]) {
    assert!(kubelet::image().exists(), "`cargo xtask image fairlead` writes the image");
    let manifests = manifests.replace(SERVER, &crate::cluster::SERVER.to_string());
    cluster.apply(&manifests);
    if !change.is_empty() {
        cluster.kubectl(&[&["--namespace", "kube-system"], change].concat(), "");
    }
    let node = Node::join(cluster, number);
    cluster.apply(&node.manifest());
    let at = create(cluster, &format!("deployed-{number}"), 30 + number, &[1, 2]);

    let kubelet = Kubelet::of(cluster, &node);
    let proxy = kubelet.run("kube-proxy");
    node.until_served_by(at, &[1, 2]);
    let log = proxy.log();
    assert!(!log.contains("forbidden") && !log.contains("refused"), "it has the rights that it needs: {log}");
    drop(proxy);
    cluster.kubectl(&["delete", "--wait=false", "-f", "-"], &manifests);
    cluster.kubectl(&["delete", "node", &node.name], "");
}

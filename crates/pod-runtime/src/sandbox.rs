//! From a Pod to its sandbox.

use std::path::Path;

use pod_manifests::{DnsPolicy, Network, Pids, Pod, Users};
use pod_sandbox::{
    Dns, HostAlias, HostPort, Hostname, Node, NodeSettings, PidSharing, PodName, PodNetwork, Protocol,
    SandboxSpec, Whose,
};

use crate::error::PodError;
use crate::oci::told;
use crate::order::Order;

/// The node that sandboxes stand on.
pub(crate) fn node(root: &Path, order: &Order) -> Result<Node, PodError> {
    let mut settings = NodeSettings::at(root);
    settings.ranges.clone_from(&order.node.ranges);
    settings.cni.configurations.clone_from(&order.node.cni);
    if !order.plugins.is_empty() {
        settings.cni.plugins.clone_from(&order.plugins);
    }
    settings.cgroup = cgroup(root);
    Node::open(settings).map_err(|error| PodError::Sandbox(told(&error)))
}

/// Two roots on one machine may have pods of one name.
fn cgroup(root: &Path) -> String {
    if root == Path::new("/run/fairlead") {
        return "fairlead".to_owned();
    }
    format!("fairlead{}", root.to_string_lossy().replace('/', "-"))
}

/// What a pod's sandbox shall be.
pub(crate) fn spec(pod: &Pod, name: &str, uid: &str) -> SandboxSpec {
    let owner = PodName {
        namespace: pod.name.namespace.clone(),
        name: pod.name.name.clone(),
        uid: pod.uid.clone().unwrap_or_else(|| uid.to_owned()),
    };
    let shared = pod.spec.shared;
    let whose = |network| match network {
        Network::Pod => Whose::Pod,
        Network::Node => Whose::Node,
    };
    let domain = pod.spec.subdomain.as_ref();
    let mut spec = SandboxSpec::new(name, owner);
    spec.hostname = Hostname {
        name: pod.hostname().to_owned(),
        domain: domain.map(|subdomain| format!("{subdomain}.{}.svc.cluster.local", pod.name.namespace)),
        ..Hostname::default()
    };
    spec.pids = match shared.pids {
        Pids::Container => PidSharing::Container,
        Pids::Pod => PidSharing::Pod,
        Pids::Node => PidSharing::Node,
    };
    spec.ipc = whose(shared.ipc);
    spec.users = match shared.users {
        Users::Node => Whose::Node,
        Users::Pod => Whose::Pod,
    };
    spec.network = match shared.network {
        Network::Node => pod_sandbox::Network::Node,
        Network::Pod => pod_sandbox::Network::Pod(PodNetwork { ports: ports(pod), ..PodNetwork::default() }),
    };
    spec.sysctls.clone_from(&pod.spec.sysctls);
    let alias = |alias: &pod_manifests::HostAlias| HostAlias { ip: alias.ip, names: alias.hostnames.clone() };
    spec.host_aliases = pod.spec.host_aliases.iter().map(alias).collect();
    spec.dns = dns(&pod.spec.dns);
    spec
}

/// The ports of the node that lead to the pod.
fn ports(pod: &Pod) -> Vec<HostPort> {
    let all = pod.spec.all_containers().flat_map(|container| &container.ports);
    let led = all.filter_map(|port| {
        let node = port.node?;
        let protocol = match port.protocol {
            pod_manifests::Protocol::Tcp => Protocol::Tcp,
            pod_manifests::Protocol::Udp => Protocol::Udp,
            pod_manifests::Protocol::Sctp => Protocol::Sctp,
        };
        Some(HostPort { protocol, node_port: node.port, pod_port: port.port, node_ip: node.ip })
    });
    led.collect()
}

fn dns(dns: &pod_manifests::Dns) -> Dns {
    let option = |option: &String| match option.split_once(':') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (option.clone(), None),
    };
    Dns {
        policy: match dns.policy {
            DnsPolicy::Node => pod_sandbox::DnsPolicy::Default,
            DnsPolicy::None => pod_sandbox::DnsPolicy::None,
        },
        servers: dns.nameservers.clone(),
        searches: dns.searches.clone(),
        options: dns.options.iter().map(option).collect(),
    }
}

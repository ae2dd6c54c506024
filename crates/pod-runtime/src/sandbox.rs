//! From a Pod to its sandbox.

use std::path::Path;

use pod_manifests::{DnsPolicy, Network, Pids, Pod, Users};
use pod_sandbox::{Dns, HostAlias, Hostname, Node, NodeSettings, PidSharing, PodName, SandboxSpec, Whose};

use crate::error::PodError;
use crate::oci::told;
use crate::order::NodeFacts;

/// The node that sandboxes stand on.
pub(crate) fn node(root: &Path, facts: &NodeFacts) -> Result<Node, PodError> {
    let mut settings = NodeSettings::at(root);
    settings.ranges.clone_from(&facts.ranges);
    settings.cni.configurations.clone_from(&facts.cni);
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
    if shared.network == Network::Node {
        spec.network = pod_sandbox::Network::Node;
    }
    spec.sysctls.clone_from(&pod.spec.sysctls);
    let alias = |alias: &pod_manifests::HostAlias| HostAlias { ip: alias.ip, names: alias.hostnames.clone() };
    spec.host_aliases = pod.spec.host_aliases.iter().map(alias).collect();
    spec.dns = dns(&pod.spec.dns);
    spec
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

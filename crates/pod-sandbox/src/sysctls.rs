//! Which settings a pod may have.

use kernel_io::namespaces::Namespace;

use crate::spec::{Problem, SandboxSpec};
use crate::steps::own_namespaces;

/// What any pod may set, as Kubernetes has it: of the pod alone, and harmless to the node.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

const FIELD: &str = "spec.securityContext.sysctls";

/// The settings that a pod may not have.
pub(crate) fn problems(spec: &SandboxSpec, allowed: &[String]) -> Vec<Problem> {
    let own = own_namespaces(spec);
    let problem = |name: &String| {
        let dotted = name.replace('/', ".");
        let what = match namespace_of(name) {
            None => "is not the pod's own".to_owned(),
            Some(kind) if !own.contains(&kind) => format!("the pod has the node's {kind} namespace"),
            Some(_) if SAFE.contains(&&*dotted) || allowed.iter().any(|one| matches(one, &dotted)) => {
                return None;
            }
            Some(_) => "is not safe, and this node does not allow it".to_owned(),
        };
        Some(Problem { field: FIELD, what: format!("{name}: {what}") })
    };
    spec.sysctls.keys().filter_map(problem).collect()
}

/// The namespace that a setting belongs to; none if all of the machine share it.
pub(crate) fn namespace_of(sysctl: &str) -> Option<Namespace> {
    const IPC: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    let name = sysctl.replace('/', ".");
    match name.as_str() {
        name if name.starts_with("net.") => Some(Namespace::Net),
        name if IPC.iter().any(|prefix| name.starts_with(prefix)) => Some(Namespace::Ipc),
        _ => None,
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests;

//! The pods that we make: what we write into their manifests, by which the next `up` knows them.

use std::path::Path;

use pod_manifests::{Kind, Network, ObjectName, Pod};
use serde_json::{Map, Value, json};
use service_plan::Protocol;

use crate::allocation::Served;
use crate::pods::Owner;
use crate::slices::NamedPort;

/// The annotation that has the directory which a pod is of.
const DIRECTORY: &str = "fairlead.dev/up";
/// The annotation that has what it was made from.
const REVISION: &str = "fairlead.dev/revision";
/// The annotation that has the Deployment which it is of.
const DEPLOYMENT: &str = "fairlead.dev/deployment";
/// The label by which Kubernetes tells the versions of a Deployment's pods apart.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// What is known of a pod that is there, whoever made it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) pod: Pod,
    pub(crate) ports: Vec<NamedPort>,
    /// Whose it is, and what it was made from; nothing if it is none of this directory.
    pub(crate) ours: Option<(Owner, String)>,
}

/// A pod to be made, as its file has it or a Deployment's template.
#[derive(Clone, Debug)]
pub(crate) struct Making {
    pub(crate) name: ObjectName,
    pub(crate) owner: Owner,
    pub(crate) revision: String,
}

impl Making {
    /// The pod with what we write into it: whose it is, and the names of the Services that it can reach.
    pub(crate) fn pod(&self, template: &Pod, directory: &Path, services: &Served) -> Pod {
        let mut pod = template.named(&self.name.name);
        let metadata = child(&mut pod.manifest, "metadata");
        let annotations = child(metadata, "annotations");
        annotations.insert(DIRECTORY.to_owned(), directory.to_string_lossy().into());
        annotations.insert(REVISION.to_owned(), self.revision.clone().into());
        if let Owner::Deployment(deployment) = &self.owner {
            annotations.insert(DEPLOYMENT.to_owned(), deployment.name.clone().into());
            child(metadata, "labels").insert(TEMPLATE_HASH.to_owned(), self.revision.clone().into());
        }
        if template.spec.shared.network == Network::Pod {
            let spec = child(&mut pod.manifest, "spec");
            let aliases = spec.entry("hostAliases").or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(aliases) = aliases {
                aliases.extend(names(&self.name.namespace, services));
            }
        }
        pod
    }
}

/// Lines for the hosts file of a pod: there is no name server, so these are how Services are found by name.
fn names(namespace: &str, services: &Served) -> Vec<Value> {
    let line = |(name, service): (&service_plan::ServiceName, &std::sync::Arc<service_plan::Service>)| {
        let long = format!("{}.{}", name.name, name.namespace);
        let mut names = vec![format!("{long}.svc.cluster.local"), format!("{long}.svc"), long];
        if *name.namespace == *namespace {
            names.insert(0, name.name.to_string());
        }
        service.cluster_ips.iter().map(|ip| json!({"ip": ip, "hostnames": names})).collect::<Vec<_>>()
    };
    services.iter().flat_map(line).collect()
}

impl Made {
    /// What is known of a pod by what it was made from.
    pub(crate) fn of(pod: Pod, directory: &Path) -> Self {
        let annotation = |name: &str| pod.annotations.get(name).cloned();
        let is_ours = annotation(DIRECTORY).is_some_and(|of| Path::new(&of) == directory);
        let ours = annotation(REVISION).filter(|_| is_ours).map(|revision| {
            let owner = match annotation(DEPLOYMENT) {
                Some(name) => Owner::Deployment(ObjectName { namespace: pod.name.namespace.clone(), name }),
                None => Owner::Pod(pod.name.clone()),
            };
            (owner, revision)
        });
        Self { ports: named_ports(&pod), ours, pod }
    }
}

/// Of equal names the first counts; those of init containers that end do not.
fn named_ports(pod: &Pod) -> Vec<NamedPort> {
    let sidecars = pod.spec.init_containers.iter().filter(|container| container.kind == Kind::Sidecar);
    let ports = pod.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
    let named = |port: &pod_manifests::ContainerPort| {
        let protocol = match port.protocol {
            pod_manifests::Protocol::Tcp => Protocol::Tcp,
            pod_manifests::Protocol::Udp => Protocol::Udp,
            pod_manifests::Protocol::Sctp => Protocol::Sctp,
        };
        Some(NamedPort { name: port.name.clone()?, protocol, number: port.port })
    };
    ports.filter_map(named).collect()
}

/// A mapping below another, made if it is not there.
fn child<'a>(fields: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = fields.entry(name).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made one")
}

#[cfg(test)]
mod tests;

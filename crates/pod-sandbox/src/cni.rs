//! Networks by CNI plugins: the protocol of <https://www.cni.dev/docs/spec/>, versions 0.3.0 to 1.1.0.

mod configuration;
mod plugin;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use kernel_io::namespaces::NamespaceError;
use kernel_io::process::ProcessError;
use serde_json::{Value, json};
use thiserror::Error;

pub use configuration::NetworkList;
pub(crate) use configuration::configured;
use plugin::Verb;

use crate::node::Node;
use crate::spec::{HostPort, SandboxSpec};
use crate::steps::POD_LINK;

/// A CNI network that could not be read, or whose plugins failed.
#[derive(Debug, Error)]
pub enum CniError {
    /// The configuration says what cannot be.
    #[error("CNI configuration {}: {what}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file or directory could not be read.
    #[error("{verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A plugin is not installed.
    #[error("CNI plugin {plugin} of network {network} is not in {searched}")]
    Missing {
        /// The plugin.
        plugin: String,
        /// The network.
        network: String,
        /// The directories.
        searched: String,
    },
    /// A plugin could not be started.
    #[error("start CNI plugin {plugin}")]
    Start {
        /// The plugin.
        plugin: String,
        /// Why.
        source: Box<ProcessError>,
    },
    /// The namespace in which plugins run could not be held.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A plugin did not end in time, and was killed.
    #[error("CNI plugin {plugin} of network {network} was killed: {verb} took longer than {limit:?}")]
    Hangs {
        /// The plugin.
        plugin: String,
        /// The network.
        network: String,
        /// What it should have done.
        verb: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// A plugin failed.
    #[error("CNI plugin {plugin} of network {network} failed to {verb}: {said}")]
    Failed {
        /// The plugin.
        plugin: String,
        /// The network.
        network: String,
        /// What it should have done.
        verb: &'static str,
        /// Its own words.
        said: String,
    },
}

/// What plugins are told of a pod.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) node: &'a Node,
    pub(crate) network: &'a NetworkList,
    pub(crate) spec: &'a SandboxSpec,
    /// The file that stands for the pod's network namespace; none if that is gone.
    pub(crate) netns: Option<&'a Path>,
}

impl Call<'_> {
    /// Adds the pod to the network. Answers what the last plugin said.
    pub(crate) fn add(&self) -> Result<Value, CniError> {
        let chain = self.network.plugins.iter();
        let result = chain
            .clone()
            .try_fold(None, |previous, plugin| self.run(plugin, Verb::Add, previous.as_ref()).map(Some))?;
        Ok(result.unwrap_or(Value::Null))
    }

    /// Asks every plugin whether the pod is still in the network as it was added.
    pub(crate) fn check(&self, result: &Value) -> Result<(), CniError> {
        if !self.network.has_check() {
            return Ok(());
        }
        let mut chain = self.network.plugins.iter();
        chain.try_for_each(|plugin| self.run(plugin, Verb::Check, Some(result)).map(drop))
    }

    /// Removes the pod from the network, the last plugin first. One that fails does not keep the others from it.
    pub(crate) fn delete(&self, result: Option<&Value>) -> Result<(), CniError> {
        let result = result.filter(|_| self.network.has_check());
        let chain = self.network.plugins.iter().rev();
        let outcomes: Vec<_> = chain.map(|plugin| self.run(plugin, Verb::Delete, result)).collect();
        outcomes.into_iter().try_for_each(|outcome| outcome.map(drop))
    }

    fn run(&self, plugin: &Value, verb: Verb, previous: Option<&Value>) -> Result<Value, CniError> {
        let mut input = plugin.clone();
        input["name"] = json!(self.network.name);
        input["cniVersion"] = json!(self.network.version);
        if let Some(previous) = previous {
            input["prevResult"] = previous.clone();
        }
        let ports = self.spec.host_ports();
        if configuration::can(plugin, "portMappings") && !ports.is_empty() {
            input["runtimeConfig"] = json!({ "portMappings": ports.iter().map(mapping).collect::<Vec<_>>() });
        }
        plugin::run(self, plugin["type"].as_str().unwrap_or_default(), verb, &input)
    }

    fn environment(&self, verb: Verb) -> Vec<(&'static str, String)> {
        let settings = &self.node.settings().cni;
        let pod = &self.spec.pod;
        let plugins: Vec<_> = settings.plugins.iter().map(|path| path.display().to_string()).collect();
        vec![
            ("CNI_COMMAND", verb.word().to_owned()),
            ("CNI_CONTAINERID", self.spec.name.clone()),
            ("CNI_NETNS", self.netns.map(|path| path.display().to_string()).unwrap_or_default()),
            ("CNI_IFNAME", POD_LINK.to_owned()),
            ("CNI_PATH", plugins.join(":")),
            (
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
                    pod.namespace, pod.name, self.spec.name, pod.uid
                ),
            ),
        ]
    }
}

/// The pod's addresses, as the last plugin told them.
pub(crate) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().map_or(&[][..], Vec::as_slice);
    let address = |ip: &Value| ip["address"].as_str()?.parse::<IpNet>().ok();
    ips.iter().filter_map(address).map(|net| net.addr()).collect()
}

fn mapping(port: &HostPort) -> Value {
    let mut mapping = json!({
        "hostPort": port.node_port,
        "containerPort": port.pod_port,
        "protocol": port.protocol,
    });
    if let Some(ip) = port.node_ip {
        mapping["hostIP"] = json!(ip);
    }
    mapping
}

#[cfg(test)]
mod tests;

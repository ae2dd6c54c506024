//! The example's manifests, in a directory of the demo's own, where it does what the cluster's controllers do.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::workspace::root;

/// A copy of `examples/two-services`.
pub(super) struct Manifests {
    folder: PathBuf,
    slices: Vec<Value>,
}

/// A pod, as its endpoint tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodRecord {
    /// Its name.
    pub(super) name: String,
    /// Its address.
    pub(super) address: IpAddr,
}

impl Manifests {
    pub(super) fn copy(folder: &Path) -> Result<Self> {
        let from = root().join("examples/two-services");
        fs::copy(from.join("services.yaml"), folder.join("services.yaml"))?;
        let text = fs::read_to_string(from.join("endpointslices.yaml"))?;
        let manifests = Self { folder: folder.to_path_buf(), slices: serde_saphyr::from_multiple(&text)? };
        manifests.write()?;
        Ok(manifests)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The pods behind all endpoints.
    pub(super) fn pods(&self) -> Result<Vec<PodRecord>> {
        self.slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten().map(record).collect()
    }

    /// Takes a pod's endpoint out, as the controller does when the pod is gone.
    pub(super) fn remove(&mut self, pod: &PodRecord) -> Result<()> {
        for endpoints in self.slices.iter_mut().filter_map(|slice| slice["endpoints"].as_array_mut()) {
            endpoints.retain(|endpoint| endpoint["targetRef"]["name"] != pod.name.as_str());
        }
        self.write()
    }

    /// Puts a pod's endpoint in, as the controller does when the pod is ready.
    pub(super) fn add(&mut self, service: &str, pod: &PodRecord) -> Result<()> {
        let is_of_service =
            |slice: &&mut Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
        let slice = self.slices.iter_mut().find(is_of_service).context("the Service has a slice")?;
        let endpoints = slice["endpoints"].as_array_mut().context("the slice has endpoints")?;
        endpoints.push(json!({
            "addresses": [pod.address.to_string()],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": "node-1",
            "targetRef": { "kind": "Pod", "namespace": "default", "name": pod.name },
        }));
        self.write()
    }

    /// A file is replaced whole, so that nobody reads half of it.
    fn write(&self) -> Result<()> {
        let documents: Vec<String> = self.slices.iter().map(Value::to_string).collect();
        let next = self.folder.join(".next");
        fs::write(&next, documents.join("\n---\n"))?;
        Ok(fs::rename(&next, self.file())?)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("endpointslices.yaml")
    }
}

fn record(endpoint: &Value) -> Result<PodRecord> {
    let name = endpoint["targetRef"]["name"].as_str().context("an endpoint names its pod")?;
    let address = endpoint["addresses"][0].as_str().context("an endpoint has an address")?;
    Ok(PodRecord { name: name.to_owned(), address: address.parse()? })
}

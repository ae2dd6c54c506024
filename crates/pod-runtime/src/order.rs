//! What a holder is told to hold, kept in the pod's directory so that another can go on with it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use pod_manifests::{Manifests, ObjectName, Pod};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{PodError, file};
use crate::image::Image;
use crate::status::{PodStatus, write_whole};

/// What a holder is told to hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The Pod, and the objects beside it, as manifests.
    pub(crate) objects: Vec<Value>,
    /// Its images, by the names that its manifest has for them.
    pub(crate) images: BTreeMap<String, Image>,
    /// The program that runs its containers.
    pub(crate) runtime: PathBuf,
    /// Its own number.
    pub(crate) uid: String,
    /// What the node is like.
    pub(crate) node: NodeFacts,
    /// Where CNI plugins are, if not where they usually are.
    #[serde(default)]
    pub(crate) plugins: Vec<PathBuf>,
}

/// What the node is like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The node's name.
    pub name: String,
    /// The ranges from which pods have their addresses.
    pub ranges: Vec<ipnet::IpNet>,
    /// The directory of CNI configurations.
    pub cni: PathBuf,
}

/// The directory of a pod.
#[derive(Clone, Debug)]
pub(crate) struct PodDirectory {
    pub(crate) path: PathBuf,
}

impl PodDirectory {
    /// That of a pod, below the root.
    pub(crate) fn of(root: &Path, pod: &ObjectName) -> Self {
        Self { path: root.join("pods").join(key(pod)) }
    }

    /// Makes it, with places for its containers.
    pub(crate) fn make(&self, pod: &Pod) -> Result<(), PodError> {
        for container in pod.spec.all_containers() {
            make_directory(&self.container(&container.name), 0o711)?;
        }
        make_directory(&self.path.join("volumes"), 0o711)?;
        make_directory(&self.path.join("logs"), 0o755)?;
        // Secrets are in it; only what is mounted into containers need be passed through.
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o711)).map_err(file("open", &self.path))
    }

    pub(crate) fn container(&self, name: &str) -> PathBuf {
        self.path.join("containers").join(name)
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.path.join("volumes").join(name)
    }

    /// The volume as a pod with user numbers of its own sees it.
    pub(crate) fn view(&self, volume: &str) -> PathBuf {
        self.path.join("views").join(volume)
    }

    pub(crate) fn log(&self, container: &str) -> PathBuf {
        self.path.join("logs").join(format!("{container}.log"))
    }

    pub(crate) fn status_file(&self) -> PathBuf {
        self.path.join("status.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("control")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.path.join("holder.lock")
    }

    pub(crate) fn holder_log(&self) -> PathBuf {
        self.path.join("holder.log")
    }

    pub(crate) fn status(&self) -> Result<PodStatus, PodError> {
        PodStatus::read(&self.status_file())
    }

    pub(crate) fn write_order(&self, order: &Order) -> Result<(), PodError> {
        let path = self.path.join("order.json");
        let text = serde_json::to_vec(order)
            .map_err(|error| PodError::Content { path: path.clone(), message: error.to_string() })?;
        write_whole(&path, &text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(file("protect", &path))
    }

    pub(crate) fn order(&self) -> Result<Order, PodError> {
        let path = self.path.join("order.json");
        let text = fs::read(&path).map_err(file("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| PodError::Content { path, message: error.to_string() })
    }
}

impl Order {
    /// The pod, and the objects beside it.
    pub(crate) fn read(&self, directory: &PodDirectory) -> Result<(Pod, Manifests), PodError> {
        let mut manifests = Manifests::default();
        for object in &self.objects {
            if let Value::Object(object) = object {
                manifests.add(object.clone());
            }
        }
        let wrong = |message| PodError::Content { path: directory.path.join("order.json"), message };
        let pod = match (manifests.pods.pop(), manifests.refused.first()) {
            (_, Some(error)) => return Err(wrong(error.to_string())),
            (None, None) => return Err(wrong("there is no Pod in it".to_owned())),
            (Some(pod), None) => pod,
        };
        Ok((pod, manifests))
    }
}

/// What a pod's directory, cgroup and sandbox are called.
pub(crate) fn key(pod: &ObjectName) -> String {
    format!("{}_{}", pod.namespace, pod.name)
}

pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), PodError> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(file("make", path))
}

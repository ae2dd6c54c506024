//! The images of a pod: fetched before its holder starts, so that a pod whose image cannot be had leaves nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pod_images::{Config, Reference, Store};
use pod_manifests::{Container, Pod, PullPolicy};
use serde::{Deserialize, Serialize};

use crate::error::PodError;
use crate::oci::told;

/// An image that is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// Its directories, from the bottom up.
    pub(crate) layers: Vec<PathBuf>,
    /// How it wants to be run.
    pub(crate) config: Config,
}

/// The images of a pod, by the names that its manifest has for them.
pub(crate) fn fetched(pod: &Pod, root: &Path) -> Result<BTreeMap<String, Image>, PodError> {
    let mut store = None;
    let mut images = BTreeMap::new();
    for container in pod.spec.all_containers() {
        if !images.contains_key(&container.image) {
            let image = one(container, root, &mut store)
                .map_err(|message| PodError::Image { container: container.name.clone(), message })?;
            images.insert(container.image.clone(), image);
        }
    }
    Ok(images)
}

fn one(container: &Container, root: &Path, store: &mut Option<Store>) -> Result<Image, String> {
    let reference: Reference = container.image.parse().map_err(|error| told(&error))?;
    let policy = match container.pull {
        PullPolicy::Always => pod_images::PullPolicy::Always,
        PullPolicy::IfNotPresent => pod_images::PullPolicy::IfNotPresent,
        PullPolicy::Never => pod_images::PullPolicy::Never,
    };
    let store = match store {
        Some(store) => store,
        None => store.insert(Store::open(&root.join("images")).map_err(|error| told(&error))?),
    };
    let image = store.ensure(&reference, policy).map_err(|error| told(&error))?;
    Ok(Image { layers: image.layers, config: image.config })
}

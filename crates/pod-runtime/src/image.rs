//! The images of a pod: fetched before its holder starts, so that a pod whose image cannot be had leaves nothing.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pod_images::{Config, Credentials, Reference, Store};
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

fn opened(root: &Path) -> Result<Store, String> {
    let store = Store::open(&root.join("images")).map_err(|error| told(&error))?;
    Ok(store.with_credentials(credentials()?))
}

/// Names and passwords from where docker keeps them; without such a file there are none.
fn credentials() -> Result<Credentials, String> {
    let place = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let Some(path) = place.or_else(home).map(|place| place.join("config.json")) else {
        return Ok(Credentials::default());
    };
    let refused = |error: &dyn std::error::Error| format!("read {}: {}", path.display(), told(error));
    match fs::read(&path) {
        Ok(json) => Credentials::of_docker_config(&json).map_err(|error| refused(&error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Credentials::default()),
        Err(error) => Err(refused(&error)),
    }
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
        None => store.insert(opened(root)?),
    };
    let image = store.ensure(&reference, policy).map_err(|error| told(&error))?;
    Ok(Image { layers: image.layers, config: image.config })
}

//! From the first document of an image to its layers: the one image of an index that is meant.

use std::collections::BTreeSet;
use std::io::Read;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Digest;
use crate::config::Config;
use crate::error::Problem;
use crate::oci::{DOCKER_LIST, Descriptor, INDEX, ImageConfig, Index, Manifest, REF_NAME};
use crate::pack::architecture;
use crate::verify::document;

/// A place that holds blobs by their digests.
pub(crate) trait Blobs {
    /// The bytes of a blob, not verified.
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + '_>, Problem>;
}

/// An image that was found.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Of its manifest; of its configuration where it has no manifest.
    pub(crate) digest: Digest,
    pub(crate) config: Config,
    /// From the bottom up.
    pub(crate) layers: Vec<LayerBlob>,
}

/// A layer, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct LayerBlob {
    pub(crate) at: At,
    /// The digest of its tar file.
    pub(crate) diff_id: Digest,
}

/// Where a layer is.
#[derive(Clone, Debug)]
pub(crate) enum At {
    Blob(Descriptor),
    /// In a docker archive.
    Path(String),
}

/// An index may hold indexes, but nobody nests them deeper.
const NESTING_LIMIT: usize = 4;
/// As many as docker allows; overlayfs has its limit at 500.
const LAYER_LIMIT: usize = 127;

/// The image of a layout that has this tag, or the only one.
pub(crate) fn in_layout(blobs: &impl Blobs, index: &[u8], tag: Option<&str>) -> Result<Chosen, Problem> {
    let index: Index = parsed("index.json", index)?;
    let named = |descriptor: &&Descriptor| {
        let Some(tag) = tag else { return true };
        names(descriptor).any(|name| name == tag || tag_of(name) == Some(tag))
    };
    let manifests: Vec<Descriptor> = index.manifests.iter().filter(named).cloned().collect();
    if let (Some(tag), true) = (tag, manifests.is_empty()) {
        let there: BTreeSet<&str> = index.manifests.iter().flat_map(names).collect();
        return Err(Problem::NotFound(format!("no tag {tag}; there is {}", listed(&there))));
    }
    let fitting = fitting(&manifests)?;
    let mut digests: Vec<&Digest> = fitting.iter().map(|descriptor| &descriptor.digest).collect();
    digests.sort_unstable();
    digests.dedup();
    if digests.len() > 1 {
        let name = |descriptor: &&Descriptor| {
            names(descriptor).next().map_or_else(|| descriptor.digest.to_string(), str::to_owned)
        };
        return Err(Problem::Ambiguous(fitting.iter().map(name).collect()));
    }
    from(blobs, fitting[0])
}

/// The image that a descriptor leads to, through indexes if need be.
pub(crate) fn from(blobs: &impl Blobs, descriptor: &Descriptor) -> Result<Chosen, Problem> {
    let mut descriptor = descriptor.clone();
    for _ in 0..NESTING_LIMIT {
        let what = format!("the manifest {}", descriptor.digest);
        let bytes = document(blobs.open(&descriptor)?, &what, &descriptor)?;
        if !is_index(&descriptor, &bytes) {
            let manifest: Manifest = parsed(&what, &bytes)?;
            return image(blobs, descriptor.digest, &manifest);
        }
        let index: Index = parsed(&what, &bytes)?;
        descriptor = fitting(&index.manifests)?[0].clone();
    }
    Err(Problem::malformed("the index", &format!("holds indexes deeper than {NESTING_LIMIT}")))
}

/// What a configuration and its layers make together.
pub(crate) fn chosen(digest: Digest, config: &[u8], layers: Vec<At>) -> Result<Chosen, Problem> {
    let config: ImageConfig = parsed("the configuration", config)?;
    let architecture = architecture();
    let is_ours = config.architecture.is_empty() || config.architecture == architecture;
    if !is_ours || !matches!(config.os.as_str(), "" | "linux") {
        let offered = vec![format!("{}/{}", config.os, config.architecture)];
        return Err(Problem::NoPlatform { wanted: architecture, offered });
    }
    if layers.len() != config.rootfs.diff_ids.len() {
        let why = format!("has {} layers, the manifest {}", config.rootfs.diff_ids.len(), layers.len());
        return Err(Problem::malformed("the configuration", &why));
    }
    if !(1..=LAYER_LIMIT).contains(&layers.len()) {
        let why = format!("has {} layers: there must be 1 to {LAYER_LIMIT}", layers.len());
        return Err(Problem::malformed("the manifest", &why));
    }
    let layers = layers.into_iter().zip(config.rootfs.diff_ids);
    let layers = layers.map(|(at, diff_id)| LayerBlob { at, diff_id }).collect();
    let config = Option::<Config>::deserialize(config.config);
    let config = config.map_err(|error| Problem::malformed("the configuration", &error))?.unwrap_or_default();
    Ok(Chosen { digest, config, layers })
}

/// A JSON document, or where it is wrong.
pub(crate) fn parsed<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::malformed(what, &error))
}

fn image(blobs: &impl Blobs, digest: Digest, manifest: &Manifest) -> Result<Chosen, Problem> {
    let config = document(blobs.open(&manifest.config)?, "the configuration", &manifest.config)?;
    chosen(digest, &config, manifest.layers.iter().cloned().map(At::Blob).collect())
}

fn is_index(descriptor: &Descriptor, bytes: &[u8]) -> bool {
    match descriptor.media_type.as_str() {
        INDEX | DOCKER_LIST => true,
        "" => parsed::<Index>("", bytes).is_ok(),
        _ => false,
    }
}

/// Those that run here, at least one.
fn fitting(manifests: &[Descriptor]) -> Result<Vec<&Descriptor>, Problem> {
    let wanted = architecture();
    let fits = |descriptor: &&Descriptor| {
        descriptor
            .platform
            .as_ref()
            .is_none_or(|platform| platform.os == "linux" && platform.architecture == wanted)
    };
    let fitting: Vec<&Descriptor> = manifests.iter().filter(fits).collect();
    if fitting.is_empty() {
        let mut offered: Vec<String> = manifests
            .iter()
            .filter_map(|descriptor| descriptor.platform.as_ref())
            .map(|platform| format!("{}/{}", platform.os, platform.architecture))
            .collect();
        if offered.is_empty() {
            offered.push("nothing".to_owned());
        }
        return Err(Problem::NoPlatform { wanted, offered });
    }
    Ok(fitting)
}

/// What an image is called in an index.
fn names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    [REF_NAME, "io.containerd.image.name"].into_iter().filter_map(|key| {
        let name = descriptor.annotations.get(key)?;
        Some(name.as_str())
    })
}

/// Some tools write only the tag there, and some the whole name.
fn tag_of(name: &str) -> Option<&str> {
    name.rsplit_once(':').map(|(_, tag)| tag)
}

fn listed(names: &BTreeSet<&str>) -> String {
    let names: Vec<&str> = names.iter().copied().collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

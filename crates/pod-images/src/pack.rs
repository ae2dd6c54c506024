//! Image archives as we make them: the same bytes for the same inputs.

#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::io;

use serde::Serialize;
use serde_json::Value;
use tar::{Builder, EntryType};

pub use tree::Tree;

use crate::Digest;
use crate::oci::{
    CONFIG, Descriptor, INDEX, ImageConfig, Index, LAYER, MANIFEST, Manifest, Platform, REF_NAME, Rootfs,
};
use tree::header;

/// What goes into an image: all of it, so that nothing of this machine or this moment can.
#[derive(Clone, Debug)]
pub struct Image {
    /// The reference that runtimes import it as.
    pub name: String,
    /// In the words of Go, such as `amd64`.
    pub architecture: String,
    /// How the container runs, in the words of the OCI image configuration.
    pub config: Value,
    /// From the bottom up.
    pub layers: Vec<Layer>,
}

/// A layer as it is packed.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What the image calls it, such as `application/vnd.oci.image.layer.v1.tar+gzip`.
    pub media_type: String,
    /// The tar file, compressed or not.
    pub blob: Vec<u8>,
    /// Of the tar file before it was compressed.
    pub diff_id: Digest,
}

impl Layer {
    /// A tar file, not compressed.
    pub fn of_tar(tar: Vec<u8>) -> Self {
        Self { media_type: LAYER.to_owned(), diff_id: Digest::of(&tar), blob: tar }
    }
}

impl Image {
    /// The image's configuration, as a blob.
    pub fn config_blob(&self) -> Vec<u8> {
        json(&ImageConfig {
            architecture: self.architecture.clone(),
            os: "linux".to_owned(),
            config: self.config.clone(),
            rootfs: Rootfs {
                kind: "layers".to_owned(),
                diff_ids: self.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            },
        })
    }
}

/// An OCI layout: blobs, and an index of the images among them.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: Vec<Descriptor>,
}

impl Layout {
    /// A layout of one image.
    pub fn of(image: &Image) -> Self {
        let mut layout = Self::default();
        layout.add(image);
        layout
    }

    /// Adds an image: one more name, or one more platform of a name that is there. The digest of its manifest.
    pub fn add(&mut self, image: &Image) -> Digest {
        let layers =
            image.layers.iter().map(|layer| self.keep(&layer.media_type, layer.blob.clone())).collect();
        let config = self.keep(CONFIG, image.config_blob());
        let manifest = Manifest { schema_version: 2, media_type: MANIFEST.to_owned(), config, layers };
        let mut manifest = self.keep(MANIFEST, json(&manifest));
        manifest.platform = Some(Platform {
            architecture: image.architecture.clone(),
            os: "linux".to_owned(),
            variant: None,
        });
        for key in ["io.containerd.image.name", REF_NAME] {
            manifest.annotations.insert(key.to_owned(), image.name.clone());
        }
        let digest = manifest.digest.clone();
        self.manifests.push(manifest);
        digest
    }

    /// Every file of the layout by its path.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let index =
            Index { schema_version: 2, media_type: INDEX.to_owned(), manifests: self.manifests.clone() };
        let mut files = self.blobs.clone();
        files.insert("index.json".to_owned(), json(&index));
        files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files
    }

    /// The layout in a tar file, as `ctr image import`, `podman load` and `skopeo` take it.
    pub fn archive(&self) -> io::Result<Vec<u8>> {
        let files = self.files();
        tar_of(files.iter().map(|(path, bytes)| (path.as_str(), 0o644, bytes.as_slice())))
    }

    /// Keeps a blob under its digest.
    fn keep(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let digest = Digest::of(&bytes);
        let size = bytes.len() as u64;
        self.blobs.insert(format!("blobs/{}/{}", digest.algorithm(), digest.hexadecimal()), bytes);
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A tar file of files of root's, each with path, mode and bytes, from the beginning of time.
pub fn tar_of<'a>(files: impl Iterator<Item = (&'a str, u32, &'a [u8])>) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = header(EntryType::Regular, mode);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, path, bytes)?;
    }
    archive.into_inner()
}

/// This machine, in the words of Go, which are those of images.
pub fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("our documents have string keys only")
}

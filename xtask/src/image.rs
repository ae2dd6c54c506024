//! `cargo xtask image`: OCI archives, the same bytes for the same inputs.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::build;
use crate::workspace::dist;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// `target/dist/pause.tar`: one file, one layer, nobody's user.
pub(crate) fn pause() -> Result<PathBuf> {
    let program = build::pause()?;
    let bytes = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    let image = Image {
        name: concat!("fairlead.dev/pause:", env!("CARGO_PKG_VERSION")),
        architecture: architecture()?,
        config: json!({ "User": "65535:65535", "Entrypoint": ["/pause"] }),
        files: vec![("pause", bytes)],
    };
    let path = dist().join("pause.tar");
    fs::write(&path, image.archive()?).with_context(|| format!("write {}", path.display()))?;
    eprintln!("xtask: {} is {}", path.display(), image.name);
    Ok(path)
}

/// What goes into an image: all of it, so that nothing of this machine or this moment can.
struct Image {
    name: &'static str,
    architecture: &'static str,
    /// How the container runs, in the words of the OCI image configuration.
    config: Value,
    /// Programs by path from the root.
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Image {
    /// An OCI layout in a tar file, as `ctr image import`, `podman load` and `skopeo` take it.
    fn archive(&self) -> Result<Vec<u8>> {
        let mut blobs = BTreeMap::new();
        let layer = tar_of(self.files.iter().map(|(path, bytes)| (*path, 0o755, bytes.as_slice())))?;
        let layer = keep(&mut blobs, LAYER, layer);
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = keep(&mut blobs, CONFIG, config.to_string().into_bytes());
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let mut manifest = keep(&mut blobs, MANIFEST, manifest.to_string().into_bytes());
        manifest["platform"] = json!({ "architecture": self.architecture, "os": "linux" });
        manifest["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name,
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest],
        });
        blobs.insert("index.json".to_owned(), index.to_string().into_bytes());
        blobs.insert(
            "oci-layout".to_owned(),
            json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes(),
        );
        tar_of(blobs.iter().map(|(path, bytes)| (path.as_str(), 0o644, bytes.as_slice())))
    }
}

/// Keeps a blob under its digest; its descriptor.
fn keep(blobs: &mut BTreeMap<String, Vec<u8>>, media_type: &str, bytes: Vec<u8>) -> Value {
    let digest = digest(&bytes);
    let descriptor =
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() });
    blobs.insert(format!("blobs/sha256/{digest}"), bytes);
    descriptor
}

/// SHA-256, in hexadecimal.
fn digest(bytes: &[u8]) -> String {
    let mut digest = String::new();
    for byte in Sha256::digest(bytes) {
        write!(digest, "{byte:02x}").expect("a string takes any text");
    }
    digest
}

/// Files of root's, from the beginning of time.
fn tar_of<'a>(files: impl Iterator<Item = (&'a str, u32, &'a [u8])>) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        for set in [Header::set_uid, Header::set_gid, Header::set_mtime] {
            set(&mut header, 0);
        }
        archive.append_data(&mut header, path, bytes).with_context(|| format!("pack {path}"))?;
    }
    archive.into_inner().context("end the archive")
}

/// This machine, in the words of Go, which are those of images.
fn architecture() -> Result<&'static str> {
    match ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no image for {other}: pause knows x86_64 and aarch64"),
    }
}

//! `cargo xtask image`: OCI archives, the same bytes for the same inputs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pod_images::pack::{Image, Layer, Layout, architecture, tar_of};
use serde_json::json;

use crate::build;
use crate::workspace::dist;

/// `target/dist/pause.tar`: one file, one layer, nobody's user.
pub(crate) fn pause() -> Result<PathBuf> {
    let program = build::pause()?;
    let bytes = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    let layer = tar_of([("pause", 0o755, bytes.as_slice())].into_iter()).context("pack pause")?;
    let image = Image {
        name: concat!("fairlead.dev/pause:", env!("CARGO_PKG_VERSION")).to_owned(),
        architecture: architecture().to_owned(),
        config: json!({ "User": "65535:65535", "Entrypoint": ["/pause"] }),
        layers: vec![Layer::of_tar(layer)],
    };
    let path = dist().join("pause.tar");
    let archive = Layout::of(&image).archive().context("pack the image of pause")?;
    fs::write(&path, archive).with_context(|| format!("write {}", path.display()))?;
    eprintln!("xtask: {} is {}", path.display(), image.name);
    Ok(path)
}

//! `cargo xtask image`: OCI archives, the same bytes for the same inputs.

mod debian;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pod_images::pack::{Image, Layer, Layout, Tree, architecture, tar_of};
use serde_json::{Value, json};

use crate::build;
use crate::workspace::dist;

/// `target/dist/pause.tar`: one file, one layer, nobody's user.
pub(crate) fn pause() -> Result<PathBuf> {
    let program = build::pause()?;
    let bytes = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    let layer = tar_of([("pause", 0o755, bytes.as_slice())].into_iter()).context("pack pause")?;
    let config = json!({ "User": "65535:65535", "Entrypoint": ["/pause"] });
    write("pause", config, vec![Layer::of_tar(layer)])
}

/// `target/dist/fairlead.tar`: Debian's iptables of both backends with what they need, and above it `fairlead`, which
/// is `kube-proxy` by its other name.
pub(crate) fn fairlead() -> Result<PathBuf> {
    let program = build::fairlead()?;
    let bytes = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    let (mut system, mut ours) = (Tree::default(), Tree::default());
    debian::unpack(architecture(), &mut system)?;
    ours.file("usr/local/bin/fairlead", 0o755, bytes);
    ours.link("usr/local/bin/kube-proxy", "fairlead");
    let layers = [system, ours].map(|tree| tree.tar().map(Layer::of_tar));
    let layers = layers.into_iter().collect::<std::io::Result<_>>().context("pack fairlead")?;
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let config = json!({ "User": "0:0", "Env": [path], "Entrypoint": ["/usr/local/bin/kube-proxy"] });
    write("fairlead", config, layers)
}

/// Takes the newest packages for the image of `fairlead`.
pub(crate) fn relock() -> Result<()> {
    debian::relock(architecture())
}

/// Writes an image's archive into the place of what is installed.
fn write(program: &str, config: Value, layers: Vec<Layer>) -> Result<PathBuf> {
    let image = Image {
        name: format!("fairlead.dev/{program}:{}", env!("CARGO_PKG_VERSION")),
        architecture: architecture().to_owned(),
        config,
        layers,
    };
    let path = dist().join(format!("{program}.tar"));
    let archive = Layout::of(&image).archive().with_context(|| format!("pack the image of {program}"))?;
    fs::write(&path, archive).with_context(|| format!("write {}", path.display()))?;
    eprintln!("xtask: {} is {}", path.display(), image.name);
    Ok(path)
}

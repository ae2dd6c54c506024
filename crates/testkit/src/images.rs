//! Images made by hand: layers entry by entry, honest or hostile, in every form that an image comes in.
//!
//! ```no_run
//! use testkit::images::{Compression, LayerTar, busybox, docker_archive, image, packed};
//! use pod_images::pack::Layout;
//!
//! let greeting = LayerTar::default().file("etc/greeting", 0o644, b"hello\n").end();
//! let mut image = busybox("example.com/greeting:1");
//! image.layers.push(packed(&greeting, Compression::Gzip));
//! let oci = Layout::of(&image).archive()?;
//! let docker = docker_archive(&image)?;
//! # std::io::Result::Ok(())
//! ```

mod layer_tar;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::write::GzEncoder;
use pod_images::Digest;
use pod_images::pack::{Image, Layer, Layout, architecture, tar_of};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};

pub use layer_tar::{Kind, LayerTar, TarEntry};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// As most images.
    Gzip,
    /// As some newer ones.
    Zstd,
}

/// An image of layers for this machine, run as `config` says in the words of the OCI image configuration.
pub fn image(name: &str, config: Value, layers: Vec<Layer>) -> Image {
    Image { name: name.to_owned(), architecture: architecture().to_owned(), config, layers }
}

/// A layer as images hold it.
pub fn packed(tar: &[u8], compression: Compression) -> Layer {
    let diff_id = Digest::of(tar);
    let blob = compressed(tar, compression);
    let ending = match compression {
        Compression::None => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
    };
    Layer { media_type: format!("application/vnd.oci.image.layer.v1.tar{ending}"), blob, diff_id }
}

/// Bytes, compressed.
///
/// # Panics
///
/// If memory cannot be written to.
pub fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes any bytes")
        }
        Compression::Zstd => compress_to_vec(bytes, CompressionLevel::Fastest),
    }
}

/// Writes the layout as a directory.
pub fn write_layout(layout: &Layout, directory: &Path) -> io::Result<()> {
    for (path, bytes) in layout.files() {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap_or(directory))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// The image as `docker save` writes it: layers not compressed are the usual thing, compressed ones are allowed.
pub fn docker_archive(image: &Image) -> io::Result<Vec<u8>> {
    let config = image.config_blob();
    let config_name = format!("{}.json", Digest::of(&config).hexadecimal());
    let layer_name = |layer: &Layer| format!("{}/layer.tar", layer.diff_id.hexadecimal());
    let layers: Vec<String> = image.layers.iter().map(layer_name).collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": [image.name], "Layers": layers }]);
    let mut files = BTreeMap::from([
        (config_name.clone(), config),
        ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
    ]);
    files.extend(image.layers.iter().map(|layer| (layer_name(layer), layer.blob.clone())));
    tar_of(files.iter().map(|(path, bytes)| (path.as_str(), 0o644, bytes.as_slice())))
}

/// An image in which a shell runs: Debian's static busybox under every name that it answers to, the directories
/// that a runtime mounts over, and users.
///
/// # Panics
///
/// If busybox-static is not installed; `cargo xtask test` sees to it.
pub fn busybox(name: &str) -> Image {
    let config = json!({
        "Cmd": ["sh"],
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
        "WorkingDir": "/",
    });
    image(name, config, vec![packed(&busybox_tar(), Compression::Gzip)])
}

/// The same as a root file system, in a directory that is there and empty.
///
/// # Panics
///
/// If busybox-static is not installed, or the directory cannot be written to.
pub fn busybox_root(directory: &Path) {
    let tar = busybox_tar();
    let mut archive = tar::Archive::new(tar.as_slice());
    archive.set_preserve_permissions(true);
    archive.unpack(directory).expect("unpack busybox");
}

/// The layer of [`busybox`].
fn busybox_tar() -> Vec<u8> {
    let program = busybox_program();
    let bytes = fs::read(&program).expect("read busybox");
    let listed = Command::new(&program).arg("--list").output().expect("start busybox");
    let names = String::from_utf8(listed.stdout).expect("names in ASCII");

    let mut tar = LayerTar::default();
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "usr", "usr/local", "usr/local/bin", "var"]
    {
        tar = tar.directory(directory, 0o755);
    }
    tar = tar.directory("tmp", 0o1777).file("bin/busybox", 0o755, &bytes);
    for name in names.lines().filter(|name| *name != "busybox") {
        tar = tar.symlink(&format!("bin/{name}"), "busybox");
    }
    tar.symlink("usr/bin", "../bin")
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        )
        .file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")
        .end()
}

/// Debian's static busybox.
fn busybox_program() -> PathBuf {
    let places = ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from);
    places.into_iter().find(|place| place.exists()).expect("busybox-static is installed")
}

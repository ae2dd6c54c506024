//! A store in a directory of the test's own, and what a container would see of an image.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use kernel_io::namespaces::{Namespace, Namespaces};
use kernel_io::process::Launch;
use pod_images::pack::{Image as Packed, Layout};
use pod_images::{Image, ImageError, Limits, PullPolicy, Store};
use serde_json::json;
use tempfile::TempDir;
use testkit::images::{Compression, LayerTar, image, packed};

pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) store: Store,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(&directory.path().join("store")).expect("a store");
        Self { directory, store }
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        let Self { directory, store } = Self::new();
        Self { directory, store: store.with_limits(limits) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file in the world.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).expect("write a file");
        self.path(name)
    }

    /// The image of a reference, whose path lies in the world.
    pub(crate) fn ensure(&self, kind: &str, name: &str) -> Result<Image, ImageError> {
        let reference = format!("{kind}:{}", self.path(name).display());
        self.store.ensure(&reference.parse().expect("a reference"), PullPolicy::IfNotPresent)
    }

    /// The image of these layers, by way of an OCI archive.
    pub(crate) fn of_layers(&self, layers: Vec<LayerTar>) -> Result<Image, ImageError> {
        let archive = Layout::of(&of_layers(layers)).archive().expect("an archive");
        self.file("layers.tar", &archive);
        self.ensure("oci-archive", "layers.tar")
    }

    /// Why there is no such image, as a person reads it, with the name of the image cut off.
    pub(crate) fn refusal(&self, kind: &str, name: &str) -> String {
        told(&self.ensure(kind, name).expect_err("it is refused"))
    }

    /// What is in the store besides its locks, by name.
    pub(crate) fn kept(&self, name: &str) -> usize {
        fs::read_dir(self.path("store").join(name)).expect("list the store").count()
    }

    /// What a shell prints in a container of the image, whose root is the layers laid over each other.
    pub(crate) fn seen(&self, image: &Image, script: &str) -> String {
        let places = tempfile::tempdir_in(self.directory.path()).expect("a directory");
        let [upper, work, at] = ["upper", "work", "at"].map(|name| places.path().join(name));
        for directory in [&upper, &work, &at] {
            fs::create_dir(directory).expect("make a directory");
        }
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        let holder =
            Launch::new(sleep).in_new(&[Namespace::Mount]).dying_with_us().start().expect("start sleep");
        let mounts = Namespaces::of_process(holder.process.pid(), &[Namespace::Mount]).expect("its mounts");
        let output = mounts.run(|| {
            image.mount(&at, &upper, &work).expect("mount the image");
            Command::new("sh").args(["-c", script]).current_dir(&at).output().expect("start sh")
        });
        let output = output.expect("enter its mounts");
        holder.process.signal(kernel_io::process::Signal::KILL).expect("end sleep");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

pub(crate) fn of_layers(layers: Vec<LayerTar>) -> Packed {
    let layers = layers.into_iter().map(|tar| packed(&tar.end(), Compression::None)).collect();
    image("example.com/app:v1", json!({ "Cmd": ["/app"] }), layers)
}

/// An error with its causes, without the name of the image.
pub(crate) fn told(error: &ImageError) -> String {
    let mut text = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

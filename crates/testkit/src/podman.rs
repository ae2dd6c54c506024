//! Debian's podman and runc with nothing of the machine's. It is to be started in namespaces of its own, with an empty
//! /run.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{cni, debian};

/// A place where podman keeps what it has; dropped, the cgroups of its pods go too.
#[derive(Debug)]
pub struct Podman {
    directory: TempDir,
    path: String,
    cgroup: String,
}

impl Podman {
    /// Makes the place. Its pods shall be told `--cgroup-parent` [`Podman::cgroup`].
    ///
    /// # Panics
    ///
    /// If podman cannot be fetched, or files cannot be written.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("make a directory");
        configure(directory.path()).expect("configure podman");
        let programs = debian::unpacked("podman").join("usr/bin");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let cgroup = format!("/fairlead-podman-{}", std::process::id());
        Self { directory, path, cgroup }
    }

    /// The cgroup of its pods.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Where the network of [`cni::bridged`] keeps its addresses.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The policy that takes every image, for `--signature-policy`.
    pub fn policy(&self) -> std::path::PathBuf {
        self.directory.path().join("policy.json")
    }

    /// Makes a command find podman and its settings.
    pub fn settle(&self, command: &mut Command) {
        command.env("PATH", &self.path).env("CONTAINERS_CONF", self.directory.path().join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.directory.path().join("storage.conf"));
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // What was killed with its namespace has nobody to tidy up after it; deepest first.
        let everywhere = r#"find /sys/fs/cgroup/*"$0" -depth -type d -exec rmdir {} + 2> /dev/null"#;
        let _ = Command::new("sh").args(["-c", everywhere, &self.cgroup]).status(); // they may be gone
    }
}

fn configure(directory: &Path) -> io::Result<()> {
    let at = |name: &str| directory.join(name).display().to_string();
    fs::write(at("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
    let storage =
        format!("[storage]\ndriver = \"vfs\"\nrunroot = {:?}\ngraphroot = {:?}\n", at("run"), at("root"));
    fs::write(at("storage.conf"), storage)?;
    // Not crun: it refuses where version 2 of the cgroups has no controllers and version 1 has them all.
    let settings = format!(
        "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\ntmp_dir = {:?}\n\
         volume_path = {:?}\nstatic_dir = {:?}\n[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [{:?}]\n\
         network_config_dir = {:?}\n",
        at("tmp"),
        at("volumes"),
        at("static"),
        cni::plugins().display().to_string(),
        at("networks")
    );
    fs::write(at("containers.conf"), settings)?;
    fs::create_dir(at("networks"))?;
    fs::write(at("networks/10-pods.conflist"), cni::bridged(&directory.join("addresses")))
}

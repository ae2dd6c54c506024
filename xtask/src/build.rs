//! `cargo xtask build`: the programs that a user installs, static and stripped, in `target/dist`.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::{cargo, dist, host, root, run};

/// Everything; `pause` comes with `fairlead`, which carries it.
pub(crate) fn all() -> Result<()> {
    init()?;
    fairlead()?;
    Ok(())
}

/// The program that holds a pod.
pub(crate) fn pause() -> Result<PathBuf> {
    artefact("pause", "", |_| ())
}

/// The program that is a container's process 1.
pub(crate) fn init() -> Result<PathBuf> {
    artefact("init", "", |_| ())
}

/// The program for everything else; the `pause` in it is the one that is installed.
pub(crate) fn fairlead() -> Result<PathBuf> {
    let pause = pause()?;
    // At an address of its own each time it would have half a megabyte of pointers, written at each start and shared by
    // no two processes: docs/adr/0012-a-holder-at-rest.md.
    artefact("fairlead", FIXED, |build| {
        build.env("FAIRLEAD_PAUSE", pause);
    })
}

/// A kube-proxy newer than the one of the cluster tests, as a peer. It takes minutes, once.
pub(crate) fn newest_kube_proxy() -> Result<PathBuf> {
    let directory = root().join("target/newest-kube-proxy");
    let program = directory.join("kube-proxy");
    if program.exists() {
        return Ok(program);
    }
    let draft = directory.with_extension("draft");
    fs::create_dir_all(&draft).with_context(|| format!("make {}", draft.display()))?;
    // An unstamped build would be of no version, and its feature gates are those of a version.
    let stamp = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
                 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";
    let mut go = Command::new("go");
    go.current_dir(root().join("tests/newest-kube-proxy"));
    go.args(["build", "-trimpath", "-ldflags", stamp, "-o"]).arg(&draft).arg("tool");
    run(&mut go)?;
    fs::rename(&draft, &directory).with_context(|| format!("install {}", directory.display()))?;
    Ok(program)
}

/// For a program that lies where its file says.
const FIXED: &str = "-C relocation-model=static";

/// Builds a package for the machine's own target, named explicitly: so the flags for a static program do not reach
/// the build scripts and the procedural macros, which cannot be static.
fn artefact(package: &str, model: &str, with: impl FnOnce(&mut Command)) -> Result<PathBuf> {
    let host = host()?;
    let target = root().join("target");
    let flags =
        format!("{} -C target-feature=+crt-static {model}", env::var("RUSTFLAGS").unwrap_or_default());
    let arguments =
        ["build", "--quiet", "--release", "--package", package, "--target", &host, "--target-dir"];
    let mut build = cargo(arguments);
    build.arg(&target).env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", flags.trim());
    with(&mut build);
    run(&mut build)?;

    let built = target.join(&host).join("release").join(package);
    let installed = dist().join(package);
    let program = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    // What includes a program is built anew when its file is.
    if fs::read(&installed).is_ok_and(|there| there == program) {
        return Ok(installed);
    }
    // By way of a rename: the program that is replaced may be running.
    let fresh = dist().join(format!(".{package}.{}", std::process::id()));
    fs::create_dir_all(dist()).with_context(|| format!("make {}", dist().display()))?;
    fs::copy(&built, &fresh).with_context(|| format!("copy {}", built.display()))?;
    fs::rename(&fresh, &installed).with_context(|| format!("install {}", installed.display()))?;
    Ok(installed)
}

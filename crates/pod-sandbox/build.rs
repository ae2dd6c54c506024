//! Carries `pause` into this crate, and so into `fairlead`: the one that `FAIRLEAD_PAUSE` names, else one that is
//! built here, so that a plain `cargo build` carries one too.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=FAIRLEAD_PAUSE");
    let pause = env::var_os("FAIRLEAD_PAUSE").map_or_else(built_here, PathBuf::from);
    println!("cargo::rerun-if-changed={}", pause.display());
    println!("cargo::rustc-env=FAIRLEAD_PAUSE={}", pause.display());
}

/// By a Cargo of its own, in a folder of its own: the one that runs us holds the other.
fn built_here() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for source in ["build.rs", "pause.ld", "src", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join("crates/pause").join(source).display());
    }
    let target = variable("TARGET");
    let folder = Path::new(&variable("OUT_DIR")).join("pause");
    let built = Command::new(variable("CARGO"))
        .args(["build", "--quiet", "--release", "--package", "pause", "--target", &target, "--target-dir"])
        .arg(&folder)
        .current_dir(&workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env_remove("RUSTC_WORKSPACE_WRAPPER") // clippy, which would check it and build nothing
        .status();
    assert!(built.is_ok_and(|status| status.success()), "build pause for {target}");
    folder.join(target).join("release/pause")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("Cargo sets {name}"))
}

//! The image of `pause`, as `cargo xtask image pause` writes it.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn two_runs_write_the_same_archive() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist/pause.tar");
    let write = || {
        fs::remove_file(&archive).ok();
        let written =
            Command::new(env!("CARGO_BIN_EXE_xtask")).args(["image", "pause"]).status().expect("start xtask");
        assert!(written.success());
        fs::read(&archive).expect("read the archive")
    };
    assert!(write() == write());
}

//! The images, as `cargo xtask image` writes them.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn two_runs_write_the_same_archive() {
    for program in ["pause", "fairlead"] {
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/dist/{program}.tar"));
        let write = || {
            fs::remove_file(&archive).ok();
            let written = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["image", program]).status();
            assert!(written.expect("start xtask").success());
            fs::read(&archive).expect("read the archive")
        };
        assert!(write() == write(), "{program}");
    }
}

//! Overlays in a mount namespace of the test's own.

use std::fs;
use std::path::{Path, PathBuf};

use super::Overlay;
use crate::namespaces::{Namespace, Namespaces};
use crate::process::Launch;

/// Mounts layers that each hold one file, and tells what the topmost of them is seen to hold.
fn seen_through(root: &Path, layers: usize) -> String {
    let lower: Vec<PathBuf> = (0..layers).map(|number| root.join(format!("layer{number}"))).collect();
    for (number, layer) in lower.iter().enumerate() {
        fs::create_dir(layer).expect("make a layer");
        fs::write(layer.join("same"), number.to_string()).expect("write into it");
        fs::write(layer.join(format!("own{number}")), "").expect("write into it");
    }
    let [upper, work, at] = ["upper", "work", "at"].map(|name| root.join(name));
    for directory in [&upper, &work, &at] {
        fs::create_dir(directory).expect("make a directory");
    }
    let mut sleep = std::process::Command::new("sleep");
    sleep.arg("60");
    let process =
        Launch::new(sleep).in_new(&[Namespace::Mount]).dying_with_us().start().expect("start sleep");
    let inside = Namespaces::of_process(process.process.pid(), &[Namespace::Mount]).expect("its mounts");
    let seen = inside.run(|| {
        Overlay { lower: &lower, upper: &upper, work: &work }.mount(&at).expect("mount");
        fs::write(at.join("written"), "").expect("write through it");
        assert_eq!(fs::read_dir(&at).expect("list it").count(), layers + 2);
        fs::read_to_string(at.join("same")).expect("read through it")
    });
    assert!(upper.join("written").exists());
    assert!(!at.join("same").exists(), "mounted nowhere else");
    seen.expect("enter its mounts")
}

#[test]
fn the_last_layer_is_the_topmost() {
    let root = tempfile::tempdir().expect("a directory");
    assert_eq!(seen_through(root.path(), 3), "2");
}

#[test]
fn paths_that_mean_something_to_the_kernel_or_are_long() {
    let root = tempfile::tempdir().expect("a directory");
    for name in ["a:b", "a,b", r"a\b"] {
        let root = root.path().join(name);
        fs::create_dir(&root).expect("make a directory");
        assert_eq!(seen_through(&root, 2), "1");
    }
    let long = root.path().join("l".repeat(200));
    fs::create_dir(&long).expect("make a directory");
    assert_eq!(seen_through(&long, 127), "126");
}

#[test]
fn a_directory_that_is_missing_is_an_error() {
    let nowhere = PathBuf::from("/nowhere");
    let overlay = Overlay { lower: std::slice::from_ref(&nowhere), upper: &nowhere, work: &nowhere };
    let error = overlay.mount(&nowhere).expect_err("no such directory");
    assert_eq!(error.to_string(), "mount an overlay of 1 layers at /nowhere");
}

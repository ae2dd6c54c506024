use std::os::unix::fs::symlink;

use super::*;

/// The listed files and noticed paths, as text below the root.
fn listed(root: &Path) -> (Vec<String>, Vec<String>) {
    let below = |path: &Path| path.strip_prefix(root).expect("below the root").display().to_string();
    let mut noticed = Vec::new();
    let listing = list(root, &mut |path| noticed.push(below(path))).expect("a directory");
    (listing.files.keys().map(|path| below(Path::new(path))).collect(), noticed)
}

#[test]
fn manifests_at_any_depth_but_no_hidden_ones() {
    let root = tempfile::tempdir().unwrap();
    for directory in ["sub/deep", ".git", "old~", "dir.yaml"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    for file in [
        "b.yaml",
        "a.json",
        "c.yml",
        "README.md",
        ".b.yaml.swp",
        ".c.yaml",
        "d.yaml~",
        "sub/x.yaml",
        "sub/deep/y.yaml",
        ".git/z.yaml",
        "old~/z.yaml",
        "dir.yaml/z.yaml",
    ] {
        fs::write(root.path().join(file), "").unwrap();
    }
    let (files, noticed) = listed(root.path());
    assert_eq!(files, ["a.json", "b.yaml", "c.yml", "dir.yaml/z.yaml", "sub/deep/y.yaml", "sub/x.yaml"]);
    assert_eq!(noticed, ["", "dir.yaml", "sub", "sub/deep"]);
}

#[test]
fn links_are_followed_once() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("..2024/sub")).unwrap();
    fs::write(root.path().join("..2024/web.yaml"), "").unwrap();
    fs::write(root.path().join("..2024/sub/x.yaml"), "").unwrap();
    for (target, link) in [
        ("..2024", "..data"),
        ("..data/web.yaml", "web.yaml"),
        ("..data/sub", "sub"),
        (".", "circle"),
        ("nowhere", "dangling.yaml"),
    ] {
        symlink(target, root.path().join(link)).unwrap();
    }
    let (files, noticed) = listed(root.path());
    assert_eq!(files, ["sub/x.yaml", "web.yaml"]);
    assert_eq!(noticed, ["", "sub", "web.yaml"]);
}

#[test]
fn a_missing_root_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let error = list(&root.path().join("missing"), &mut |_| ()).expect_err("nothing there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

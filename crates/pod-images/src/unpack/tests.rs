//! Tar files of a hostile mind, and of none at all.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use testkit::images::{Kind, LayerTar, TarEntry};

use super::{Limits, unpack};

/// Everything in and below a directory that could tell of a change.
fn snapshot(directory: &Path) -> Vec<(String, u32, u64, i64)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let about = fs::symlink_metadata(&path).expect("look at it");
        let time = about.mtime() * 1_000_000_000 + about.mtime_nsec();
        found.push((path.display().to_string(), about.mode() ^ about.uid(), about.nlink(), time));
        if about.is_dir() {
            open.extend(fs::read_dir(&path).expect("list it").map(|entry| entry.expect("an entry").path()));
        }
    }
    found.sort();
    found
}

/// Nothing but what a layer may hold.
fn has_devices(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).expect("list it").map(|entry| entry.expect("an entry").path());
    entries.into_iter().any(|path| {
        let about = fs::symlink_metadata(&path).expect("look at it");
        let kind = about.file_type();
        kind.is_block_device()
            || (kind.is_char_device() && about.rdev() != 0)
            || (about.is_dir() && has_devices(&path))
    })
}

fn word() -> impl Strategy<Value = String> {
    let words =
        ["a", "b", "c", "..", ".", "", ".wh.a", ".wh.b", ".wh..", ".wh...", ".wh..wh..opq", "up", "out"];
    prop::sample::select(words.map(str::to_owned).to_vec())
}

fn path() -> impl Strategy<Value = String> {
    vec(word(), 0..5).prop_map(|words| words.join("/"))
}

/// Where links lead: anywhere, and to what must not be touched.
fn target() -> impl Strategy<Value = String> {
    let outside = ["../../outside", "../outside", "/OUTSIDE", "..", "/", "../../../../../../.."];
    prop_oneof![path(), prop::sample::select(outside.map(str::to_owned).to_vec())]
}

fn entry() -> impl Strategy<Value = (String, u8, String)> {
    (path(), 0..8_u8, target())
}

fn layer(entries: &[(String, u8, String)], outside: &str) -> Vec<u8> {
    let mut tar = LayerTar::default();
    for (path, kind, target) in entries {
        let target = target.replace("/OUTSIDE", outside);
        let kind = match kind {
            0 => Kind::File(b"bytes"),
            1 | 2 => Kind::Directory,
            3 | 4 => Kind::Symlink(&target),
            5 => Kind::HardLink(&target),
            6 => Kind::Character(0, 0),
            _ => Kind::Block(8, 0),
        };
        tar = tar.entry(&TarEntry { owner: (1, 1), modified: 1, ..TarEntry::new(path, kind, 0o4777) });
    }
    tar.end()
}

fn unpacked(tar: &[u8], directory: &Path, below: &[&Path]) -> bool {
    let limits = Limits { bytes: 1 << 20, entries: 1000 };
    let open = |path: &Path| File::open(path).expect("open a directory").into();
    unpack(tar, open(directory), below.iter().map(|path| open(path)).collect(), limits, 0).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the entries: what lies outside stays as it is, and no device is made.
    #[test]
    fn nothing_gets_out(layers in vec(vec(entry(), 0..12), 1..4)) {
        let world = tempfile::tempdir().expect("a directory");
        let [outside, inside] = ["outside", "store"].map(|name| world.path().join(name));
        fs::create_dir(&outside).expect("make a directory");
        fs::create_dir(&inside).expect("make a directory");
        fs::write(outside.join("secret"), "secret").expect("write a file");
        let directories: Vec<_> = (0..layers.len()).map(|number| inside.join(number.to_string())).collect();
        for directory in &directories {
            fs::create_dir(directory).expect("make a directory");
        }
        let before = snapshot(&outside);
        for (number, entries) in layers.iter().enumerate() {
            let (below, above) = directories.split_at(number);
            let below: Vec<&Path> = below.iter().rev().map(|path| &**path).collect();
            let lower: Vec<_> = below.iter().map(|path| snapshot(path)).collect();
            let tar = layer(entries, outside.to_str().expect("text"));
            let _ = unpacked(&tar, &above[0], &below);
            prop_assert_eq!(&lower, &below.iter().map(|path| snapshot(path)).collect::<Vec<_>>());
        }
        prop_assert_eq!(before, snapshot(&outside));
        prop_assert_eq!(fs::read_dir(&inside).expect("list it").count(), layers.len());
        prop_assert_eq!(fs::read_dir(world.path()).expect("list it").count(), 2);
        prop_assert!(!has_devices(&inside));
    }

    /// Bytes that somebody has meddled with give a layer or an error, and an end.
    #[test]
    fn meddled_bytes_end(entries in vec(entry(), 0..6), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut tar = layer(&entries, "/nowhere");
        for (at, byte) in changes {
            let at = at.index(tar.len());
            tar[at] = byte;
            // The checksum is made right again, so that what is behind it is reached.
            let start = at / 512 * 512;
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&tar[start..start + 512]);
            header.set_cksum();
            tar[start..start + 512].copy_from_slice(header.as_bytes());
        }
        let _ = unpacked(&tar, directory.path(), &[]);
    }
}

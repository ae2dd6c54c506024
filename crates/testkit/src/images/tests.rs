//! Other people's tools can read what the builder makes.

use std::io::Read;
use std::process::Command;

use super::{Compression, Kind, LayerTar, TarEntry, busybox_root, compressed};

#[test]
fn a_layer_is_what_tar_reads() {
    let long = format!("{}/file", "d".repeat(120));
    let owned = TarEntry {
        owner: (1000, 1001),
        modified: 1,
        attributes: &[("user.colour", b"blue")],
        ..TarEntry::new("owned", Kind::File(b"text"), 0o4755)
    };
    let tar = LayerTar::default()
        .directory("etc", 0o750)
        .entry(&owned)
        .symlink("link", "/etc/passwd")
        .hard_link("other", "owned")
        .entry(&TarEntry::new("null", Kind::Character(1, 3), 0o666))
        .file(&long, 0o644, b"")
        .whiteout("etc/gone")
        .opaque("etc")
        .end();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), tar).expect("write it");
    let mut tar = Command::new("tar");
    tar.args(["--utc", "--numeric-owner", "-tvf"]).arg(file.path()).env("TZ", "UTC");
    let listed = tar.output().expect("start tar");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("text");
    let lines: Vec<String> =
        listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let long = format!("-rw-r--r-- 0/0 0 1970-01-01 00:00 {long}");
    let expected = [
        "drwxr-x--- 0/0 0 1970-01-01 00:00 etc",
        "-rwsr-xr-x 1000/1001 4 1970-01-01 00:00 owned",
        "lrwxrwxrwx 0/0 0 1970-01-01 00:00 link -> /etc/passwd",
        "hrw-r--r-- 0/0 0 1970-01-01 00:00 other link to owned",
        "crw-rw-rw- 0/0 1,3 1970-01-01 00:00 null",
        &long,
        "-rw-r--r-- 0/0 0 1970-01-01 00:00 etc/.wh.gone",
        "-rw-r--r-- 0/0 0 1970-01-01 00:00 etc/.wh..wh..opq",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn what_is_compressed_comes_out_again() {
    let bytes = b"the same words, the same words, the same words".repeat(100);
    let mut gzip = Vec::new();
    let packed = compressed(&bytes, Compression::Gzip);
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut gzip).expect("gzip");
    let mut zstd = Vec::new();
    let packed = compressed(&bytes, Compression::Zstd);
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(packed.as_slice()).expect("zstd");
    decoder.read_to_end(&mut zstd).expect("zstd");
    assert_eq!((&gzip, &zstd), (&bytes, &bytes));
}

#[test]
fn a_shell_runs_in_busybox() {
    let root = tempfile::tempdir().expect("a directory");
    busybox_root(root.path());
    let mut shell = Command::new("chroot");
    shell.arg(root.path()).args(["/bin/sh", "-c", "echo $(basename /a/hello) && id -un"]);
    let output = shell.output().expect("start chroot");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\nroot\n");
}

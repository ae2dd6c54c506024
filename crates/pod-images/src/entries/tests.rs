//! Tar files, whole and broken.

use std::io::Read;

use testkit::images::{Kind as Made, LayerTar, TarEntry};

use super::{Entries, Kind, TarError};

/// Path, kind and content of each entry.
fn read(tar: &[u8]) -> Result<Vec<(String, Kind, String)>, TarError> {
    let mut entries = Entries::new(tar);
    let mut found = Vec::new();
    while let Some(entry) = entries.next()? {
        let mut content = String::new();
        entries.read_to_string(&mut content).map_err(TarError::Read)?;
        found.push((String::from_utf8_lossy(&entry.path).into_owned(), entry.kind, content));
    }
    Ok(found)
}

/// A header of any kind with any content.
fn raw(kind: u8, path: &str, content: &[u8]) -> LayerTar {
    LayerTar::default().raw(&header(kind, path, content.len() as u64), content)
}

fn header(kind: u8, path: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(kind));
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_size(size);
    header.set_mode(0o644);
    for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
        set(&mut header, 0);
    }
    header.set_cksum();
    header
}

#[test]
fn every_kind_is_told_and_content_is_not_mixed_up() {
    let tar = LayerTar::default()
        .file("file", 0o644, b"content")
        .directory("directory", 0o755)
        .file("old-directory/", 0o755, b"")
        .symlink("link", "file")
        .entry(&TarEntry::new("pipe", Made::Fifo, 0o644))
        .file(&"long/".repeat(100), 0o644, b"")
        .file("last", 0o644, &[b'x'; 512])
        .end();
    let found = read(&tar).expect("a tar file");
    let kinds: Vec<Kind> = found.iter().map(|(_, kind, _)| *kind).collect();
    let expected = [
        Kind::File,
        Kind::Directory,
        Kind::Directory,
        Kind::Symlink,
        Kind::Fifo,
        Kind::Directory,
        Kind::File,
    ];
    assert_eq!(kinds, expected);
    assert_eq!((&*found[0].2, found[5].0.len(), found[6].2.len()), ("content", 500, 512));
}

#[test]
fn pax_records_change_the_next_entry_alone() {
    let records = b"13 path=name\n10 size=3\n22 mtime=1700000000.5\n11 uid=300\n";
    let tar = raw(b'x', "pax", records).raw(&header(b'0', "short", 0), b"abc").file("next", 0o644, b"").end();
    let mut entries = Entries::new(tar.as_slice());
    let first = entries.next().expect("whole").expect("an entry");
    assert_eq!(
        (&*first.path, first.size, first.owner.0, first.modified),
        (&b"name"[..], 3, 300, 1_700_000_000)
    );
    let next = entries.next().expect("whole").expect("an entry");
    assert_eq!((&*next.path, next.size, next.owner.0), (&b"next"[..], 0, 0));
    assert_eq!(entries.next().expect("whole"), None);
}

#[test]
fn what_describes_an_entry_is_limited() {
    for kind in [b'x', b'g', b'L', b'K'] {
        let tar = LayerTar::default().raw(&header(kind, "large", 1 << 30), b"").end();
        assert!(matches!(read(&tar), Err(TarError::Extension { size, .. }) if size == 1 << 30));
    }
}

#[test]
fn a_file_that_ends_early_is_no_shorter_file() {
    let whole = LayerTar::default().file("file", 0o644, &[b'x'; 700]).end();
    for end in [1, 511, 513, 1000, 1300] {
        assert!(matches!(read(&whole[..end]), Err(TarError::Read(_))), "{end}");
    }
    for end in [0, 1536, 2048] {
        assert!(read(&whole[..end]).is_ok(), "{end}");
    }
}

#[test]
fn broken_records_and_checksums() {
    for records in [
        "x",
        "5 a=b\n",
        "99 a=b\n",
        "0 \n",
        "6 ab=\n x",
        "14 path=name\n",
        "18446744073709551616 a=b\n",
        "-1 a=b\n",
    ] {
        let tar = raw(b'x', "pax", records.as_bytes()).file("file", 0o644, b"").end();
        assert!(matches!(read(&tar), Err(TarError::Header { .. })), "{records:?}");
    }
    let mut tar = LayerTar::default().file("file", 0o644, b"").end();
    tar[0] ^= 1;
    let error = read(&tar).expect_err("broken").to_string();
    assert_eq!(error, "no header of a tar file at byte 0: its checksum is wrong");
}

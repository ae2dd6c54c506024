//! A layer's tar file, entry by entry: nothing is checked, so that a hostile one can be made.

use tar::{EntryType, Header};

/// The longest path that a header holds.
const HEADER_PATH: usize = 100;

/// A tar file in the making.
#[derive(Clone, Debug, Default)]
pub struct LayerTar {
    bytes: Vec<u8>,
}

/// One entry, with nothing checked.
#[derive(Clone, Debug)]
pub struct TarEntry<'a> {
    /// As it is written: relative, absolute, with `..` in it.
    pub path: &'a str,
    /// What it is, and what it leads to.
    pub kind: Kind<'a>,
    /// Permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u64, u64),
    /// Seconds since 1970.
    pub modified: u64,
    /// Extended attributes.
    pub attributes: &'a [(&'a str, &'a [u8])],
}

/// What an entry is.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// With what is in it.
    File(&'a [u8]),
    /// A directory.
    Directory,
    /// To a path, anywhere.
    Symlink(&'a str),
    /// To an entry of the same layer, or so it should be.
    HardLink(&'a str),
    /// A character device, by major and minor number.
    Character(u32, u32),
    /// A block device, by major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

impl LayerTar {
    /// A file of root's.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        self.entry(&TarEntry::new(path, Kind::File(bytes), mode))
    }

    /// A directory of root's.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(&TarEntry::new(path, Kind::Directory, mode))
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(&TarEntry::new(path, Kind::Symlink(target), 0o777))
    }

    /// A hard link.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(&TarEntry::new(path, Kind::HardLink(target), 0o644))
    }

    /// Takes a path of the layers below away.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let (directory, name) =
            path.rsplit_once('/').map_or(("", path), |(directory, name)| (directory, name));
        let separator = if directory.is_empty() { "" } else { "/" };
        self.file(&format!("{directory}{separator}.wh.{name}"), 0o644, b"")
    }

    /// Takes everything away that the layers below have in a directory.
    #[must_use]
    pub fn opaque(self, directory: &str) -> Self {
        self.file(&format!("{directory}/.wh..wh..opq"), 0o644, b"")
    }

    /// Any entry.
    #[must_use]
    pub fn entry(mut self, entry: &TarEntry<'_>) -> Self {
        if !entry.attributes.is_empty() {
            let records: Vec<u8> = entry
                .attributes
                .iter()
                .flat_map(|(name, value)| record(&format!("SCHILY.xattr.{name}"), value))
                .collect();
            self = self.raw(&header("pax", EntryType::XHeader, records.len()), &records);
        }
        if entry.path.len() > HEADER_PATH {
            let path = [entry.path.as_bytes(), b"\0"].concat();
            self = self.raw(&header("././@LongLink", EntryType::GNULongName, path.len()), &path);
        }
        let (kind, content, target, numbers) = match entry.kind {
            Kind::File(bytes) => (EntryType::Regular, bytes, "", None),
            Kind::Directory => (EntryType::Directory, &[][..], "", None),
            Kind::Symlink(target) => (EntryType::Symlink, &[][..], target, None),
            Kind::HardLink(target) => (EntryType::Link, &[][..], target, None),
            Kind::Character(major, minor) => (EntryType::Char, &[][..], "", Some((major, minor))),
            Kind::Block(major, minor) => (EntryType::Block, &[][..], "", Some((major, minor))),
            Kind::Fifo => (EntryType::Fifo, &[][..], "", None),
        };
        let mut header = header(entry.path, kind, content.len());
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(entry.modified);
        put(&mut header.as_old_mut().linkname, target.as_bytes());
        if let (Some((major, minor)), Some(header)) = (numbers, header.as_ustar_mut()) {
            header.set_device_major(major);
            header.set_device_minor(minor);
        }
        header.set_cksum();
        self.raw(&header, content)
    }

    /// A header as it is, and what follows it up to the next block.
    #[must_use]
    pub fn raw(mut self, header: &Header, content: &[u8]) -> Self {
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// The tar file.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }
}

impl<'a> TarEntry<'a> {
    /// Root's, from the beginning of time.
    pub fn new(path: &'a str, kind: Kind<'a>, mode: u32) -> Self {
        Self { path, kind, mode, owner: (0, 0), modified: 0, attributes: &[] }
    }
}

/// A header with a path that may be anything.
fn header(path: &str, kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size as u64);
    for set in [Header::set_uid, Header::set_gid, Header::set_mtime] {
        set(&mut header, 0);
    }
    put(&mut header.as_old_mut().name, path.as_bytes());
    header.set_cksum();
    header
}

/// As much of a text as there is room for.
fn put(room: &mut [u8; HEADER_PATH], text: &[u8]) {
    let length = text.len().min(HEADER_PATH);
    room[..length].copy_from_slice(&text[..length]);
}

/// A record of a pax header, which begins with its own length.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = |length: usize| length.to_string().len();
    let length = rest + digits(rest + digits(rest));
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

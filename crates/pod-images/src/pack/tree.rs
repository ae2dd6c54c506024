//! A tree of files of root's, which becomes a layer: the same bytes, in whatever order it grew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use tar::{Builder, EntryType, Header};

/// Files and links by their paths from the root.
#[derive(Default)]
pub struct Tree(BTreeMap<String, Node>);

enum Node {
    File { mode: u32, bytes: Vec<u8> },
    Link { target: String },
}

impl Tree {
    /// Adds a file, in place of what has its path.
    pub fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        self.0.insert(path.to_owned(), Node::File { mode, bytes });
    }

    /// Adds a symbolic link, in place of what has its path.
    pub fn link(&mut self, path: &str, target: &str) {
        self.0.insert(path.to_owned(), Node::Link { target: target.to_owned() });
    }

    /// The tree as a tar file: directories first.
    pub fn tar(&self) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for directory in self.directories() {
            let mut header = header(EntryType::Directory, 0o755);
            archive.append_data(&mut header, directory, io::empty())?;
        }
        for (path, node) in &self.0 {
            match node {
                Node::File { mode, bytes } => {
                    let mut header = header(EntryType::Regular, *mode);
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path, bytes.as_slice())?;
                }
                Node::Link { target } => {
                    archive.append_link(&mut header(EntryType::Symlink, 0o777), path, target)?;
                }
            }
        }
        archive.into_inner()
    }

    fn directories(&self) -> BTreeSet<&Path> {
        let above = |path| Path::new(path).ancestors().skip(1);
        self.0.keys().flat_map(above).filter(|path| !path.as_os_str().is_empty()).collect()
    }
}

/// Of root's, from the beginning of time.
pub(super) fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    for set in [Header::set_uid, Header::set_gid, Header::set_mtime] {
        set(&mut header, 0);
    }
    header
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn the_order_in_which_it_grew_does_not_show() {
        let grown = |paths: [&str; 3]| {
            let mut tree = Tree::default();
            for path in paths {
                tree.file(path, 0o644, path.as_bytes().to_vec());
            }
            tree.link("sbin", "usr/sbin");
            tree.tar().expect("a tar file")
        };
        assert!(grown(["a/b/c", "a/d", "e"]) == grown(["e", "a/d", "a/b/c"]));
    }

    #[test]
    fn a_directory_comes_before_what_is_in_it() {
        let mut tree = Tree::default();
        tree.file("a/b/c", 0o755, Vec::new());
        let tar = tree.tar().expect("a tar file");
        let mut archive = tar::Archive::new(tar.as_slice());
        let paths = archive.entries().expect("entries").map(|entry| {
            entry.and_then(|entry| Ok(entry.path()?.to_string_lossy().into_owned())).expect("a path")
        });
        assert_eq!(paths.collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
    }
}

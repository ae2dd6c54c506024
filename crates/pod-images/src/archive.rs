//! Images on disk: layouts in directories, and archives of both kinds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::choose::{At, Blobs, Chosen, chosen, in_layout, parsed};
use crate::decompress::{Compression, compression, decompressed};
use crate::entries::{Entries, Kind};
use crate::error::Problem;
use crate::oci::Descriptor;
use crate::verify::{compare, unpromised};
use crate::{Digest, Limits};

/// A directory in the layout of the image specification.
pub(crate) struct Directory(PathBuf);

/// A tar file of which any part can be read.
pub(crate) struct Archive {
    path: PathBuf,
    file: File,
    members: BTreeMap<String, Member>,
}

enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

/// One image of `manifest.json`, as `docker save` writes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An archive holds three files an image and one a layer; more than this is no archive.
const MEMBER_LIMIT: usize = 100_000;
/// docker saves a layer that it has twice as a link to the other.
const LINK_LIMIT: usize = 8;

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Self, Problem> {
        if !path.is_dir() {
            return Err(Problem::NotFound(format!("{} is no directory", path.display())));
        }
        Ok(Self(path.to_owned()))
    }

    pub(crate) fn chosen(&self, tag: Option<&str>) -> Result<Chosen, Problem> {
        let path = self.0.join("index.json");
        let file = File::open(&path).map_err(|error| absent(&path, error))?;
        in_layout(self, &unpromised(file, "index.json")?, tag)
    }
}

impl Blobs for Directory {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + '_>, Problem> {
        let path = self.0.join(blob_path(&blob.digest));
        Ok(Box::new(File::open(&path).map_err(|error| absent(&path, error))?))
    }
}

impl Archive {
    /// Opens an archive; one that is compressed is decompressed into `scratch` first.
    pub(crate) fn open(path: &Path, scratch: &Path, limits: Limits) -> Result<Self, Problem> {
        let mut file = File::open(path).map_err(|error| absent(path, error))?;
        let cannot = || Problem::file("read", path);
        if !file.metadata().map_err(cannot())?.is_file() {
            return Err(Problem::NotFound(format!("{} is no file", path.display())));
        }
        let mut start = [0; 4];
        let count = file.read_at(&mut start, 0).map_err(cannot())?;
        if compression(&start[..count]) != Compression::None {
            let plain = decompressed(&file).map_err(cannot())?;
            let mut whole =
                tempfile::tempfile_in(scratch).map_err(Problem::file("write a file in", scratch))?;
            let size = io::copy(&mut plain.take(limits.bytes + 1), &mut whole).map_err(cannot())?;
            if size > limits.bytes {
                return Err(Problem::TooLarge { what: path.display().to_string(), limit: limits.bytes });
            }
            file = whole;
        }
        let members =
            members(&mut file).map_err(|why| Problem::malformed(path.display().to_string(), &why))?;
        Ok(Self { path: path.to_owned(), file, members })
    }

    /// The one image of an OCI layout.
    pub(crate) fn chosen(&self) -> Result<Chosen, Problem> {
        in_layout(self, &unpromised(self.member("index.json")?, "index.json")?, None)
    }

    /// The one image of a docker archive.
    pub(crate) fn chosen_by_docker(&self) -> Result<Chosen, Problem> {
        let manifest = unpromised(self.member("manifest.json")?, "manifest.json")?;
        let images: Vec<DockerImage> = parsed("manifest.json", &manifest)?;
        let [image] = &images[..] else {
            let names = |image: &DockerImage| image.repo_tags.clone().unwrap_or_default();
            return Err(match images.len() {
                0 => Problem::malformed("manifest.json", &"names no image"),
                _ => Problem::Ambiguous(images.iter().flat_map(names).collect()),
            });
        };
        let config = unpromised(self.member(&image.config)?, "the configuration")?;
        let digest = Digest::of(&config);
        let name = image.config.rsplit('/').next().unwrap_or_default();
        let promised = format!("sha256:{}", name.trim_end_matches(".json")).parse::<Digest>();
        if let Ok(promised) = promised {
            compare("the configuration", &promised, digest.clone())?;
        }
        chosen(digest, &config, image.layers.iter().cloned().map(At::Path).collect())
    }

    /// What the archive has under a path.
    pub(crate) fn member(&self, path: &str) -> Result<Box<dyn Read + '_>, Problem> {
        let mut name = normal(path.as_bytes());
        for _ in 0..LINK_LIMIT {
            match self.members.get(&name) {
                Some(Member::File { offset, size }) => {
                    return Ok(Box::new(Slice { file: &self.file, offset: *offset, left: *size }));
                }
                Some(Member::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(Problem::NotFound(format!("{} holds no {path}", self.path.display())))
    }
}

impl Blobs for Archive {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + '_>, Problem> {
        self.member(&blob_path(&blob.digest))
    }
}

/// Reads the headers alone.
fn members(file: &mut File) -> Result<BTreeMap<String, Member>, String> {
    let text = |error: io::Error| error.to_string();
    let length = file.seek(SeekFrom::End(0)).map_err(text)?;
    let mut members = BTreeMap::new();
    let mut offset = 0;
    loop {
        file.seek(SeekFrom::Start(offset)).map_err(text)?;
        let mut entries = Entries::new(BufReader::with_capacity(4096, &*file));
        let Some(entry) = entries.next().map_err(|error| error.to_string())? else { return Ok(members) };
        let content = offset + entries.offset();
        let end = content.checked_add(entry.size).filter(|end| *end <= length);
        let end = end.ok_or("the archive ends early")?;
        offset = end.next_multiple_of(512);
        let name = normal(&entry.path);
        match entry.kind {
            Kind::File => {
                members.insert(name, Member::File { offset: content, size: entry.size });
            }
            Kind::HardLink => drop(members.insert(name, Member::Link(normal(&entry.link)))),
            Kind::Symlink => {
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                let target = [parent.as_bytes(), b"/", &entry.link].concat();
                members.insert(name, Member::Link(normal(&target)));
            }
            Kind::Directory | Kind::Device | Kind::Fifo | Kind::Other(_) => {}
        }
        if members.len() > MEMBER_LIMIT {
            return Err(format!("more than {MEMBER_LIMIT} files"));
        }
    }
}

/// A path from the root of the archive, in one spelling.
fn normal(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            name => components.push(name),
        }
    }
    components.join("/")
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hexadecimal())
}

fn absent(path: &Path, error: io::Error) -> Problem {
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
        return Problem::NotFound(format!("there is no {}", path.display()));
    }
    Problem::file("open", path)(error)
}

/// A part of a file.
struct Slice<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

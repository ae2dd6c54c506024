//! The store: layers unpacked once, and what is known of each image.
//!
//! ```text
//! ROOT/layers/CHAIN     a layer, unpacked over those below it; the name is the hash of all their digests
//! ROOT/images/NAME      what an image is made of, as JSON; NAME is the hash of the reference
//! ROOT/locks/NAME       held while that image is fetched, so that it is fetched once
//! ROOT/lock             held while anything is fetched; held alone to throw away
//! ROOT/scratch          what is not finished
//! ```
//!
//! Whatever is in `layers` and `images` is whole: it was made in `scratch`, written to disk and renamed.

mod layer;
mod lock;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kernel_io::overlay::{Overlay, OverlayError};
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, Directory};
use crate::choose::{At, Blobs, Chosen};
use crate::config::Config;
use crate::error::{ImageError, Problem};
use crate::reference::Name;
use crate::registry::{Pulled, Registry};
use crate::{Credentials, Digest, Limits, Reference};
use lock::Lock;

/// An image that is here: its layers can be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// As it was asked for.
    pub name: String,
    /// Of its manifest, or of its configuration if it has none; a root file system has neither.
    pub digest: Option<Digest>,
    /// Directories, from the bottom up; a root file system is one.
    pub layers: Vec<PathBuf>,
    /// How its containers run.
    pub config: Config,
}

impl Image {
    /// Mounts the layers at a directory, for one container: what it writes goes to `upper`; `work` is the kernel's, on
    /// the same file system.
    pub fn mount(&self, at: &Path, upper: &Path, work: &Path) -> Result<(), OverlayError> {
        Overlay { lower: &self.layers, upper, work }.mount(at)
    }
}

/// Whether an image is pulled, in the words of a Pod. What is on disk is read whatever the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Ask the registry, even if the image is here.
    Always,
    /// Only if it is not here.
    IfNotPresent,
    /// Never.
    Never,
}

/// Images on disk.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    limits: Limits,
    credentials: Credentials,
}

/// What is known of an image.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    digest: Digest,
    chains: Vec<Digest>,
    config: Config,
}

impl Store {
    /// A store below a directory, made if it is not there. What was left unfinished is thrown away, if nobody
    /// works on it.
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        let store =
            Self { root: root.to_owned(), limits: Limits::default(), credentials: Credentials::default() };
        let opened = || {
            for name in ["images", "layers", "locks", "scratch"] {
                let path = root.join(name);
                fs::create_dir_all(&path).map_err(Problem::file("make the directory", &path))?;
            }
            // Programs of layers with other users' rights are nobody's business outside of containers.
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(root, private).map_err(Problem::file("close to others", root))?;
            match Lock::alone_if_free(&store.lock_path())? {
                Some(_lock) => store.clear_scratch(),
                None => Ok(()),
            }
        };
        opened().map_err(|problem| ImageError { image: format!("store {}", root.display()), problem })?;
        Ok(store)
    }

    /// The same store with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same store, pulling with these credentials.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// The image of a reference: read, or pulled, and unpacked, as far as it is not here already.
    pub fn ensure(&self, reference: &Reference, policy: PullPolicy) -> Result<Image, ImageError> {
        self.ensured(reference, policy)
            .map_err(|problem| ImageError { image: reference.to_string(), problem })
    }

    /// Forgets an image, and removes the layers that no other image has. Containers of it must be gone.
    /// Tells whether there was one.
    pub fn remove(&self, reference: &Reference) -> Result<Removed, ImageError> {
        let removed = || {
            let _alone = Lock::alone(&self.lock_path())?;
            let path = self.record_path(reference);
            let removed = match fs::remove_file(&path) {
                Ok(()) => Removed::Gone,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Removed::NeverThere,
                Err(error) => return Err(Problem::file("remove", &path)(error)),
            };
            self.remove_unused()?;
            Ok(removed)
        };
        removed().map_err(|problem| ImageError { image: reference.to_string(), problem })
    }

    /// The names of the images that are here.
    pub fn images(&self) -> Result<BTreeSet<String>, ImageError> {
        let records = self.records();
        let records = records
            .map_err(|problem| ImageError { image: format!("store {}", self.root.display()), problem })?;
        Ok(records.into_iter().map(|record| record.name).collect())
    }

    fn ensured(&self, reference: &Reference, policy: PullPolicy) -> Result<Image, Problem> {
        if let Reference::Rootfs(path) = reference {
            return root_file_system(reference, path);
        }
        let record_path = self.record_path(reference);
        let lock = self.root.join("locks").join(record_path.file_name().unwrap_or_default());
        let _once = Lock::alone(&lock)?;
        let _shared = Lock::shared(&self.lock_path())?;
        match reference {
            Reference::Rootfs(path) => root_file_system(reference, path),
            Reference::Oci { path, tag } => {
                let source = Directory::open(path)?;
                self.unpacked(reference, source.chosen(tag.as_deref())?, &source)
            }
            Reference::OciArchive(path) => {
                let source = Archive::open(path, &self.scratch(), self.limits)?;
                self.unpacked(reference, source.chosen()?, &source)
            }
            Reference::DockerArchive(path) => {
                let source = Archive::open(path, &self.scratch(), self.limits)?;
                self.unpacked(reference, source.chosen_by_docker()?, &source)
            }
            Reference::Registry(name) => {
                let here = if policy == PullPolicy::Always { None } else { self.recorded(reference)? };
                match (here, policy) {
                    (Some(image), _) => Ok(image),
                    (None, PullPolicy::Never) => Err(Problem::NeverPulled),
                    (None, PullPolicy::Always | PullPolicy::IfNotPresent) => self.pulled(reference, name),
                }
            }
        }
    }

    fn pulled(&self, reference: &Reference, name: &Name) -> Result<Image, Problem> {
        let scratch = self.scratch();
        let registry = Registry::new(name, &self.credentials, &scratch, self.limits)?;
        let pulled = registry.pulled()?;
        let image = self.unpacked(reference, pulled.chosen()?, &pulled)?;
        tracing::info!(image = %image.name, digest = ?image.digest, layers = image.layers.len(), "image pulled");
        Ok(image)
    }

    /// Unpacks the layers that are not here, and remembers the image.
    fn unpacked(
        &self,
        reference: &Reference,
        chosen: Chosen,
        source: &impl Layers,
    ) -> Result<Image, Problem> {
        let mut chains: Vec<Digest> = Vec::new();
        let mut taken = 0;
        for layer in &chosen.layers {
            let chain = match chains.last() {
                None => layer.diff_id.clone(),
                Some(below) => Digest::of(format!("{below} {}", layer.diff_id).as_bytes()),
            };
            let path = self.layer_path(&chain);
            if !path.is_dir() {
                let below: Vec<PathBuf> = chains.iter().rev().map(|chain| self.layer_path(chain)).collect();
                layer::unpack(source, layer, &below, &path, &self.scratch(), self.limits, &mut taken)?;
            }
            chains.push(chain);
        }
        let Chosen { digest, config, .. } = chosen;
        let record = Record { name: reference.to_string(), digest, chains, config };
        self.remember(reference, &record)?;
        Ok(self.image(record))
    }

    fn remember(&self, reference: &Reference, record: &Record) -> Result<(), Problem> {
        let path = self.record_path(reference);
        let written = || {
            let mut file = tempfile::NamedTempFile::new_in(self.scratch())?;
            file.write_all(&serde_json::to_vec(record).expect("a record has string keys only"))?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(io::Error::from)
        };
        written().map(drop).map_err(Problem::file("write", &path))
    }

    /// An image that is here whole.
    fn recorded(&self, reference: &Reference) -> Result<Option<Image>, Problem> {
        let path = self.record_path(reference);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Problem::file("read", &path)(error)),
        };
        let record = serde_json::from_slice::<Record>(&bytes).ok();
        Ok(record
            .map(|record| self.image(record))
            .filter(|image| image.layers.iter().all(|layer| layer.is_dir())))
    }

    fn records(&self) -> Result<Vec<Record>, Problem> {
        let directory = self.root.join("images");
        let read = |path: &Path| fs::read(path).map_err(Problem::file("read", path));
        let mut records = Vec::new();
        for path in listed(&directory)? {
            // A record of another version of ours: the image is fetched again when it is asked for.
            records.extend(serde_json::from_slice::<Record>(&read(&path)?));
        }
        Ok(records)
    }

    fn remove_unused(&self) -> Result<(), Problem> {
        let records = self.records()?;
        let used: BTreeSet<PathBuf> =
            records.iter().flat_map(|record| &record.chains).map(|chain| self.layer_path(chain)).collect();
        for path in listed(&self.root.join("layers"))? {
            if used.contains(&path) {
                continue;
            }
            // Half a layer is never seen among the whole ones, however this ends.
            let condemned = self.scratch().join(path.file_name().unwrap_or_default());
            fs::rename(&path, &condemned).map_err(Problem::file("move", &path))?;
            fs::remove_dir_all(&condemned).map_err(Problem::file("remove", &condemned))?;
        }
        Ok(())
    }

    fn clear_scratch(&self) -> Result<(), Problem> {
        for path in listed(&self.scratch())? {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Problem::file("remove", &path))?;
        }
        Ok(())
    }

    fn image(&self, record: Record) -> Image {
        Image {
            name: record.name,
            digest: Some(record.digest),
            layers: record.chains.iter().map(|chain| self.layer_path(chain)).collect(),
            config: record.config,
        }
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    fn layer_path(&self, chain: &Digest) -> PathBuf {
        self.root.join("layers").join(chain.hexadecimal())
    }

    fn record_path(&self, reference: &Reference) -> PathBuf {
        self.root.join("images").join(Digest::of(reference.to_string().as_bytes()).hexadecimal())
    }
}

/// What [`Store::remove`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The image, which is gone now.
    Gone,
    /// No such image.
    NeverThere,
}

/// A place that layers are read from.
trait Layers {
    fn layer(&self, at: &At) -> Result<Box<dyn io::Read + '_>, Problem>;
}

/// Where blobs are kept by digest alone.
fn layer_of_blobs<'a>(blobs: &'a impl Blobs, at: &At) -> Result<Box<dyn io::Read + 'a>, Problem> {
    match at {
        At::Blob(blob) => blobs.open(blob),
        At::Path(path) => Err(Problem::NotFound(format!("no layer has a path here, such as {path}"))),
    }
}

impl Layers for Directory {
    fn layer(&self, at: &At) -> Result<Box<dyn io::Read + '_>, Problem> {
        layer_of_blobs(self, at)
    }
}

impl Layers for Pulled<'_> {
    fn layer(&self, at: &At) -> Result<Box<dyn io::Read + '_>, Problem> {
        layer_of_blobs(self, at)
    }
}

impl Layers for Archive {
    fn layer(&self, at: &At) -> Result<Box<dyn io::Read + '_>, Problem> {
        match at {
            At::Blob(blob) => self.open(blob),
            At::Path(path) => self.member(path),
        }
    }
}

fn root_file_system(reference: &Reference, path: &Path) -> Result<Image, Problem> {
    if !path.is_dir() {
        return Err(Problem::NotFound(format!("{} is no directory", path.display())));
    }
    let layers = vec![path.to_owned()];
    Ok(Image { name: reference.to_string(), digest: None, layers, config: Config::default() })
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>, Problem> {
    let entries = fs::read_dir(directory).and_then(|entries| {
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<io::Result<Vec<_>>>()
    });
    entries.map_err(Problem::file("list", directory))
}

//! One layer: verified while it is unpacked, and there only when it is whole.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::syncfs;

use super::Layers;
use crate::choose::{At, LayerBlob};
use crate::decompress::decompressed;
use crate::entries::TarError;
use crate::error::Problem;
use crate::unpack::{UnpackError, unpack as unpack_tar};
use crate::verify::{Hashed, compare};
use crate::{Digest, Limits};

/// Unpacks a layer to `path`, over the layers `below`, the topmost first. What it takes is added to `taken`.
pub(super) fn unpack(
    source: &impl Layers,
    layer: &LayerBlob,
    below: &[PathBuf],
    path: &Path,
    scratch: &Path,
    limits: Limits,
    taken: &mut u64,
) -> Result<(), Problem> {
    let unfinished = tempfile::tempdir_in(scratch).map_err(Problem::file("make a directory in", scratch))?;
    let directory = unfinished.path().join("layer");
    let made = fs::create_dir(&directory).and_then(|()| {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        opened(&directory)
    });
    let fd = made.map_err(Problem::file("make the directory", &directory))?;
    let below = below.iter().map(|path| opened(path).map_err(Problem::file("open the layer", path)));
    let below = below.collect::<Result<Vec<_>, _>>()?;

    let before = *taken;
    *taken += verified(source, layer, |tar| unpack_tar(tar, fd, below, limits, before))?;

    // A machine that stops now must not find the name without what it names.
    let synced = opened(&directory).and_then(|fd| Ok(syncfs(&fd)?));
    synced.map_err(Problem::file("write to disk", &directory))?;
    match fs::rename(&directory, path) {
        // Another image with the same layer was faster.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) =>
        {
            Ok(())
        }
        renamed => renamed.map_err(Problem::file("put in its place", path)),
    }
}

/// Lets a layer's tar file be read, and fails unless it and its packed form are what was promised. How many bytes
/// it has.
fn verified(
    source: &impl Layers,
    layer: &LayerBlob,
    read: impl FnOnce(&mut dyn io::Read) -> Result<(), UnpackError>,
) -> Result<u64, Problem> {
    let (name, promised) = match &layer.at {
        At::Blob(blob) => (blob.digest.to_string(), Some(blob)),
        At::Path(path) => (path.clone(), None),
    };
    let what = format!("the layer {name}");
    let packed_digest = promised.map_or(&layer.diff_id, |blob| &blob.digest);
    let mut packed = Hashed::like(packed_digest, source.layer(&layer.at)?);
    let unpacked = through(&mut packed, &layer.diff_id, read);
    // What comes out of wrong bytes may be anything: that they are wrong is the better answer.
    if let Some(blob) = promised {
        packed.check(&what, blob)?;
    }
    let (found, count) = unpacked.map_err(|source| Problem::Layer { layer: name, source })?;
    compare(&format!("{what}, decompressed,"), &layer.diff_id, found)?;
    Ok(count)
}

/// Decompresses on the way: the digest and size of what came out.
fn through(
    packed: impl io::Read,
    diff_id: &Digest,
    read: impl FnOnce(&mut dyn io::Read) -> Result<(), UnpackError>,
) -> Result<(Digest, u64), UnpackError> {
    let mut tar = Hashed::like(diff_id, decompressed(packed).map_err(TarError::Read)?);
    read(&mut tar)?;
    let count = tar.count();
    Ok((tar.digest(), count))
}

fn opened(directory: &Path) -> io::Result<OwnedFd> {
    Ok(File::open(directory)?.into())
}

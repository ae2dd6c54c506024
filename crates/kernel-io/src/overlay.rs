//! Directories laid over each other.

#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use thiserror::Error;

/// Where an overlay comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// What is seen and never written, from the bottom up; at least one.
    pub lower: &'a [PathBuf],
    /// Takes what is written.
    pub upper: &'a Path,
    /// Empty, and on the file system of `upper`: the kernel's own.
    pub work: &'a Path,
}

/// An overlay that the kernel does not mount.
#[derive(Debug, Error)]
#[error("mount an overlay of {layers} layers at {}", at.display())]
pub struct OverlayError {
    /// How many lie below.
    pub layers: usize,
    /// Where it should have been.
    pub at: PathBuf,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

/// The kernel takes a page of options, its closing zero included.
const OPTIONS_LIMIT: usize = 4095;

impl Overlay<'_> {
    /// Mounts it at a directory that is there.
    pub fn mount(&self, at: &Path) -> Result<(), OverlayError> {
        let mounted = || {
            // The directories stay open until the mount is done, since their numbers may be in the options.
            let (options, _open) = self.options()?;
            let options = CString::new(options)?;
            Ok(mount("overlay", at, "overlay", MountFlags::empty(), Some(&*options))?)
        };
        let (layers, at) = (self.lower.len(), at.to_owned());
        mounted().map_err(|source| OverlayError { layers, at, source })
    }

    /// By path, as one wants to read it in /proc/mounts; if a path has signs that mean something there, or all of
    /// them are too long, by the numbers of open directories.
    fn options(&self) -> io::Result<(Vec<u8>, Vec<File>)> {
        let paths = self.lower.iter().rev().map(PathBuf::as_path).chain([self.upper, self.work]);
        let paths: Vec<&[u8]> = paths.map(|path| path.as_os_str().as_bytes()).collect();
        let is_plain = |path: &&[u8]| !path.iter().any(|byte| b",:\\".contains(byte));
        let options = joined(&paths);
        if paths.iter().all(is_plain) && options.len() <= OPTIONS_LIMIT {
            return Ok((options, Vec::new()));
        }
        let open = |path: &&[u8]| File::open(std::ffi::OsStr::from_bytes(path));
        let open = paths.iter().map(open).collect::<io::Result<Vec<_>>>()?;
        let paths: Vec<Vec<u8>> =
            open.iter().map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()).into_bytes()).collect();
        let paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
        Ok((joined(&paths), open))
    }
}

/// Lower directories from the top down, then the upper and the work directory, in the kernel's words.
fn joined(paths: &[&[u8]]) -> Vec<u8> {
    let (lower, [upper, work]) =
        paths.split_last_chunk::<2>().expect("an upper and a work directory are given");
    [b"lowerdir=", lower.join(&b':').as_slice(), b",upperdir=", upper, b",workdir=", work].concat()
}

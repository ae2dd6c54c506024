//! File systems of a pod that the node mounts for it.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use thiserror::Error;

/// A file system that could not be mounted or unmounted.
#[derive(Debug, Error)]
#[error("{verb} {}", path.display())]
pub struct MountError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Mounts memory at a directory, in which everybody may make files; root inside a user namespace may be its owner.
pub fn mount_memory(at: &Path, bytes: u64, owner: u32) -> Result<(), MountError> {
    let failed = |source| MountError { verb: "mount memory at", path: at.to_path_buf(), source };
    let options = CString::new(format!("mode=1777,size={bytes},uid={owner},gid={owner}"));
    let options = options.map_err(|error| failed(error.into()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"shm", at, c"tmpfs", flags, &*options).map_err(|errno| failed(errno.into()))
}

/// Unmounts whatever is mounted there, even if it is in use; what is not mounted is no error.
pub fn unmount_all(at: &Path) -> Result<(), MountError> {
    loop {
        match unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(errno) => {
                let path = at.to_path_buf();
                return Err(MountError { verb: "unmount", path, source: errno.into() });
            }
        }
    }
}

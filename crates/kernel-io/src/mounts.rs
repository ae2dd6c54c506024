//! File systems of a pod that the node mounts for it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, move_mount, open_tree, unmount,
};
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

/// Mounts a directory or file at another one as a user namespace shall see it: what belongs to number 0 belongs to the
/// namespace's root, and so on. The file system must be one that can do so (since Linux 5.12; memory since 6.3).
pub fn mount_for_users(from: &Path, at: &Path, users: &Path) -> Result<(), MountError> {
    let failed = |source| MountError { verb: "mount for a user namespace", path: from.to_path_buf(), source };
    let mounted = || {
        let users = File::open(users)?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, from, clone)?;
        map_owners(&tree, &users)?;
        move_mount(&tree, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(())
    };
    mounted().map_err(failed)
}

#[expect(unsafe_code, reason = "no library has a call for the attributes of mounts")]
fn map_owners(tree: &OwnedFd, users: &File) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(users.as_raw_fd()).map_err(io::Error::other)?,
    };
    // SAFETY: both descriptors are open as long as their owners; the kernel reads the path up to its zero and of
    // `attributes` as many bytes as it has.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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

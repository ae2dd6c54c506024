//! A second, real kernel as a process: User-Mode Linux, with the modules that the machine's own may lack.
//!
//! Its root is the machine's own file system, so a program that was built here runs there as it is. What runs there
//! is told by a file, never by how the kernel ends: it ends in the same way whatever happens.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kernel_io::namespaces::Namespace;
use kernel_io::process::{Launch, ProcessError, Signal};
use tempfile::TempDir;
use thiserror::Error;

/// The kernel, by its Debian package user-mode-linux.
const KERNEL: &str = "linux.uml";
const MODULES: &str = "/usr/lib/uml/modules";

/// What nothing there loads by itself.
const NEEDED: &str = "dummy veth sctp \
    ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_sh ip_vs_mh ip_vs_nq ip_vs_sed \
    ip_set ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet ip_set_bitmap_port \
    nf_conntrack nf_conntrack_netlink ip_tables iptable_nat iptable_filter iptable_mangle \
    ip6_tables ip6table_nat ip6table_filter ip6table_mangle \
    xt_addrtype xt_comment xt_conntrack xt_ipvs xt_mark xt_MASQUERADE xt_nat xt_recent xt_sctp xt_set \
    xt_statistic xt_tcpudp ipt_REJECT ip6t_REJECT";

/// What came of the program that ran there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status.
    pub status: u8,
    /// What it printed, on both of its outputs.
    pub output: String,
}

/// The program did not run to its end.
#[derive(Debug, Error)]
pub enum BootError {
    /// It is not installed.
    #[error("there is no second kernel here: install the packages user-mode-linux and kmod")]
    Missing,
    /// Its files could not be laid down or read.
    #[error("prepare the second kernel: {0}")]
    Io(#[from] io::Error),
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] ProcessError),
    /// It took too long, and was ended.
    #[error("the second kernel was ended after {limit:?}; so far it had said:\n{said}")]
    TooSlow {
        /// How long it had.
        limit: Duration,
        /// What was printed by then.
        said: String,
    },
    /// It ended, and the program had not.
    #[error("the second kernel ended before the program in it had; it said:\n{said}")]
    NoResult {
        /// What was printed by then.
        said: String,
    },
}

/// Boots the kernel, runs a program in it as root, and waits for both, but no longer than this.
pub fn run(program: &Path, arguments: &[&str], limit: Duration) -> Result<Ended, BootError> {
    let folder = tempfile::Builder::new().prefix("second-kernel-").tempdir()?;
    lay_down(&folder, &modules()?, program, arguments)?;
    let at = |name: &str| folder.path().join(name);
    let mut command = Command::new(KERNEL);
    command
        .args(["mem=1G", "rootfstype=hostfs", "rootflags=/", "rw", "con=null", "con0=fd:0,fd:1", "quiet"])
        .arg(format!("init={}", at("init").display()))
        .arg(format!("uml_dir={}/", folder.path().display()))
        .stdin(Stdio::null())
        .stdout(File::create(at("console"))?)
        .stderr(File::create(at("errors"))?);
    let launch = Launch::new(command).in_own_session().dying_with_us();
    // Its helpers are processes of their own: as process 1 it takes them along, however it ends.
    let launch = if rustix::process::geteuid().is_root() {
        launch.in_new(&[Namespace::Pid, Namespace::Mount]).with_own_proc()
    } else {
        launch
    };
    let kernel = launch.start()?.process;
    let said = || {
        let read = |name: &str| fs::read(at(name)).unwrap_or_default();
        let parts = ["errors", "console", "output"].map(read);
        parts.map(|part| String::from_utf8_lossy(&part).into_owned()).concat()
    };
    if kernel.wait_for(limit).is_none() {
        kernel.signal(Signal::KILL)?;
        kernel.wait();
        return Err(BootError::TooSlow { limit, said: said() });
    }
    let status = fs::read_to_string(at("status")).ok().and_then(|text| text.trim().parse().ok());
    let Some(status) = status else { return Err(BootError::NoResult { said: said() }) };
    Ok(Ended { status, output: String::from_utf8_lossy(&fs::read(at("output"))?).into_owned() })
}

/// The version of the kernel, as its modules tell it.
fn modules() -> Result<PathBuf, BootError> {
    let installed = || fs::read_dir(MODULES).ok()?.next()?.ok();
    installed().map(|entry| entry.path()).ok_or(BootError::Missing)
}

fn lay_down(folder: &TempDir, modules: &Path, program: &Path, arguments: &[&str]) -> Result<(), BootError> {
    let version = modules.file_name().unwrap_or_default().to_string_lossy();
    let path = folder.path();
    fs::create_dir_all(path.join("lib/modules"))?;
    symlink(modules, path.join("lib/modules").join(&*version))?;
    // The nft backend has no nat in that kernel.
    fs::create_dir(path.join("bin"))?;
    for tool in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            symlink("/usr/sbin/xtables-legacy-multi", path.join(format!("bin/{tool}{suffix}")))?;
        }
    }
    let path = path.display();
    let program = program.to_string_lossy();
    let words = [&*program].into_iter().chain(arguments.iter().copied());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    let line = words.join(" ");
    // Its attempts to load what is loaded already would take most of the time.
    let init = format!(
        "#!/bin/sh\n\
         export PATH={path}/bin:/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/run\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t tmpfs tmpfs /run\n\
         modprobe -a -d {path} -S {version} {NEEDED} || exec halt -f\n\
         echo >/proc/sys/kernel/modprobe\n\
         ip link set lo up\n\
        {line} >{path}/output 2>&1 </dev/null\n\
         echo $? >{path}/status\n\
         exec halt -f\n"
    );
    let script = folder.path().join("init");
    fs::write(&script, init)?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests;

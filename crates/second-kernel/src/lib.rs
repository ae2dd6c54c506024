//! A second, real kernel as a process: User-Mode Linux, with the modules that the machine's own may lack.
//!
//! Its root is the machine's own file system, so a program that was built here runs there as it is. What came of it is
//! told by a file, never by how the kernel ends: it ends in the same way whatever happens. [`Suite`] is a test program
//! whose tests run there.

mod suite;

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kernel_io::namespaces::Namespace;
use kernel_io::process::{Launch, Process, ProcessError, Signal};
use tempfile::TempDir;
use thiserror::Error;

pub use suite::{Share, Suite};

/// The kernel, by its Debian package user-mode-linux.
const KERNEL: &str = "linux.uml";
const MODULES: &str = "/usr/lib/uml/modules";

/// What nothing there loads by itself.
const NEEDED: &str = "dummy veth sctp overlay \
    ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_sh ip_vs_mh ip_vs_nq ip_vs_sed \
    ip_set ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet ip_set_bitmap_port \
    nf_conntrack nf_conntrack_netlink ip_tables iptable_nat iptable_filter iptable_mangle iptable_raw \
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

/// What shall run there, as root.
#[derive(Clone, Debug)]
pub struct Boot {
    program: PathBuf,
    arguments: Vec<String>,
    modules: Modules,
    limit: Duration,
}

/// What the kernel has besides its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modules {
    /// IPVS, ipset, iptables, and the links that tests need.
    Loaded,
    /// Nothing, and nothing can be loaded.
    None,
}

/// How often it is looked what was printed since.
const LISTEN: Duration = Duration::from_millis(100);

impl Boot {
    /// A program, for no longer than this.
    pub fn new(program: impl Into<PathBuf>, limit: Duration) -> Self {
        Self { program: program.into(), arguments: Vec::new(), modules: Modules::Loaded, limit }
    }

    /// With these arguments.
    #[must_use]
    pub fn arguments<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.arguments.extend(arguments.into_iter().map(str::to_owned));
        self
    }

    /// With other modules.
    #[must_use]
    pub fn modules(mut self, modules: Modules) -> Self {
        self.modules = modules;
        self
    }

    /// Boots, runs the program to its end, and answers what came of it.
    pub fn run(&self) -> Result<Ended, BootError> {
        self.run_telling(|_| ())
    }

    /// The same, and tells on the way what is printed there.
    pub fn run_telling(&self, mut told: impl FnMut(&[u8])) -> Result<Ended, BootError> {
        let folder = tempfile::Builder::new().prefix("second-kernel-").tempdir()?;
        self.lay_down(&folder, &modules()?)?;
        let at = |name: &str| folder.path().join(name);
        File::create(at("output"))?;
        let kernel = start(folder.path())?;
        let mut output = File::open(at("output"))?;
        let deadline = Instant::now() + self.limit;
        let mut printed = Vec::new();
        loop {
            let ended = kernel.wait_for(LISTEN);
            let before = printed.len();
            output.read_to_end(&mut printed)?;
            told(&printed[before..]);
            let said = || {
                let parts =
                    ["errors", "console", "output"].map(|name| fs::read(at(name)).unwrap_or_default());
                parts.map(|part| String::from_utf8_lossy(&part).into_owned()).concat()
            };
            match ended {
                Some(_) => {
                    let status = fs::read_to_string(at("status")).ok();
                    let status = status.and_then(|text| text.trim().parse().ok());
                    let Some(status) = status else { return Err(BootError::NoResult { said: said() }) };
                    return Ok(Ended { status, output: String::from_utf8_lossy(&printed).into_owned() });
                }
                None if deadline <= Instant::now() => {
                    kernel.signal(Signal::KILL)?;
                    kernel.wait();
                    return Err(BootError::TooSlow { limit: self.limit, said: said() });
                }
                None => {}
            }
        }
    }

    fn lay_down(&self, folder: &TempDir, modules: &Path) -> Result<(), BootError> {
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
        let program = self.program.to_string_lossy();
        let words = [&*program].into_iter().chain(self.arguments.iter().map(String::as_str));
        let words: Vec<String> = words.map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        let (path, line) = (path.display(), words.join(" "));
        let load = match self.modules {
            Modules::Loaded => format!("modprobe -a -d {path} -S {version} {NEEDED} || exec halt -f"),
            Modules::None => String::new(),
        };
        // Its attempts to load what is loaded already would take most of the time.
        let init = format!(
            "#!/bin/sh\n\
             export PATH={path}/bin:/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/run\n\
             mount -t proc proc /proc\n\
             mount -t sysfs sysfs /sys\n\
             mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
             mount -t tmpfs tmpfs /run\n\
             {load}\n\
             echo >/proc/sys/kernel/modprobe\n\
             ip link set lo up\n\
             {line} >>{path}/output 2>&1 </dev/null\n\
             echo $? >{path}/status\n\
             exec halt -f\n"
        );
        let script = folder.path().join("init");
        fs::write(&script, init)?;
        fs::set_permissions(&script, Permissions::from_mode(0o755))?;
        Ok(())
    }
}

/// The kernel as a process, with its files in this folder.
fn start(folder: &Path) -> Result<Process, BootError> {
    let at = |name: &str| folder.join(name);
    let mut command = Command::new(KERNEL);
    command
        .args(["mem=1G", "rootfstype=hostfs", "rootflags=/", "rw", "con=null", "con0=fd:0,fd:1", "quiet"])
        .arg(format!("init={}", at("init").display()))
        .arg(format!("uml_dir={}/", folder.display()))
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
    Ok(launch.start()?.process)
}

/// The version of the kernel, as its modules tell it.
fn modules() -> Result<PathBuf, BootError> {
    let installed = || fs::read_dir(MODULES).ok()?.next()?.ok();
    installed().map(|entry| entry.path()).ok_or(BootError::Missing)
}

#[cfg(test)]
mod tests;

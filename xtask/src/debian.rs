//! The Debian packages that the tests need, and nothing but the tests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::{output, root, run};

mod nft;

pub(crate) use nft::unpack_nft;

/// What is measured beside ours.
const PEERS: [(&str, &str); 6] = [
    ("ipset", "the ipvs mode's peer for sets"),
    ("libnl-genl-3-200", "ipvsadm, the ipvs mode's other peer, which is only unpacked"),
    ("libpopt0", "ipvsadm is linked with it"),
    ("haproxy", "the userspace mode's peer for connections"),
    ("nginx-light", "its other peer"),
    ("libnginx-mod-stream", "nginx as a relay of connections and datagrams"),
];

/// Each with its reason.
const PACKAGES: &[(&str, &str)] = &[
    ("busybox-static", "busybox: the programs in the images that tests make"),
    ("catatonit", "whose manners init has by that name"),
    ("containernetworking-plugins", "bridge, host-local, portmap: networks of pods by CNI plugins"),
    ("dumb-init", "whose manners init has by that name"),
    ("conmon", "podman, which is unpacked and not installed, starts pods by it"),
    ("crun", "makes the containers of fairlead pod"),
    ("etcd-server", "etcd: what the API server of the cluster tests keeps its objects in"),
    ("iproute2", "ip: the lab's namespaces and links"),
    ("iptables", "iptables-restore: the iptables mode on the real kernel"),
    ("kmod", "modprobe: the second kernel's modules"),
    ("libgpgme11", "podman is linked with it"),
    ("libsubid4", "likewise"),
    ("nftables", "nft: whether it lists and reloads what the nftables mode writes"),
    ("openssl", "the key that the API server of the cluster tests signs tokens with"),
    ("procps", "ps: what the demo shows of a pod"),
    ("runc", "runs fairlead from its image in the cluster tests, and containerd's pods"),
    ("strace", "pause's system calls, and how it takes their failures"),
    ("tini", "likewise"),
    ("user-mode-linux", "linux.uml: a second kernel that has IPVS"),
    ("util-linux", "unshare, nsenter, setpriv: pause as PID 1, and as nobody"),
];

/// Where the files of a package lie that is only unpacked, since a service would start with it if it were installed.
pub(crate) fn unpacked(package: &str) -> PathBuf {
    root().join("target/debian").join(package)
}

/// Fetches such a package and unpacks it, unless it is there.
pub(crate) fn unpack(package: &str) -> Result<()> {
    let files = unpacked(package);
    if files.exists() {
        return Ok(());
    }
    let directory = root().join("target/debian");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let draft = tempfile::tempdir_in(&directory).context("a directory to download to")?;
    update().context("as root: apt-get update")?;
    let mut download = Command::new("apt-get");
    download.args(["--quiet", "--option", "APT::Sandbox::User=root", "download", package]);
    output(download.current_dir(draft.path())).with_context(|| format!("fetch the package {package}"))?;
    let archive = fs::read_dir(draft.path())?.next().context("apt-get fetched a package")??.path();
    let whole = draft.path().join("files");
    output(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&whole))?;
    fs::rename(&whole, &files).with_context(|| format!("make {}", files.display()))
}

/// Installs what the tests need; as another user than root, or without apt, fails with the line to type.
pub(crate) fn install_missing() -> Result<()> {
    install(PACKAGES)
}

/// Installs what benchmarks compare with.
pub(crate) fn install_peers() -> Result<()> {
    install(&PEERS)
}

fn install(packages: &[(&'static str, &str)]) -> Result<()> {
    let listed = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .output();
    let listed = listed.context("start dpkg-query: the tests expect a Debian machine")?;
    let missing = missing(packages, &String::from_utf8_lossy(&listed.stdout));
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install --yes --no-install-recommends {}", missing.join(" "));
    eprintln!("xtask: {line}");
    let why = || format!("these packages are needed; as root: {line}");
    update().with_context(why)?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet").args(line.split(' ').skip(1));
    run(&mut install).with_context(why)
}

fn update() -> Result<String> {
    output(Command::new("apt-get").args(["--quiet", "update"]))
}

/// Which packages do not appear as installed.
fn missing(packages: &[(&'static str, &str)], listed: &str) -> Vec<&'static str> {
    let installed =
        |package: &str| listed.lines().any(|line| line.split_once(' ') == Some((package, "installed")));
    packages.iter().map(|(package, _)| *package).filter(|package| !installed(package)).collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn a_removed_package_is_missing() {
        let listed = "iproute2 installed\niptables config-files\nprocps installed\nutil-linux installed\n";
        let needed = [("iptables", "removed"), ("procps", "there"), ("strace", "never there")];
        assert_eq!(missing(&needed, listed), ["iptables", "strace"]);
    }
}

//! nft as other releases of Debian have it: unpacked with all its libraries, and never installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::unpacked;
use crate::workspace::{output, root};

/// One older than the machine's, and one younger.
const RELEASES: [&str; 2] = ["bullseye", "trixie"];

/// nft, and whatever it is linked with.
const PACKAGES: [&str; 12] = [
    "libbsd0",
    "libc6",
    "libedit2",
    "libgmp10",
    "libjansson4",
    "libmd0",
    "libmnl0",
    "libnftables1",
    "libnftnl11",
    "libtinfo6",
    "libxtables12",
    "nftables",
];

/// Fetches them, unless they are there. Answers those that cannot be had.
pub(crate) fn unpack_nft() -> Vec<String> {
    let missing =
        |release: &&str| unpack(release).map_err(|error| format!("nft of {release} ({error:#})")).err();
    RELEASES.iter().filter_map(missing).collect()
}

fn unpack(release: &str) -> Result<()> {
    let files = unpacked(&format!("nft-{release}"));
    if files.exists() {
        return Ok(());
    }
    let directory = root().join("target/debian");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let draft = tempfile::tempdir_in(&directory).context("a directory to download to")?;
    let draft = draft.path();
    for folder in ["lists/partial", "cache/archives/partial", "packages"] {
        fs::create_dir_all(draft.join(folder))?;
    }
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let line = format!("deb [signed-by={key}] http://deb.debian.org/debian {release} main\n");
    fs::write(draft.join("sources.list"), line)?;
    output(apt(draft).arg("update"))?;
    output(apt(draft).arg("download").args(PACKAGES).current_dir(draft.join("packages")))?;
    let whole = draft.join("files");
    for package in fs::read_dir(draft.join("packages"))? {
        output(Command::new("dpkg-deb").arg("--extract").arg(package?.path()).arg(&whole))?;
    }
    fs::rename(&whole, &files).with_context(|| format!("make {}", files.display()))
}

/// apt with lists of its own, and as if nothing were installed.
fn apt(draft: &Path) -> Command {
    let path = |name: &str| draft.join(name).display().to_string();
    let mut apt = Command::new("apt-get");
    apt.arg("--quiet");
    for option in [
        format!("Dir::Etc::sourcelist={}", path("sources.list")),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", path("lists")),
        "Dir::State::status=/dev/null".to_owned(),
        format!("Dir::Cache={}", path("cache")),
        "APT::Sandbox::User=root".to_owned(),
    ] {
        apt.args(["--option", &option]);
    }
    apt
}

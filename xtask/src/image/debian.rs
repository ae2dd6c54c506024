//! A layer of Debian packages, each of the version and with the bytes that a lock file names.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use pod_images::Digest;
use pod_images::pack::Tree;
use tar::{Archive, EntryType};

use crate::workspace::{output, root};

/// A package as the lock file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Locked {
    name: String,
    version: String,
    architecture: String,
    digest: Digest,
}

/// What of a package goes into the image: no documents but its licence, no translations, no character sets.
const LEFT_OUT: [&str; 8] = [
    "usr/share/doc/",
    "usr/share/man/",
    "usr/share/lintian/",
    "usr/share/bug/",
    "usr/share/locale/",
    "usr/share/iptables/",
    "usr/lib/x86_64-linux-gnu/gconv/",
    "usr/lib/aarch64-linux-gnu/gconv/",
];

/// Puts the packages of this architecture into a tree of files.
pub(super) fn unpack(architecture: &str, tree: &mut Tree) -> Result<()> {
    let text = fs::read_to_string(lock_file()).with_context(|| format!("read {}", lock_file().display()))?;
    let locked = parse(&text)?;
    let mut packages = locked.iter().filter(|package| package.architecture == architecture).peekable();
    ensure!(
        packages.peek().is_some(),
        "{} names no package for {architecture}; `cargo xtask image fairlead --relock` on such a machine adds them",
        lock_file().display()
    );
    packages.try_for_each(|package| package.unpack(tree))
}

/// Writes into the lock file what this machine's package sources have now, and leaves other architectures as they are.
pub(super) fn relock(architecture: &str) -> Result<()> {
    let text = fs::read_to_string(lock_file()).with_context(|| format!("read {}", lock_file().display()))?;
    let (head, locked) = (text.lines().take_while(|line| line.starts_with('#')), parse(&text)?);
    let mut lines: Vec<String> = head.map(str::to_owned).collect();
    for package in &locked {
        lines.push(if package.architecture == architecture { package.newest()? } else { package.line() });
    }
    fs::write(lock_file(), lines.join("\n") + "\n").context("write the lock file")
}

fn lock_file() -> PathBuf {
    root().join("deploy/image/debian.lock")
}

/// One package a line: name, version, architecture, digest.
fn parse(text: &str) -> Result<Vec<Locked>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|(number, line)| {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, version, architecture, digest] = words[..] else {
                bail!("deploy/image/debian.lock, line {}: not NAME VERSION ARCHITECTURE DIGEST", number + 1);
            };
            Ok(Locked {
                name: name.to_owned(),
                version: version.to_owned(),
                architecture: architecture.to_owned(),
                digest: digest
                    .parse()
                    .with_context(|| format!("deploy/image/debian.lock, line {}", number + 1))?,
            })
        })
        .collect()
}

impl Locked {
    fn line(&self) -> String {
        format!("{} {} {} {}", self.name, self.version, self.architecture, self.digest)
    }

    /// Its line with the version that the package sources offer now.
    fn newest(&self) -> Result<String> {
        let shown = output(Command::new("apt-cache").args(["policy", &self.name]))?;
        let candidate = shown.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        let version = candidate.with_context(|| format!("apt-cache offers no {}", self.name))?;
        let newest = Self { version: version.to_owned(), ..self.clone() };
        let bytes = fs::read(newest.fetch()?).context("read a package")?;
        Ok(Self { digest: Digest::of(&bytes), ..newest }.line())
    }

    /// The package's file, which is kept for the next time.
    fn fetch(&self) -> Result<PathBuf> {
        let directory = root().join("target/debian");
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        if let Some(path) = self.kept(&directory)? {
            return Ok(path);
        }
        self.download(&directory)?;
        self.kept(&directory)?.with_context(|| format!("apt-get downloaded no file for {}", self.name))
    }

    /// The file as apt names it: the last part is this architecture, or `all`.
    fn kept(&self, directory: &Path) -> Result<Option<PathBuf>> {
        let start = format!("{}_{}_", self.name, self.version.replace(':', "%3a"));
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with(&start) {
                return Ok(Some(directory.join(name)));
            }
        }
        Ok(None)
    }

    fn download(&self, directory: &Path) -> Result<()> {
        let wanted = format!("{}:{}={}", self.name, self.architecture, self.version);
        let mut download = Command::new("apt-get");
        // As who we are: its own user may not write here.
        download.args(["--quiet", "--option", "APT::Sandbox::User=root", "download", &wanted]);
        download.current_dir(directory);
        if output(&mut download).is_ok() {
            return Ok(());
        }
        // Its lists may be old, or not there yet.
        output(Command::new("apt-get").args(["--quiet", "update"]))?;
        output(&mut download).map(drop).with_context(|| {
            format!(
                "the package sources do not have {wanted} any more: `cargo xtask image fairlead --relock` takes what \
                 they have"
            )
        })
    }

    fn unpack(&self, tree: &mut Tree) -> Result<()> {
        let path = self.fetch()?;
        let found = Digest::of(&fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        ensure!(
            found == self.digest,
            "{} has digest {found}, and deploy/image/debian.lock says {}: remove it and try again",
            path.display(),
            self.digest
        );
        let unpacked = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&path).output();
        let unpacked = unpacked.context("start dpkg-deb")?;
        ensure!(unpacked.status.success(), "dpkg-deb cannot unpack {}", path.display());
        add(&unpacked.stdout, tree).with_context(|| format!("unpack {}", path.display()))
    }
}

/// Adds what a package's tar file holds.
fn add(tar: &[u8], tree: &mut Tree) -> Result<()> {
    for entry in Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().trim_start_matches("./").trim_end_matches('/').to_owned();
        let is_licence = path.ends_with("/copyright");
        if LEFT_OUT.iter().any(|left_out| path.starts_with(left_out)) && !is_licence {
            continue;
        }
        let mode = entry.header().mode()?;
        let kind = entry.header().entry_type();
        if kind == EntryType::Symlink {
            let target = entry.link_name()?.context("a link without a target")?;
            tree.link(&path, &target.to_string_lossy());
        } else if kind == EntryType::Regular {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            tree.file(&path, mode, bytes);
        } else {
            // Directories come with what is in them.
            ensure!(kind == EntryType::Directory, "{path}: {kind:?} has no place in an image");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_line_that_is_short_is_named() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(parse(&format!("# why\nnetbase 6.4 amd64 {digest}\n")).expect("a lock file").len(), 1);
        let error = parse("# why\nnetbase 6.4\n").expect_err("a short line");
        assert!(error.to_string().contains("line 2"), "{error}");
        let error = parse("netbase 6.4 amd64 sha256:0\n").expect_err("a short digest");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}

//! Programs of Debian packages that are not installed, since their installation would start a service.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The files of a package, below `target/debian/`; fetched if they are not there.
///
/// # Panics
///
/// If the package cannot be fetched or unpacked.
pub fn unpacked(package: &str) -> PathBuf {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debian");
    let files = all.join(package);
    if files.is_dir() {
        return files;
    }
    fs::create_dir_all(&all).expect("make target/debian");
    let scratch = tempfile::tempdir_in(&all).expect("make a directory in target/debian");
    if fetch(package, scratch.path()).is_err() {
        // The lists of a machine are as old as the machine.
        run(Command::new("apt-get").args(["--quiet", "update"])).expect("apt-get update");
        fetch(package, scratch.path()).expect("apt-get download");
    }
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let entries = fs::read_dir(scratch.path()).expect("list what was fetched");
    let fetched = entries.map(|entry| entry.expect("an entry").path()).find(is_package);
    let whole = scratch.path().join("files");
    run(Command::new("dpkg-deb").arg("--extract").arg(fetched.expect("a package")).arg(&whole))
        .expect("dpkg-deb");
    match fs::rename(&whole, &files) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        renamed => renamed.expect("name the files"),
    }
    files
}

fn fetch(package: &str, directory: &Path) -> io::Result<()> {
    let mut apt = Command::new("apt-get");
    // As root: the user that apt would rather be may not write here.
    apt.args(["--quiet", "--option", "APT::Sandbox::User=root", "download", package]).current_dir(directory);
    run(&mut apt)
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

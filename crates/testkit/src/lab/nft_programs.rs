//! The nft programs that must cope with what we write, or they would fail for everybody else on the host: the
//! machine's, and those of other releases of Debian that `cargo xtask test` has unpacked.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use kernel_io::netns::Netns;

/// One of them.
#[derive(Debug)]
pub(super) struct NftProgram {
    /// The program, and what it is always told.
    words: Vec<OsString>,
    listings: Listings,
}

/// What can be done with its listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listings {
    /// It can read them again.
    Read,
    /// It has no way to say a key with a number in it, and shows it as a mark.
    Shown,
}

/// The first release whose nft has such keys, as far as we have met them.
const NUMBERS_IN_KEYS: [u32; 3] = [1, 0, 6];

/// All that are here.
pub(super) fn all() -> &'static [NftProgram] {
    static ALL: OnceLock<Vec<NftProgram>> = OnceLock::new();
    ALL.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debian");
        let unpacked = paths_in(&folder, |name| name.starts_with("nft-"));
        let unpacked = unpacked.iter().filter_map(|root| words_of_unpacked(root));
        std::iter::once(vec!["nft".into()]).chain(unpacked).map(NftProgram::new).collect()
    })
}

/// It has to run with its own libraries, by its own loader.
fn words_of_unpacked(root: &Path) -> Option<Vec<OsString>> {
    let folders = ["usr/lib", "lib"].map(|folder| root.join(folder));
    let libraries: Vec<PathBuf> =
        folders.iter().flat_map(|folder| paths_in(folder, |name| name.ends_with("-linux-gnu"))).collect();
    let loader =
        libraries.iter().find_map(|folder| paths_in(folder, |name| name.starts_with("ld-linux")).pop())?;
    let path = std::env::join_paths(libraries).ok()?;
    Some(vec![loader.into(), "--library-path".into(), path, root.join("usr/sbin/nft").into()])
}

fn paths_in(folder: &Path, named: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| named(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect()
}

impl NftProgram {
    fn new(words: Vec<OsString>) -> Self {
        let mut program = Self { words, listings: Listings::Read };
        let version = program.command("--version").output().expect("nft starts");
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let numbers = version.split_once(" v").and_then(|(_, rest)| rest.split(' ').next());
        let numbers: Vec<u32> = numbers
            .into_iter()
            .flat_map(|text| text.split('.'))
            .filter_map(|part| part.parse().ok())
            .collect();
        assert_eq!(numbers.len(), 3, "{version:?} of {:?}", program.words);
        if numbers.as_slice() < NUMBERS_IN_KEYS.as_slice() {
            program.listings = Listings::Shown;
        }
        program
    }

    /// It must list what is there, also as JSON; and what it lists must be what it can read, and be the same again.
    pub(super) fn copes_with(&self, node: &Netns) -> Result<(), String> {
        let listed = self.run(node, "list ruleset")?;
        self.run(node, "-j list ruleset")?;
        if self.listings == Listings::Shown {
            return Ok(());
        }
        let elsewhere = Netns::new().map_err(|error| error.to_string())?;
        let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        fs::write(file.path(), &listed).map_err(|error| error.to_string())?;
        self.run(&elsewhere, &format!("-f {}", file.path().display()))?;
        let again = self.run(&elsewhere, "list ruleset")?;
        if sorted(&again) == sorted(&listed) {
            return Ok(());
        }
        Err(format!("{:?} lists\n{listed}\nand what it read as\n{again}", self.words))
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(line.split_whitespace());
        command
    }

    fn run(&self, netns: &Netns, line: &str) -> Result<String, String> {
        let mut command = self.command(line);
        let output = netns.run(|| command.output()).map_err(|error| error.to_string())?;
        let output = output.map_err(|error| format!("{:?} {line}: {error}", self.words))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(format!("{:?} {line}: {}: {complaint}", self.words, output.status))
    }
}

/// The words of a listing. Elements of sets come in no order, and those that expire do so while they are listed.
fn sorted(listing: &str) -> Vec<&str> {
    let mut words: Vec<&str> = Vec::new();
    let split = |letter: char| letter.is_whitespace() || letter == ',';
    let mut all = listing.split(split).filter(|word| !word.is_empty());
    while let Some(word) = all.next() {
        if word == "expires" {
            all.next();
        } else {
            words.push(word);
        }
    }
    words.sort_unstable();
    words
}

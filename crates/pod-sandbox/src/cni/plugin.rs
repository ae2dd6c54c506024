//! One call of one plugin.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kernel_io::namespaces::Namespaces;
use kernel_io::process::{Launch, Signal};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;

use super::{Call, CniError};

/// What a plugin can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Check,
    Delete,
}

/// How long a plugin that was killed may take to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of what a plugin prints is told of.
const MOST_SAID: usize = 500;

impl Verb {
    pub(super) fn word(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Check => "CHECK",
            Verb::Delete => "DEL",
        }
    }
}

/// Runs a plugin in the node's network namespace. Answers its result; nothing said is no result.
pub(super) fn run(call: &Call<'_>, plugin: &str, verb: Verb, input: &Value) -> Result<Value, CniError> {
    let settings = &call.node.settings().cni;
    let network = call.network.name.clone();
    let program = found(&settings.plugins, plugin).ok_or_else(|| CniError::Missing {
        plugin: plugin.to_owned(),
        network: network.clone(),
        searched: settings
            .plugins
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let files = |source| CniError::File { verb: "make files for", path: program.clone(), source };
    // Files, not pipes: nobody can make us wait by holding one open.
    let mut stdin = memory().map_err(files)?;
    stdin.write_all(input.to_string().as_bytes()).and_then(|()| stdin.rewind()).map_err(files)?;
    let (mut stdout, mut stderr) = (memory().map_err(files)?, memory().map_err(files)?);
    let mut command = Command::new(&program);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.envs(call.environment(verb)).current_dir("/").stdin(stdin);
    command.stdout(stdout.try_clone().map_err(files)?).stderr(stderr.try_clone().map_err(files)?);
    let launch = Launch::new(command).joining(Namespaces::network(call.node.netns())?);
    let started = launch.in_own_session().dying_with_us().start();
    let process = started
        .map_err(|source| CniError::Start { plugin: plugin.to_owned(), source: Box::new(source) })?
        .process;
    let Some(status) = process.wait_for(settings.timeout) else {
        let _ = process.signal_session(Signal::KILL); // the error to tell is that it hangs
        process.wait_for(PATIENCE);
        let limit = settings.timeout;
        return Err(CniError::Hangs { plugin: plugin.to_owned(), network, verb: verb.word(), limit });
    };
    let (said, complaint) = (text(&mut stdout).map_err(files)?, text(&mut stderr).map_err(files)?);
    let failed = |said| CniError::Failed { plugin: plugin.to_owned(), network, verb: verb.word(), said };
    if !status.success() {
        return Err(failed(reason(&said, &complaint).unwrap_or_else(|| status.to_string())));
    }
    match said.trim() {
        "" => Ok(Value::Null),
        said => serde_json::from_str(said).map_err(|error| failed(format!("{error} in {:?}", cut(said)))),
    }
}

/// Why a plugin failed, in its own words: those of the protocol, or whatever it printed.
pub(super) fn reason(said: &str, complaint: &str) -> Option<String> {
    let error: Value = serde_json::from_str(said).unwrap_or_default();
    let words = ["msg", "details"].map(|field| error[field].as_str().unwrap_or_default());
    let words: Vec<_> = words.into_iter().filter(|words| !words.is_empty()).collect();
    match (words.as_slice(), error["code"].as_u64()) {
        ([], _) => [complaint, said].map(str::trim).into_iter().find(|text| !text.is_empty()).map(cut),
        (words, Some(code)) => Some(format!("{} (code {code})", words.join("; "))),
        (words, None) => Some(words.join("; ")),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_SAID).collect()
}

fn found(directories: &[PathBuf], plugin: &str) -> Option<PathBuf> {
    directories
        .iter()
        .map(|directory: &PathBuf| directory.join(plugin))
        .find(|path: &PathBuf| Path::is_file(path))
}

fn memory() -> io::Result<File> {
    Ok(memfd_create(c"cni", MemfdFlags::CLOEXEC)?.into())
}

fn text(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

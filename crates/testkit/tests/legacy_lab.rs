//! The lab once more, with the legacy backend of iptables: same rules, other kernel interface.
//!
//! Which backend is meant by `iptables` is a matter of PATH, so the tests run in a process that has another one.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use proxy_modes::{InvalidPackets, Iptables};
use testkit::lab;
use testkit::{Scenario, replayed};

const MODE: Iptables = Iptables { invalid_packets: InvalidPackets::Drop };

/// Set in the process that runs the tests: the directory of its tools.
const TOOLS: &str = "FAIRLEAD_LEGACY_TOOLS";

/// One program that is all of them, by the name it is called.
const PROGRAM: &str = "/usr/sbin/xtables-legacy-multi";

fn main() -> ExitCode {
    if std::env::var_os(TOOLS).is_none() && Path::new(PROGRAM).exists() {
        let tools =
            tempfile::Builder::new().prefix("legacy-tools-").tempdir().expect("a temporary directory");
        return with_tools(tools.path());
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(6);
    let scenarios =
        Scenario::all().expect("the folder scenarios is there").into_iter().filter_map(|(name, scenario)| {
            // One that cannot be read fails in the other test already.
            let scenario = scenario.ok()?;
            Some(trial(&name, move || played(&scenario)))
        });
    let takeovers = lab::TAKEOVERS.map(|takeover| {
        let name = format!("takeover {}", takeover.name);
        trial(&name, move || lab::take_over(&takeover, MODE).map_err(Failed::from))
    });
    let trials = scenarios.chain(takeovers);
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trial(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let unable = !lab::is_root() || !Path::new(PROGRAM).exists();
    let title = format!("{name}::iptables lab, legacy backend");
    let title = if unable { format!("{title} skipped: needs root and {PROGRAM}") } else { title };
    Trial::test(title, test).with_ignored_flag(unable)
}

fn played(scenario: &Scenario) -> Result<(), Failed> {
    let steps = replayed(scenario).map_err(|error| error.to_string())?;
    lab::run(scenario, &steps, MODE).map_err(Failed::from)
}

/// Runs this program again with the legacy tools first on PATH, and a lock file that is nobody else's.
fn with_tools(directory: &Path) -> ExitCode {
    for tool in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            symlink(PROGRAM, directory.join(format!("{tool}{suffix}"))).expect("a link in a new directory");
        }
    }
    let mut path = OsString::from(directory);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(std::env::args_os().skip(1)).env("PATH", path).env(TOOLS, directory);
    let status = command.env("XTABLES_LOCKFILE", directory.join("lock")).status();
    let code = status.expect("this program can be started").code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}

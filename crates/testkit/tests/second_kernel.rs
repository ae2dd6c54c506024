//! Every scenario's packets through the ipvs mode, in a second kernel that has IPVS.
//!
//! This program boots that kernel and runs itself in it; what it prints there is what the tests print, with their
//! own counts. That kernel has one processor, so all of them are shared among several kernels at once.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use kernel_state::ipvs::Scheduler;
use libtest_mimic::{Arguments, Failed, Trial};
use proxy_modes::{Ipvs, LocalFallback};
use testkit::second_kernel::{BootError, Ended};
use testkit::{Scenario, lab, replayed, second_kernel};

/// When it is given up. Alone on a machine with two processors it takes about four minutes.
const LIMIT: Duration = Duration::from_mins(15);

/// How the argument begins that tells the program that it is inside, and which share is its own: `1/2`.
const INSIDE: &str = "--share-of-the-second-kernel=";

/// Among how many kernels all scenarios are shared.
const KERNELS: usize = 2;

fn main() -> ExitCode {
    let (marks, arguments): (Vec<String>, Vec<String>) =
        std::env::args().partition(|word| word.starts_with(INSIDE));
    let share = marks.first().and_then(|mark| mark[INSIDE.len()..].split_once('/'));
    if let Some((one, of)) = share {
        let number = |text: &str| text.parse().expect("we wrote it");
        return inside(arguments, number(one), number(of));
    }
    // Who picks some has few.
    let kernels = if arguments.len() > 1 { 1 } else { KERNELS };
    let arguments = &arguments;
    let ended = thread::scope(|scope| {
        let kernel = |share: usize| scope.spawn(move || boot(arguments, share, kernels));
        let all: Vec<_> = (0..kernels).map(kernel).collect();
        all.into_iter().map(|each| each.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    ended.into_iter().map(told).find(|code| *code != 0).map_or(ExitCode::SUCCESS, ExitCode::from)
}

fn boot(arguments: &[String], share: usize, of: usize) -> Result<Ended, BootError> {
    let program = std::env::current_exe().expect("this program has a path");
    let mark = format!("{INSIDE}{share}/{of}");
    let inside: Vec<&str> = arguments[1..].iter().map(String::as_str).chain([mark.as_str()]).collect();
    second_kernel::run(Path::new(&program), &inside, LIMIT)
}

/// Prints what was printed inside. Answers the exit code.
fn told(ended: Result<Ended, BootError>) -> u8 {
    match ended {
        Ok(ended) => {
            io::stdout().write_all(ended.output.as_bytes()).expect("somebody reads it");
            ended.status
        }
        Err(error) => {
            eprintln!("second kernel: {error}");
            1
        }
    }
}

fn inside(arguments: Vec<String>, share: usize, of: usize) -> ExitCode {
    let mut arguments = Arguments::from_iter(arguments);
    // Where one waits for packets that do not come, another works.
    arguments.test_threads.get_or_insert(2);
    let trials = trials().into_iter().enumerate().filter(|(place, _)| place % of == share);
    libtest_mimic::run(&arguments, trials.map(|(_, trial)| trial).collect()).exit_code()
}

fn trials() -> Vec<Trial> {
    let scenarios = Scenario::all().expect("the folder scenarios is there");
    // One that cannot be read fails in the other tests already.
    let readable = scenarios.into_iter().filter_map(|(name, scenario)| Some((name, scenario.ok()?)));
    readable
        .map(|(name, scenario)| Trial::test(format!("{name}::ipvs lab"), move || played(&scenario)))
        .collect()
}

fn played(scenario: &Scenario) -> Result<(), Failed> {
    let mut scenario = scenario.clone();
    "ipvs".clone_into(&mut scenario.config.mode);
    let scheduler = Scheduler::new("rr").expect("a short name");
    let mode = Ipvs { scheduler, local_fallback: LocalFallback::Drop };
    let steps = replayed(&scenario).map_err(|error| error.to_string())?;
    lab::run(&scenario, &steps, mode).map_err(Failed::from)
}

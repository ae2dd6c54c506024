//! A test program that boots the kernel and runs itself in it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

use crate::{Boot, BootError, Ended};

/// How it is run.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// When it is given up.
    pub limit: Duration,
    /// How many tests run at once in each: where one waits, another works.
    pub threads: usize,
}

/// The tests of one kernel.
pub type Share = fn() -> Vec<Trial>;

/// How the argument begins that tells the program that it is inside, and which share is its own; `all` if it is all.
const INSIDE: &str = "--share-of-the-second-kernel=";

impl Suite {
    /// The main function: boots a kernel for each share, all at once since each has one processor, and prints what the
    /// tests print there, with their own counts. The tests are asked for inside alone.
    pub fn run(self, shares: &[Share]) -> ExitCode {
        let (marks, arguments): (Vec<String>, Vec<String>) =
            std::env::args().partition(|word| word.starts_with(INSIDE));
        if let Some(mark) = marks.first() {
            let trials = match mark[INSIDE.len()..].parse::<usize>() {
                Ok(share) => shares[share](),
                Err(_) => shares.iter().flat_map(|share| share()).collect(),
            };
            return self.inside(arguments, trials);
        }
        // Who picks some has few.
        let marks: Vec<String> = if arguments.len() > 1 {
            vec!["all".to_owned()]
        } else {
            (0..shares.len()).map(|share| share.to_string()).collect()
        };
        let codes = self.booted(&arguments[1..], &marks);
        codes.into_iter().find(|code| *code != 0).map_or(ExitCode::SUCCESS, ExitCode::from)
    }

    /// The exit code of each.
    fn booted(self, arguments: &[String], marks: &[String]) -> Vec<u8> {
        let ended = thread::scope(|scope| {
            let kernel = |mark: &String| {
                let mark = format!("{INSIDE}{mark}");
                scope.spawn(move || self.boot(arguments, &mark))
            };
            let all: Vec<_> = marks.iter().map(kernel).collect();
            all.into_iter().map(|each| each.join().expect("it does not panic")).collect::<Vec<_>>()
        });
        ended.into_iter().map(told).collect()
    }

    fn boot(self, arguments: &[String], mark: &str) -> Result<Ended, BootError> {
        let program = std::env::current_exe()?;
        let inside = arguments.iter().map(String::as_str).chain([mark]);
        Boot::new(program, self.limit).arguments(inside).run()
    }

    fn inside(self, arguments: Vec<String>, trials: Vec<Trial>) -> ExitCode {
        let mut arguments = Arguments::from_iter(arguments);
        arguments.test_threads.get_or_insert(self.threads);
        libtest_mimic::run(&arguments, trials).exit_code()
    }
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

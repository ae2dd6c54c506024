//! The ipvs mode as a user runs it, with real packets, in a second kernel that has IPVS.

mod connections;
mod draining;
mod policies;
mod refusals;
mod rolling;
#[path = "../command_line/stage.rs"]
#[expect(dead_code, reason = "the tests of the other modes need more of it")]
mod stage;
mod strangers;
#[path = "../command_line/web.rs"]
mod web;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Trial;
use second_kernel::Suite;

fn main() -> ExitCode {
    let rest = || trials(&[draining::TESTS, policies::TESTS, refusals::TESTS, strangers::TESTS].concat());
    // What wants many connections a second has a kernel for itself.
    Suite { limit: Duration::from_mins(6), threads: 4 }.run(&[rest, || trials(rolling::TESTS)])
}

fn trials(tests: &[(&'static str, fn())]) -> Vec<Trial> {
    let trial = |(name, test): &(&'static str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    tests.iter().map(trial).collect()
}

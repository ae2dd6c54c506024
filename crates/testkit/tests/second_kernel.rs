//! Every scenario's packets through the ipvs mode, in a second kernel that has IPVS.

use std::process::ExitCode;
use std::time::Duration;

use kernel_state::ipvs::Scheduler;
use libtest_mimic::{Failed, Trial};
use proxy_modes::{Ipvs, LocalFallback};
use second_kernel::Suite;
use testkit::{Scenario, lab, replayed};

fn main() -> ExitCode {
    // Alone on a machine with two processors it takes about four minutes.
    Suite { limit: Duration::from_mins(15), threads: 2 }.run(&[|| every_second(0), || every_second(1)])
}

fn every_second(first: usize) -> Vec<Trial> {
    let scenarios = Scenario::all().expect("the folder scenarios is there");
    // One that cannot be read fails in the other tests already.
    let readable = scenarios.into_iter().filter_map(|(name, scenario)| Some((name, scenario.ok()?)));
    readable
        .skip(first)
        .step_by(2)
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

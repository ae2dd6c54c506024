//! More idle connections than this machine may have descriptors for: in a second kernel, which has limits of its own.

#[path = "../command_line/idle.rs"]
mod idle;
#[path = "../command_line/stage.rs"]
#[expect(dead_code, reason = "the tests of the command line need more of it")]
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use kernel_io::sysctl;
use libtest_mimic::Trial;
use second_kernel::Suite;

fn main() -> ExitCode {
    Suite { limit: Duration::from_mins(6), threads: 1 }.run(&[trials])
}

fn trials() -> Vec<Trial> {
    let test = || {
        // Each is tracked twice, and only the first namespace of a kernel says how many there may be.
        sysctl::write("net.netfilter.nf_conntrack_max", "100000").map_err(|error| error.to_string())?;
        idle::hold(20_000);
        Ok(())
    };
    vec![Trial::test("twenty_thousand_idle_connections_cost_little", test)]
}

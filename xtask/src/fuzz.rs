//! `cargo xtask fuzz`: the test of the readers of `nf_tables`, for as long as one likes.

use anyhow::Result;
use clap::Args;

use crate::workspace::{cargo, run};

/// How long, and where chance begins.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Fuzz {
    /// How long
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Where chance begins; the same number damages the same messages
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Its name within the library's tests.
const TEST: &str = "nft::tests::fuzz::no_damage_to_what_the_kernel_says_makes_a_reader_panic";

impl Fuzz {
    pub(crate) fn run(self) -> Result<()> {
        let arguments =
            ["test", "--release", "--package", "kernel-io", "--lib", "--", "--exact", TEST, "--nocapture"];
        let mut test = cargo(arguments);
        test.env("FAIRLEAD_FUZZ_SECONDS", (self.minutes * 60).to_string());
        run(test.env("FAIRLEAD_FUZZ_SEED", self.seed.to_string()))
    }
}

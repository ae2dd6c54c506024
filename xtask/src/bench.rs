//! `cargo xtask bench`: builds the benchmarks for speed, and starts one.

use anyhow::Result;

use crate::debian;
use crate::workspace::{cargo, run};

/// The relay of the userspace mode, beside haproxy and nginx.
pub(crate) fn userspace() -> Result<()> {
    debian::install_peers()?;
    run(&mut cargo(["run", "--quiet", "--release", "--package", "bench", "--", "userspace"]))
}

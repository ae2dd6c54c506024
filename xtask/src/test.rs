//! `cargo xtask test`: every check and every test, the cheap ones first, so that what fails fails early.

use anyhow::Result;

use crate::workspace::{cargo, output, run};
use crate::{build, debian, image, tidy};

/// All of it. The runner's own closing lines end it, so what was skipped is said before.
pub(crate) fn all() -> Result<()> {
    step("packages");
    debian::install_missing()?;
    let mut skipped = debian::unpack_nft();
    step("fmt");
    run(&mut cargo(["fmt", "--all", "--check"]))?;
    step("tidy");
    tidy::check()?;
    step("clippy");
    run(&mut cargo(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    step("deny");
    skipped.extend(deny()?.map(str::to_owned));
    step("build");
    build::all()?;
    image::fairlead()?;
    tidy::check_artefacts()?;
    for skipped in skipped {
        eprintln!("xtask: skipped: {skipped}");
    }
    step("tests");
    run(&mut cargo(["test", "--workspace", "--no-fail-fast"]))
}

/// Runs the scenarios so that they write their goldens instead of comparing with them.
pub(crate) fn bless() -> Result<()> {
    run(cargo(["test", "--package", "testkit", "--test", "scenarios"]).env("FAIRLEAD_BLESS", "1"))
}

/// What we depend on, as `deny.toml` allows it; answers what could not be checked.
fn deny() -> Result<Option<&'static str>> {
    if output(&mut cargo(["deny", "--version"])).is_err() {
        run(&mut cargo(["install", "cargo-deny", "--locked"]))?;
    }
    let advisories = output(&mut cargo(["deny", "fetch", "db"]));
    let mut check = cargo([
        "deny",
        "--log-level",
        "error",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    if advisories.is_ok() {
        check.arg("advisories");
    }
    run(&mut check)?;
    Ok(advisories.is_err().then_some("cargo deny check advisories (their database cannot be reached)"))
}

fn step(name: &str) {
    eprintln!("xtask: {name}");
}

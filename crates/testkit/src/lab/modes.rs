//! How each mode's rules are kept in the lab.

use std::process::Command;

use kernel_io::netns::Netns;
use kernel_io::nft::{self, Nft};
use kernel_io::xtables::{Tool, Xtables};
use kernel_state::nft::Family as NftFamily;
use kernel_state::xtables::GuardedChain;
use proxy_modes::{Iptables, Nftables};
use service_plan::Family;

use super::{Kept, LabError};
use crate::Scenario;

impl Kept for Iptables {
    const NAME: &str = "iptables";

    type Target = Xtables;

    fn open(scenario: &Scenario, family: Family) -> Result<Xtables, LabError> {
        let localhost = scenario.config.iptables.localhost_node_ports;
        let guarded_chain = if localhost { GuardedChain::Wanted } else { GuardedChain::Unwanted };
        Ok(Xtables::open(tool(family), Self::layout(guarded_chain))?)
    }

    fn open_to_clean(family: Family) -> Result<Xtables, LabError> {
        Ok(Xtables::open(tool(family), Self::layout(GuardedChain::Unwanted))?)
    }
}

impl Kept for Nftables {
    const NAME: &str = "nftables";

    type Target = Nft;

    fn open(_scenario: &Scenario, family: Family) -> Result<Nft, LabError> {
        Self::open_to_clean(family)
    }

    fn open_to_clean(family: Family) -> Result<Nft, LabError> {
        let family = match family {
            Family::V4 => NftFamily::Ip,
            Family::V6 => NftFamily::Ip6,
        };
        Ok(Nft::open(family, nft::Layout { comment: Self::LAYOUT, sets: Self::SETS })?)
    }

    /// nft must list what we write, or it would fail for everybody else on the host; and what it lists must be what
    /// it can read, and be the same again.
    fn inspect(node: &Netns) -> Result<(), String> {
        let listed = run(node, "nft list ruleset")?;
        run(node, "nft -j list ruleset")?;
        let elsewhere = Netns::new().map_err(|error| error.to_string())?;
        let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        std::fs::write(file.path(), &listed).map_err(|error| error.to_string())?;
        run(&elsewhere, &format!("nft -f {}", file.path().display()))?;
        let again = run(&elsewhere, "nft list ruleset")?;
        if sorted(&again) == sorted(&listed) {
            return Ok(());
        }
        Err(format!("nft lists\n{listed}\nand what it read as\n{again}"))
    }
}

fn tool(family: Family) -> Tool {
    match family {
        Family::V4 => Tool::Iptables,
        Family::V6 => Tool::Ip6tables,
    }
}

/// The words of a listing. Elements of sets come in no order, and those that expire do so while they are listed.
fn sorted(listing: &str) -> Vec<&str> {
    let mut words: Vec<&str> = Vec::new();
    let split = |letter: char| letter.is_whitespace() || letter == ',';
    let mut all = listing.split(split).filter(|word| !word.is_empty());
    while let Some(word) = all.next() {
        if word == "expires" {
            all.next();
        } else {
            words.push(word);
        }
    }
    words.sort_unstable();
    words
}

fn run(netns: &Netns, line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    let output = netns.run(|| command.output()).map_err(|error| error.to_string())?;
    let output = output.map_err(|error| format!("{line}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

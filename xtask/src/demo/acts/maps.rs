//! What the nftables mode holds: maps that grow with the cluster, and rules that do not.

use anyhow::{Result, ensure};

use super::super::report::Report;
use super::super::stage::{Family, Stage};
use super::super::table::Table;

/// The sets and maps that two Services fill, and what an element stands for.
const FILLED: [(&str, &str); 6] = [
    ("cluster-ips", "a cluster IP"),
    ("services", "a service port, and how many endpoints it has"),
    ("endpoints", "a service port and a number drawn by lot, and the endpoint that it stands for"),
    ("node-ports", "a node port, and how many endpoints it has"),
    ("node-port-endpoints", "a node port and a number drawn by lot, and the endpoint that it stands for"),
    ("masqueraded-node-ports", "a node port whose clients are masqueraded"),
];

/// A chain, set or map of the table, and the lines in it.
struct Block {
    kind: String,
    name: String,
    lines: Vec<String>,
}

pub(in crate::demo) fn count(stage: &Stage, report: &mut Report) -> Result<()> {
    report.step("What nftables holds for 2 Services and 8 pods")?;
    let blocks = blocks(&stage.rules(Family::V4)?);
    let mut table = Table::new(["map or set", "elements", "an element is"]);
    for (name, is) in FILLED {
        let elements =
            blocks.iter().filter(|block| block.name == name && block.kind != "chain").map(Block::elements);
        table.row([name.into(), elements.sum::<usize>().into(), is.into()]);
    }
    report.table(&table)?;
    let chains: Vec<&Block> = blocks.iter().filter(|block| block.kind == "chain").collect();
    let rules: usize = chains.iter().map(|chain| chain.rules()).sum();
    ensure!(rules > 0, "the table has no rules");
    report.remark(&format!(
        "{} chains with {rules} rules: as many for 30,000 Services, but for a chain for each number of endpoints.",
        chains.len()
    ))?;
    report.proves("a packet asks a map once: what it costs does not grow with the cluster")
}

/// The blocks of a listing.
fn blocks(listing: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in listing.lines().map(str::trim) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [kind @ ("chain" | "set" | "map"), name, "{"] => {
                blocks.push(Block { kind: (*kind).to_owned(), name: (*name).to_owned(), lines: Vec::new() });
            }
            _ => blocks.last_mut().into_iter().for_each(|block| block.lines.push(line.to_owned())),
        }
    }
    blocks
}

impl Block {
    /// Elements stand between commas.
    fn elements(&self) -> usize {
        let text = self.lines.join(" ");
        text.split_once("elements = {").map_or(0, |(_, elements)| elements.matches(',').count() + 1)
    }

    /// Rules are all lines but the hook and the end.
    fn rules(&self) -> usize {
        self.lines
            .iter()
            .filter(|line| !line.is_empty() && *line != "}" && !line.starts_with("type "))
            .count()
    }
}

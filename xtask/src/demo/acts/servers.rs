//! What the ipvs and the userspace mode hold: little that grows with the cluster in the rules, and who serves.

use anyhow::{Result, ensure};

use super::super::report::Report;
use super::super::stage::{Family, Stage};
use super::super::table::Table;
use super::rules::rules_of;

pub(in crate::demo) fn virtual_servers(stage: &Stage, report: &mut Report) -> Result<()> {
    report.step("What IPVS holds for 2 Services and 8 pods")?;
    let mut table = Table::new(["virtual server", "scheduler", "real servers"]);
    let servers = stage.virtual_servers()?;
    ensure!(servers.iter().all(|server| server.behind.len() == 4), "not four pods behind each");
    for server in servers {
        table.row([server.at.into(), server.scheduler.into(), server.behind.len().into()]);
    }
    report.table(&table)?;
    let rules = rules_of(&stage.rules(Family::V4)?)?.len();
    report.remark(&format!("{rules} rules of iptables stand around them: as many for 30,000 Services."))?;
    report
        .proves("a packet asks a hash table of the kernel once: what it costs does not grow with the cluster")
}

pub(in crate::demo) fn listeners(stage: &Stage, report: &mut Report) -> Result<()> {
    report.step("What iptables holds for 2 Services and 8 pods, and a process does the rest")?;
    let mut table = Table::new(["table", "chain", "rules"]);
    let rules = rules_of(&stage.rules(Family::V4)?)?;
    let mut chains = rules.clone();
    chains.dedup();
    for chain in chains {
        let count = rules.iter().filter(|rule| **rule == chain).count();
        table.row([chain.0.into(), chain.1.into(), count.into()]);
    }
    report.table(&table)?;
    report.remark("They lead each address of a Service to a listener of the proxy; pods are in no rule.")?;
    report.proves("whoever relays every byte can try another pod when the first does not answer")
}

//! How many rules there are, and what for.

use anyhow::{Context, Result, ensure};

use super::super::report::Report;
use super::super::stage::{Family, Stage};
use super::super::table::Table;

/// What the nat rules of two Services with four pods each, one with a node port, come to in the textbook.
const CLASSIC: usize = 34;

/// Rules of one table, by the chain that they stand in.
const PURPOSES: [(&str, &str, &str); 11] = [
    ("nat", "KUBE-SERVICES", "one for each cluster IP, and one to the node ports"),
    ("nat", "KUBE-NODEPORTS", "one for each node port"),
    ("nat", "KUBE-EXT-", "web from outside: masquerade, then its endpoints"),
    ("nat", "KUBE-SVC-", "one for each endpoint, and one for clients that are no pods"),
    ("nat", "KUBE-SEP-", "two for each endpoint: to itself, and the new destination"),
    ("nat", "KUBE-MARK-MASQ", "the mark that asks for masquerade"),
    ("nat", "KUBE-POSTROUTING", "masquerade"),
    ("filter", "KUBE-FORWARD", "what may be forwarded"),
    ("filter", "KUBE-FIREWALL", "the guard of localhost"),
    ("nat", "", "jumps from the built-in chains"),
    ("filter", "", "jumps from the built-in chains"),
];

pub(in crate::demo) fn count(stage: &Stage, report: &mut Report) -> Result<()> {
    report.step("What iptables holds for 2 Services and 8 pods")?;
    let rules = rules_of(&stage.rules(Family::V4)?)?;
    let mut table = Table::new(["table", "chain", "rules", "for"]);
    let mut told = 0;
    for (of, chain, purpose) in PURPOSES {
        let count = rules.iter().filter(|(table, name)| table == of && is_of(name, chain)).count();
        told += count;
        let chain = match chain {
            "" => "(built-in)".to_owned(),
            prefix if prefix.ends_with('-') => format!("{prefix}…"),
            name => name.to_owned(),
        };
        table.row([of.into(), chain.into(), count.into(), purpose.into()]);
    }
    ensure!(told == rules.len(), "{} rules serve no purpose that is told", rules.len() - told);
    report.table(&table)?;
    let nat = rules.iter().filter(|(table, name)| table == "nat" && name.starts_with("KUBE-")).count();
    let for_clients = 2;
    ensure!(nat == CLASSIC + for_clients, "{nat} rules in the nat table");
    report.remark(&format!(
        "The classic figure is {CLASSIC}, for the chains of the nat table; here they hold {nat}. The {for_clients} more \
         masquerade"
    ))?;
    report.remark("clients that are no pods, one a Service, since the proxy was told the pods' range.")?;
    let ipv6 = rules_of(&stage.rules(Family::V6)?)?.len();
    report
        .remark(&format!("ip6tables holds {ipv6} rules: the same frame, without Services of that family."))?;
    report.proves(
        "a packet is compared with one rule after another: what iptables costs grows with the cluster",
    )
}

/// Each rule as its table and chain.
pub(super) fn rules_of(save: &str) -> Result<Vec<(String, String)>> {
    let mut table = "";
    let mut rules = Vec::new();
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().context("a rule has a chain")?;
            rules.push((table.to_owned(), chain.to_owned()));
        }
    }
    Ok(rules)
}

fn is_of(name: &str, chain: &str) -> bool {
    match chain {
        "" => !name.starts_with("KUBE-"),
        prefix if prefix.ends_with('-') => name.starts_with(prefix),
        whole => name == whole,
    }
}

//! What the node holds of ours, as the mode's own tools list it.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::Result;

use super::manifests::PodRecord;
use super::stage::{Family, Stage, WEB_PORT};
use super::{Mode, http};
use crate::workspace::output;

/// Where every Service of the demo is asked.
const WAYS: [&str; 2] = ["10.96.0.10:80", "10.96.0.20:80"];

/// How many requests in a row show who answers: one pod in four is missed by all of them once in a million times.
const REQUESTS: usize = 48;

impl Stage {
    /// All rules and virtual servers.
    pub(super) fn rules(&self, family: Family) -> Result<String> {
        let (program, arguments): (_, &[&str]) = match (self.mode, family) {
            (Mode::Iptables | Mode::Ipvs | Mode::Userspace, Family::V4) => ("iptables-save", &[]),
            (Mode::Iptables | Mode::Ipvs | Mode::Userspace, Family::V6) => ("ip6tables-save", &[]),
            (Mode::Nftables, Family::V4) => ("nft", &["-n", "list", "table", "ip", "fairlead"]),
            (Mode::Nftables, Family::V6) => ("nft", &["-n", "list", "table", "ip6", "fairlead"]),
        };
        self.node.run(|| output(Command::new(program).args(arguments)))?
    }

    /// Whether the node holds anything of ours.
    pub(super) fn is_clean(&self, family: Family) -> bool {
        let no_rules = || self.rules(family).is_ok_and(|rules| !rules.contains("KUBE-"));
        match self.mode {
            Mode::Iptables | Mode::Userspace => no_rules(),
            Mode::Ipvs => {
                let links = self.node.run(|| fs::read_to_string("/proc/thread-self/net/dev"));
                let no_link = matches!(links, Ok(Ok(links)) if !links.contains("kube-ipvs0"));
                no_rules() && no_link && self.virtual_servers().is_ok_and(|all| all.is_empty())
            }
            // There is no table to list.
            Mode::Nftables => self.rules(family).is_err(),
        }
    }

    /// Whether the proxy sends anybody to a pod.
    pub(super) fn leads_to(&self, pod: &PodRecord) -> Result<bool> {
        match self.mode {
            Mode::Iptables => {
                let to = format!("--to-destination {}:{WEB_PORT}", pod.address);
                Ok(self.rules(Family::V4)?.contains(&to))
            }
            Mode::Nftables => {
                Ok(self.rules(Family::V4)?.contains(&format!(": {} . {WEB_PORT}", pod.address)))
            }
            Mode::Ipvs => {
                let all = self.virtual_servers()?;
                Ok(all
                    .iter()
                    .flat_map(|server| &server.behind)
                    .any(|(ip, weight)| *ip == pod.address && *weight > 0))
            }
            // Only its process knows.
            Mode::Userspace => self.answers(pod),
        }
    }

    fn answers(&self, pod: &PodRecord) -> Result<bool> {
        let ask = || -> Result<bool> {
            for at in WAYS {
                let at: SocketAddr = at.parse()?;
                let answers = (0..REQUESTS).map(|_| http::get(at)).collect::<Result<Vec<_>>>()?;
                if answers.iter().any(|answer| answer.pod == pod.name) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        self.node.run(ask)?
    }

    /// Those of IPv4, with the addresses and weights of what is behind them.
    pub(super) fn virtual_servers(&self) -> Result<Vec<VirtualServer>> {
        let text = self.node.run(|| fs::read_to_string("/proc/thread-self/net/ip_vs"))??;
        let mut servers: Vec<VirtualServer> = Vec::new();
        for line in text.lines().skip(3) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (words.as_slice(), servers.last_mut()) {
                (["->", at, _, weight, ..], Some(server)) => {
                    server.behind.push((socket(at)?.ip(), weight.parse()?));
                }
                ([protocol, at, scheduler, ..], _) => servers.push(VirtualServer {
                    at: format!("{protocol} {}", socket(at)?),
                    scheduler: (*scheduler).to_owned(),
                    behind: Vec::new(),
                }),
                _ => {}
            }
        }
        Ok(servers)
    }
}

/// A virtual server of the kernel's.
pub(super) struct VirtualServer {
    pub(super) at: String,
    pub(super) scheduler: String,
    pub(super) behind: Vec<(IpAddr, u32)>,
}

/// `0A60000A:0050` is 10.96.0.10:80.
fn socket(text: &str) -> Result<SocketAddr> {
    let (ip, port) = text.split_once(':').unwrap_or((text, "0"));
    let ip: [u8; 4] = u32::from_str_radix(ip, 16)?.to_be_bytes();
    Ok(SocketAddr::from((ip, u16::from_str_radix(port, 16)?)))
}

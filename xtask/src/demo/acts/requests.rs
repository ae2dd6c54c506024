//! Requests, and how they spread over the pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use kernel_io::netns::Netns;

use super::super::Mode;
use super::super::http::{self, Answer};
use super::super::report::Report;
use super::super::stage::{NODE, NODE_PORT, Stage};
use super::super::table::{Cell, Table};

const REQUESTS: usize = 200;

/// A way to a Service.
struct Way {
    from: &'static str,
    netns: Netns,
    to: &'static str,
    at: SocketAddr,
    /// The first letters of the pods' names.
    pods: &'static str,
    /// Whom the pods should see.
    seen: IpAddr,
}

pub(in crate::demo) fn spread(stage: &mut Stage, report: &mut Report) -> Result<()> {
    report.step("Two Services: requests, and how they spread over the pods")?;
    stage.start_proxy()?;
    let mut table =
        Table::new(["from", "to", "requests", "lost", "pod 1", "pod 2", "pod 3", "pod 4", "the pods see"]);
    for way in ways(stage)? {
        let asked: Vec<Result<Answer>> =
            way.netns.run(|| (0..REQUESTS).map(|_| http::get(way.at)).collect())?;
        let lost = asked.iter().filter(|answer| answer.is_err()).count();
        let answers: Vec<Answer> = asked.into_iter().collect::<Result<_>>().with_context(|| {
            format!("{lost} of {REQUESTS} requests from {} to {} were lost", way.from, way.to)
        })?;
        let mut by_pod: BTreeMap<&str, usize> = BTreeMap::new();
        for answer in &answers {
            ensure!(answer.pod.starts_with(way.pods), "{} answered for {}", answer.pod, way.to);
            ensure!(answer.client == way.seen, "the pod saw {} in place of {}", answer.client, way.seen);
            *by_pod.entry(&answer.pod).or_default() += 1;
        }
        ensure!(by_pod.len() == 4, "only {by_pod:?} answered");
        let mut cells: Vec<Cell> = vec![way.from.into(), way.to.into(), REQUESTS.into()];
        cells.push(lost.into());
        cells.extend(by_pod.values().map(|count| Cell::from(*count)));
        cells.push(if way.seen == IpAddr::from(NODE) { "the node".into() } else { "the client".into() });
        table.row(cells);
    }
    report.table(&table)?;
    report
        .remark("From outside the pods see the node, so that answers come back through it (masquerade).")?;
    report.proves("an address that no machine has leads to four pods, evenly")
}

fn ways(stage: &Stage) -> Result<Vec<Way>> {
    let pod = stage.pod("web-1")?;
    let in_pod = pod.sandbox.netns()?;
    let way = |from, netns: &Netns, to, at: &str, pods, seen| -> Result<Way> {
        Ok(Way { from, netns: netns.clone(), to, at: at.parse()?, pods, seen })
    };
    let node_port = format!("{NODE}:{NODE_PORT}");
    let seen = match stage.mode {
        // It is the node that calls them.
        Mode::Userspace => NODE.into(),
        Mode::Iptables | Mode::Nftables | Mode::Ipvs => pod.record.address,
    };
    Ok(vec![
        way("a pod", &in_pod, "api, cluster IP 10.96.0.20:80", "10.96.0.20:80", "api-", seen)?,
        way("outside", &stage.outside, "web, node port 30080", &node_port, "web-", NODE.into())?,
        way("the node", &stage.node, "web, cluster IP 10.96.0.10:80", "10.96.0.10:80", "web-", NODE.into())?,
    ])
}

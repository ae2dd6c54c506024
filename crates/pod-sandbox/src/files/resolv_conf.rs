//! /etc/resolv.conf of a pod, from its policy, its own configuration, the cluster's and the node's.

use std::net::IpAddr;

use crate::node::ClusterDns;
use crate::spec::{Dns, DnsPolicy, Network, SandboxSpec};

/// What such a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Says {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<(String, Option<String>)>,
}

/// The most that resolvers read, and that Kubernetes lets through.
const MOST_SERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_LETTERS: usize = 2048;

/// The text of the file; `nodes` is the node's own.
pub(crate) fn resolv_conf(spec: &SandboxSpec, cluster: &ClusterDns, nodes: &str) -> String {
    let nodes = Says::read(nodes);
    let base = match (spec.dns.policy, &spec.network) {
        (DnsPolicy::None, _) => Says::default(),
        (DnsPolicy::Default, _) | (DnsPolicy::ClusterFirst, Network::Node) => nodes,
        // A cluster without name servers of its own leaves the node's, as upstream does.
        _ if cluster.servers.is_empty() => nodes,
        (DnsPolicy::ClusterFirst | DnsPolicy::ClusterFirstWithHostNet, _) => {
            Says::of_cluster(cluster, &spec.pod.namespace, nodes)
        }
    };
    base.and(&spec.dns).print()
}

impl Says {
    fn of_cluster(cluster: &ClusterDns, namespace: &str, nodes: Says) -> Self {
        let domain = &cluster.domain;
        let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        let own = if domain.is_empty() { Vec::new() } else { own.to_vec() };
        Self {
            servers: cluster.servers.iter().map(IpAddr::to_string).collect(),
            searches: unique(own.into_iter().chain(nodes.searches)),
            options: vec![("ndots".to_owned(), Some("5".to_owned()))],
        }
    }

    fn read(text: &str) -> Self {
        let mut says = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => says.servers.extend(words.next().map(str::to_owned)),
                // The last one counts.
                Some("search" | "domain") => says.searches = words.map(str::to_owned).collect(),
                Some("options") => says.options.extend(words.map(option)),
                Some(_) | None => {}
            }
        }
        says
    }

    fn and(mut self, pod: &Dns) -> Self {
        self.servers = unique(self.servers.into_iter().chain(pod.servers.iter().map(IpAddr::to_string)));
        self.searches = unique(self.searches.into_iter().chain(pod.searches.iter().cloned()));
        for (name, value) in &pod.options {
            self.options.retain(|(other, _)| other != name);
            self.options.push((name.clone(), value.clone()));
        }
        self
    }

    fn print(&self) -> String {
        let mut lines: Vec<_> =
            self.servers.iter().take(MOST_SERVERS).map(|server| format!("nameserver {server}\n")).collect();
        let searches = fitting(&self.searches);
        if !searches.is_empty() {
            lines.push(format!("search {}\n", searches.join(" ")));
        }
        if !self.options.is_empty() {
            let options = self.options.iter().map(|(name, value)| match value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
            lines.push(format!("options {}\n", options.collect::<Vec<_>>().join(" ")));
        }
        lines.concat()
    }
}

fn option(word: &str) -> (String, Option<String>) {
    match word.split_once(':') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (word.to_owned(), None),
    }
}

fn unique(all: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for one in all {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

/// As many domains as resolvers read.
fn fitting(searches: &[String]) -> Vec<&str> {
    let mut letters = 0;
    let fits = |domain: &&str| {
        letters += domain.len() + 1;
        letters <= MOST_SEARCH_LETTERS + 1
    };
    searches.iter().take(MOST_SEARCHES).map(String::as_str).take_while(fits).collect()
}

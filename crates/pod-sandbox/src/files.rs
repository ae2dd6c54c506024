//! The files of a pod that the node writes: /etc/hosts, /etc/hostname, /etc/resolv.conf. Only words, no files here.

mod resolv_conf;

use std::fmt::Write;
use std::net::IpAddr;

pub(crate) use resolv_conf::resolv_conf;

use crate::spec::{HostAlias, Hostname};

/// /etc/hosts of a pod with its own network.
pub(crate) fn hosts(hostname: &Hostname, addresses: &[IpAddr], aliases: &[HostAlias]) -> String {
    let mut text = "\
# Written by fairlead for this pod.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
fe00::\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"
    .to_owned();
    for address in addresses {
        let names: Vec<String> = hostname.full().into_iter().chain([hostname.name.clone()]).collect();
        line(&mut text, *address, &names);
    }
    with_aliases(text, aliases)
}

/// /etc/hosts of a pod on the node's network: the node's own, and the pod's lines.
pub(crate) fn hosts_of_node(nodes: &str, aliases: &[HostAlias]) -> String {
    let mut text = format!("# Written by fairlead from the node's own.\n{nodes}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    with_aliases(text, aliases)
}

fn with_aliases(mut text: String, aliases: &[HostAlias]) -> String {
    if !aliases.is_empty() {
        text.push_str("\n# From the pod's hostAliases.\n");
    }
    for alias in aliases {
        line(&mut text, alias.ip, &alias.names);
    }
    text
}

fn line(text: &mut String, address: IpAddr, names: &[String]) {
    let _ = writeln!(text, "{address}\t{}", names.join("\t")); // a String takes whatever is written to it
}

#[cfg(test)]
mod tests;

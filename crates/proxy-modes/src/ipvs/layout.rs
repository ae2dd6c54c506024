//! By which names sets, virtual servers, chains and links are ours, also where a kube-proxy left them.

use kernel_state::ipset::{SetName, SetType};
use kernel_state::xtables::{ChainName, GuardedChain, Layout, Protocol, Table};
use service_plan::Family;

use super::Ipvs;
use super::rules::{CHAINS, OTHER_MODES, PREFIXES};
use super::sets::Set;

/// The link that holds the addresses.
pub const DEVICE: &str = "kube-ipvs0";

/// The iptables mode's rule in the chain that kubelet writes too.
const GUARD_COMMENT: &str = "block incoming localnet connections";

impl Ipvs {
    /// The names of the sets.
    pub fn sets(family: Family) -> Vec<SetName> {
        Set::ALL.into_iter().map(|set| set.name(family)).collect()
    }

    /// What the sets hold.
    pub fn set_types(family: Family) -> Vec<SetType> {
        [Set::IpvsIps, Set::ClusterIp, Set::LoopBack, Set::LoadBalancerSourceCidr, Set::NodePortTcp]
            .map(|set| set.kind(family))
            .into()
    }

    /// The sets whose members each are the address, protocol and port of a virtual server.
    pub fn address_sets(family: Family) -> Vec<SetName> {
        let sets =
            [Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal, Set::LoadBalancer, Set::NodePortSctp];
        sets.into_iter().map(|set| set.name(family)).collect()
    }

    /// The sets whose members are ports that have a virtual server on the node's addresses.
    pub fn port_sets(family: Family) -> Vec<(SetName, Protocol)> {
        [(Set::NodePortTcp, Protocol::Tcp), (Set::NodePortUdp, Protocol::Udp)]
            .map(|(set, protocol)| (set.name(family), protocol))
            .into()
    }

    /// The chains, also those of the iptables mode: what it left is replaced.
    pub fn layout() -> Layout {
        let named = |(table, name): &(Table, &'static str)| (*table, ChainName::of(name));
        Layout {
            shared: Vec::new(),
            whole: CHAINS.iter().chain(&OTHER_MODES).map(named).collect(),
            prefixes: PREFIXES.map(|prefix| (Table::Nat, prefix)).into(),
            tail_comment: "",
            guard_comment: GUARD_COMMENT,
            guarded_chain: GuardedChain::Unwanted,
            kubelets: vec![(Table::Nat, ChainName::of("KUBE-MARK-DROP"))],
            kubelets_comment: "kubernetes firewall for dropping marked packets",
        }
    }
}

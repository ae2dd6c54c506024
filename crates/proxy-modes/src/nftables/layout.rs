//! The names of the table's sets and chains.

use std::net::SocketAddr;

use kernel_state::nft::{DataType, KeyType, Name};
use service_plan::{PoolName, Seconds, ServicePortName};

use crate::names::{endpoint_words, service_words};

/// Another layout has another number, and its table is replaced whole.
pub(super) const COMMENT: &str = "services of Kubernetes, layout 1";
/// Of the layout for kernels that have no sets of ranges.
pub(super) const COMMENT_WITHOUT_RANGES: &str = "services of Kubernetes, layout 1 without sets of ranges";

/// Who is forwarded, and by which chain.
pub(super) const SERVICES: &str = "services";
pub(super) const NODE_PORTS: &str = "node-ports";
/// Where to, by number.
pub(super) const ENDPOINTS: &str = "endpoints";
pub(super) const LOCAL_ENDPOINTS: &str = "local-endpoints";
pub(super) const NODE_PORT_ENDPOINTS: &str = "node-port-endpoints";
pub(super) const NODE_PORT_LOCAL_ENDPOINTS: &str = "node-port-local-endpoints";
/// Who is admitted to what is not open to all.
pub(super) const RESTRICTED: &str = "restricted";
pub(super) const ADMITTED: &str = "admitted";
/// Who admits, where a set cannot.
pub(super) const RESTRICTIONS: &str = "restrictions";
/// What nobody serves.
pub(super) const REFUSED_SERVICES: &str = "refused-services";
pub(super) const REFUSED_NODE_PORTS: &str = "refused-node-ports";
/// Whose clients are masqueraded: all, or the node alone.
pub(super) const MASQUERADED_SERVICES: &str = "masqueraded-services";
pub(super) const MASQUERADED_NODE_PORTS: &str = "masqueraded-node-ports";
pub(super) const LOCAL_SERVICES: &str = "local-services";
pub(super) const LOCAL_NODE_PORTS: &str = "local-node-ports";
pub(super) const CLUSTER_IPS: &str = "cluster-ips";
pub(super) const NODE_PORT_IPS: &str = "node-port-ips";
pub(super) const HAIRPINS: &str = "hairpins";

/// A set or map: its name, and what it holds.
type Set = (&'static str, KeyType, DataType);

/// All of them.
pub(super) const SETS: &[Set] = ALL.split_at(1).1;
/// Those of the layout for kernels that have no sets of ranges.
pub(super) const SETS_WITHOUT_RANGES: &[Set] = ALL.split_at(ALL.len() - 2).0;

const ALL: &[Set] = &[
    // Without sets of ranges only.
    (RESTRICTIONS, KeyType::Socket, DataType::Verdict),
    (CLUSTER_IPS, KeyType::Address, DataType::Nothing),
    (ENDPOINTS, KeyType::SocketSlot, DataType::Endpoint),
    (HAIRPINS, KeyType::Pair, DataType::Nothing),
    (LOCAL_ENDPOINTS, KeyType::SocketSlot, DataType::Endpoint),
    (LOCAL_NODE_PORTS, KeyType::Port, DataType::Nothing),
    (LOCAL_SERVICES, KeyType::Socket, DataType::Nothing),
    (MASQUERADED_NODE_PORTS, KeyType::Port, DataType::Nothing),
    (MASQUERADED_SERVICES, KeyType::Socket, DataType::Nothing),
    (NODE_PORT_ENDPOINTS, KeyType::PortSlot, DataType::Endpoint),
    (NODE_PORT_IPS, KeyType::Address, DataType::Nothing),
    (NODE_PORT_LOCAL_ENDPOINTS, KeyType::PortSlot, DataType::Endpoint),
    (NODE_PORTS, KeyType::Port, DataType::Verdict),
    (REFUSED_NODE_PORTS, KeyType::Port, DataType::Nothing),
    (REFUSED_SERVICES, KeyType::Socket, DataType::Nothing),
    (SERVICES, KeyType::Socket, DataType::Verdict),
    // With sets of ranges only.
    (RESTRICTED, KeyType::Socket, DataType::Nothing),
    (ADMITTED, KeyType::SocketRange, DataType::Nothing),
];

/// Whether a chain is that of all pools of a size. Its rule looks into a map of endpoints; for each new chain that does,
/// the kernel walks that map (`nf_tables_bind_set`).
pub(super) fn is_pool_chain(name: &str) -> bool {
    let name = name.strip_prefix("node-port-").unwrap_or(name);
    let size = name.strip_prefix("cluster-").or_else(|| name.strip_prefix("local-"));
    size.is_some_and(|size| size.parse::<u32>().is_ok())
}

/// The chain of one service with source ranges, where a set cannot hold them.
pub(super) fn admitting_chain(service: &ServicePortName) -> Name {
    format!("admits-{}", service_words(service)).into()
}

/// A chain of one service with affinity: what it is for, then whose it is.
pub(super) fn affinity_chain(purpose: &str, service: &ServicePortName) -> Name {
    format!("affinity-{purpose}-{}", service_words(service)).into()
}

/// The clients that keep to an endpoint, for so long. A set cannot be given another timeout, so it is in the name.
pub(super) fn affinity_set(timeout: Seconds, service: &ServicePortName, endpoint: SocketAddr) -> Name {
    format!("affinity-{}s-{}", timeout.0, endpoint_words(service, endpoint)).into()
}

pub(super) fn pool_word(pool: PoolName) -> &'static str {
    match pool {
        PoolName::Cluster => "cluster",
        PoolName::Local => "local",
    }
}

//! The names of the table's sets and chains.

use std::net::SocketAddr;

use kernel_state::nft::Name;
use service_plan::{PoolName, Seconds, ServicePortName};

use crate::names::{endpoint_words, service_words};

/// Another layout has another number, and its table is replaced whole.
pub(super) const COMMENT: &str = "services of Kubernetes, layout 1";

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

pub(super) const SETS: [&str; 17] = [
    ADMITTED,
    CLUSTER_IPS,
    ENDPOINTS,
    HAIRPINS,
    LOCAL_ENDPOINTS,
    LOCAL_NODE_PORTS,
    LOCAL_SERVICES,
    MASQUERADED_NODE_PORTS,
    MASQUERADED_SERVICES,
    NODE_PORT_ENDPOINTS,
    NODE_PORT_IPS,
    NODE_PORT_LOCAL_ENDPOINTS,
    NODE_PORTS,
    REFUSED_NODE_PORTS,
    REFUSED_SERVICES,
    RESTRICTED,
    SERVICES,
];

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

//! Where a listener leads, in whatever mode it stands.

use kernel_state::listeners::{Header, Listener};
use service_plan::{ClientHeader, PoolName, ServicePlan};

/// To the endpoints of a pool.
pub(crate) fn listener(plan: &ServicePlan, pool: PoolName) -> Listener {
    Listener {
        endpoints: plan.pool(pool).iter().map(|endpoint| endpoint.at).collect(),
        kept: plan.affinity.map(|seconds| seconds.0),
        header: match plan.header {
            ClientHeader::None => Header::None,
            ClientHeader::ProxyV2 => Header::ProxyV2,
        },
    }
}

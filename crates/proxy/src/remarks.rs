//! What an operator should know of a plan, told once: it is served, but not as somebody may expect.

use std::collections::BTreeSet;

use service_plan::{ClientHeader, Plan, ServiceName};
use tracing::warn;

use crate::ipvs::{IpvsSettings, Wishes};
use crate::modes::{ModeError, ProxyMode};

/// Looks at every plan.
pub(crate) struct Remarks {
    wishes: Wishes,
    headers: Headers,
}

impl Remarks {
    pub(crate) fn new(mode: ProxyMode, ipvs: &IpvsSettings) -> Result<Self, ModeError> {
        let headers = Headers { mode, told: BTreeSet::new() };
        Ok(Self { wishes: Wishes::new(mode, ipvs)?, headers })
    }

    /// Takes what cannot be had out of a plan, and tells of what is new.
    pub(crate) fn settle(&mut self, plan: &mut Plan) {
        self.wishes.settle(plan);
        self.headers.tell(plan);
    }
}

/// Headers that nobody writes: rules and virtual servers pass on what the client says, and nothing else.
struct Headers {
    mode: ProxyMode,
    told: BTreeSet<ServiceName>,
}

impl Headers {
    fn tell(&mut self, plan: &Plan) {
        if self.mode == ProxyMode::Userspace {
            return;
        }
        for (service, ports) in &plan.services {
            let wanted = ports.iter().any(|port| port.header == ClientHeader::ProxyV2);
            if wanted && self.told.insert(service.clone()) {
                warn!(
                    "Service {service}: fairlead.dev/proxy-protocol is for the userspace mode; in the {} mode its \
                     endpoints get no header",
                    self.mode.name()
                );
            }
        }
    }
}

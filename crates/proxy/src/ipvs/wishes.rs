//! What Services wish of IPVS that this node does not give them: each is told of in one line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kernel_io::ipvs::{OpenError, Ownership, Servers};
use kernel_state::ipset::Family as SetFamily;
use kernel_state::ipvs::Scheduler;
use service_plan::{Address, Plan, ServiceName, ServicePlan};
use tracing::warn;

use super::{IpvsError, IpvsSettings};
use crate::modes::ProxyMode;

/// Those of the ipvs mode; in other modes nobody has any.
pub(crate) struct Wishes(Option<(Overlaps, Schedulers)>);

/// Addresses of Services in ranges that were excluded: those were meant for somebody else.
struct Overlaps {
    excluded: Vec<IpNet>,
    told: BTreeSet<(ServiceName, IpAddr)>,
}

/// Schedulers that Services name.
struct Schedulers {
    servers: Servers,
    usual: Scheduler,
    /// Those that the kernel has.
    known: BTreeSet<Arc<str>>,
    /// What each Service names that the kernel does not have.
    told: BTreeMap<ServiceName, Arc<str>>,
}

impl Wishes {
    pub(crate) fn new(mode: ProxyMode, settings: &IpvsSettings) -> Result<Self, IpvsError> {
        if mode != ProxyMode::Ipvs {
            return Ok(Self(None));
        }
        let overlaps = Overlaps { excluded: settings.excluded.clone(), told: BTreeSet::new() };
        let schedulers = Schedulers {
            servers: Servers::open(SetFamily::Inet, Ownership::default(), settings.drain_limit)?,
            usual: settings.scheduler,
            known: BTreeSet::new(),
            told: BTreeMap::new(),
        };
        Ok(Self(Some((overlaps, schedulers))))
    }

    /// Takes what cannot be had out of a plan, and tells of what is new.
    pub(crate) fn settle(&mut self, plan: &mut Plan) {
        let Some((overlaps, schedulers)) = &mut self.0 else { return };
        for port in plan.services.iter_mut().flat_map(|(_, ports)| ports) {
            overlaps.tell(port);
            schedulers.settle(port);
        }
    }
}

impl Overlaps {
    fn tell(&mut self, port: &ServicePlan) {
        for entrance in &port.entrances {
            let (Address::ClusterIp(ip, _) | Address::ExternalIp(ip, _) | Address::LoadBalancerIp(ip, _)) =
                entrance.at
            else {
                continue;
            };
            let Some(range) = self.excluded.iter().find(|range| range.contains(&ip)) else { continue };
            let service = &port.name.service;
            if self.told.insert((service.clone(), ip)) {
                warn!(
                    "Service {service}: {} {ip} is in the excluded range {range}; it is served, but its virtual servers \
                     will stay when it is gone",
                    entrance.at.field()
                );
            }
        }
    }
}

impl Schedulers {
    /// A Service whose scheduler the kernel does not have gets the one that the others have.
    fn settle(&mut self, port: &mut ServicePlan) {
        let service = &port.name.service;
        let Some(missing) = port.scheduler.take_if(|name| self.lacks(name)) else {
            self.told.remove(service);
            return;
        };
        if self.told.get(service) != Some(&missing) {
            let error = OpenError::NoScheduler { scheduler: missing.to_string() };
            warn!(
                "Service {service}: metadata.annotations[fairlead.dev/ipvs-scheduler]: {error}; {} is used until the \
                 Service changes",
                self.usual
            );
            self.told.insert(service.clone(), missing);
        }
    }

    /// Whether the kernel says that it does not have it. Any other failure is for the write to tell.
    fn lacks(&mut self, name: &Arc<str>) -> bool {
        if self.known.contains(name) {
            return false;
        }
        match Scheduler::new(name).map(|scheduler| self.servers.require(&scheduler)) {
            Some(Err(OpenError::NoScheduler { .. })) => true,
            Some(Ok(())) => {
                self.known.insert(Arc::clone(name));
                false
            }
            Some(Err(_)) | None => false,
        }
    }
}

//! What the proxy is told: the Services with what they were given, and the slices of the pods that they mean.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};

use ipnet::IpNet;
use service_plan::{EndpointSlice, Family, Health, ServiceName, SliceName};
use service_watch::{Awaited, Batch, Event, Fact, Key, NodeObject};

use crate::allocation::Served;
use crate::objects::Objects;
use crate::slices::{Backend, Place, slices};
use crate::snapshot::ServiceRow;

/// All slices, by name.
type Slices = BTreeMap<SliceName, Arc<EndpointSlice>>;

/// What the proxy was told so far.
#[derive(Debug)]
pub(crate) struct Publisher {
    feed: Sender<Batch>,
    told: Option<Told>,
    /// Those of headless Services as well, which the proxy has no use for.
    slices: Slices,
}

#[derive(Debug, PartialEq)]
struct Told {
    services: Served,
    slices: Slices,
    node: Option<NodeObject>,
}

impl Publisher {
    pub(crate) fn new(feed: Sender<Batch>) -> Self {
        Self { feed, told: None, slices: Slices::new() }
    }

    /// Tells the proxy what is news. What is answered has no value any more once the kernel has it; at once if there is
    /// no news.
    pub(crate) fn publish(
        &mut self,
        objects: &Objects,
        served: &Served,
        backends: &[Backend],
        node_name: &Arc<str>,
        ranges: &[IpNet],
    ) -> Weak<Awaited> {
        let node = objects.node().cloned();
        let zone = node.as_ref().map(|node| Arc::clone(&node.zone)).filter(|zone| !zone.is_empty());
        let place = Place { node: Arc::clone(node_name), zone };
        self.slices = all_slices(objects, backends, &place, ranges);
        let proxied = self.slices.iter().filter(|(_, slice)| served.contains_key(&slice.service));
        let proxied = proxied.map(|(name, slice)| (name.clone(), Arc::clone(slice))).collect();
        let now = Told { services: served.clone(), slices: proxied, node };
        if self.told.as_ref() == Some(&now) {
            return Weak::new();
        }
        let mut events = Vec::new();
        let nothing = Told { services: Served::new(), slices: Slices::new(), node: None };
        let before = self.told.as_ref().unwrap_or(&nothing);
        if before.node != now.node {
            events.push(Event::Node(now.node.clone()));
        }
        differing(&before.services, &now.services, |name, service| {
            events.push(Event::Service(name, service));
        });
        differing(&before.slices, &now.slices, |name, slice| events.push(Event::EndpointSlice(name, slice)));
        if self.told.is_none() {
            events.push(Event::ServiceRanges(ranges.to_vec()));
        }
        let awaited = Arc::new(Awaited);
        let written = Arc::downgrade(&awaited);
        // It counts for what is planned next, so it goes before what has everything planned.
        events.push(Event::Awaited(awaited));
        if self.told.is_none() {
            events.push(Event::Listed);
        }
        self.told = Some(now);
        // Whether the proxy still listens is told by its thread.
        let _ = self.feed.send(Batch { events, ..Batch::default() });
        written
    }

    /// The Services as a person sees them.
    pub(crate) fn rows(&self, objects: &Objects, served: &Served) -> Vec<ServiceRow> {
        let rows =
            objects.services.keys().map(|name| self.row(name, served.get(name).map(|service| &**service)));
        rows.collect()
    }

    fn row(&self, name: &ServiceName, served: Option<&service_plan::Service>) -> ServiceRow {
        let slices = self.slices.values().filter(|slice| slice.service == *name);
        // A pod with two families is one endpoint, seen twice.
        let mut counts = BTreeMap::<Family, [usize; 3]>::new();
        for slice in slices {
            let count = counts.entry(slice.family).or_default();
            for endpoint in &slice.endpoints {
                count[match endpoint.health {
                    Health::Ready => 0,
                    Health::Terminating => 1,
                    Health::Unready => 2,
                }] += 1;
            }
        }
        let most = |which: usize| counts.values().map(|count| count[which]).max().unwrap_or(0);
        let port = |port: &service_plan::ServicePort| match port.node_port {
            Some(node_port) => format!("{}:{node_port}/{}", port.port, port.protocol),
            None => format!("{}/{}", port.port, port.protocol),
        };
        ServiceRow {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
            ips: served.map(|service| service.cluster_ips.clone()).unwrap_or_default(),
            ports: served.map(|service| service.ports.iter().map(port).collect()).unwrap_or_default(),
            ready: most(0),
            terminating: most(1),
            unready: most(2),
        }
    }
}

/// The slices that are made of pods, and those that the files have themselves.
fn all_slices(objects: &Objects, backends: &[Backend], place: &Place, ranges: &[IpNet]) -> Slices {
    let node: Vec<_> = ranges.iter().map(|range| Family::of(range.addr())).collect();
    let mut all = Slices::new();
    for (key, fact) in &objects.watched {
        if let (Key::EndpointSlice(name), Fact::EndpointSlice(slice)) = (key, fact) {
            all.insert(name.clone(), Arc::clone(slice));
        }
    }
    for (name, service) in &objects.services {
        let made = slices(name, service, service.families(&node), backends, place);
        all.extend(made.into_iter().map(|(name, slice)| (name, Arc::new(slice))));
    }
    all
}

/// Tells of each that is another than before, and of those that are no more.
fn differing<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    mut tell: impl FnMut(K, Option<V>),
) {
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        tell(name.clone(), None);
    }
    for (name, value) in after.iter().filter(|(name, value)| before.get(*name) != Some(*value)) {
        tell(name.clone(), Some(value.clone()));
    }
}

//! Listeners in memory, of which a test has some refused.

use std::sync::Mutex;

use kernel_state::nft::Nft;
use proxy_modes::Nftables;
use service_plan::{
    FactChange, Facts, Family, LocalhostNodePorts, NodePort, NodePortSetting, Service, ServiceKind,
    ServiceName, Settings, plan,
};
use testkit::{FakeTarget, Fault, FaultyTarget};

use super::*;
use crate::reconciler::Reconciler;
use crate::samples::{endpoints, facts, service, settings};

struct Bench {
    facts: Facts,
    rules: FakeTarget<Nft>,
    listeners: FakeTarget<Listeners>,
    reconciler: Box<dyn Reconcile>,
    /// Whatever has this in its name or value is refused.
    refused: Arc<Mutex<&'static str>>,
}

impl Bench {
    /// Services web and api with node ports and an endpoint each.
    fn new(refused: &'static str) -> Self {
        let refused = Arc::new(Mutex::new(refused));
        let (rules, listeners) = (FakeTarget::new(), FakeTarget::new());
        let asked = Arc::clone(&refused);
        let refuse = move |change: &Change<Listeners>| {
            let refused = *asked.lock().expect("no test panics with it");
            (!refused.is_empty() && format!("{change:?}").contains(refused)).then_some(Fault::Refused)
        };
        let target = FaultyTarget::new(listeners.clone(), refuse);
        let of_rules = Box::new(Reconciler::new(Nftables::MODERN, rules.clone()));
        let reconciler = Box::new(WithLocalhost::new(of_rules, target));
        let mut bench = Self { facts: facts(), rules, listeners, reconciler, refused };
        bench.know(FactChange::Settings(Settings {
            node_ports: NodePortSetting::Ranges(vec!["127.0.0.0/8".parse().expect("a range")]),
            localhost_node_ports: LocalhostNodePorts::Relay,
            ..settings()
        }));
        for (name, ip, port) in [("web", "10.0.0.1", 30001), ("api", "10.0.0.2", 30002)] {
            bench.know(with_node_port(name, ip, port));
            bench.know(endpoints(name, service_plan::Protocol::Tcp, 8080, &["10.1.0.1"]));
        }
        bench
    }

    fn know(&mut self, change: FactChange) {
        let touched = self.facts.apply(change);
        self.reconciler.want(&plan(&self.facts, &touched, Family::V4).0);
    }

    fn refuse(&self, text: &'static str) {
        *self.refused.lock().expect("no test panics with it") = text;
    }

    fn write(&mut self) -> (Pass, LocalhostPass) {
        let pass = self.reconciler.write();
        let localhost = pass.localhost.expect("there are listeners");
        (pass, localhost)
    }

    /// Where somebody listens.
    fn open(&self) -> Vec<String> {
        self.listeners.state().iter().map(|(key, _)| key.place.to_string()).collect()
    }
}

fn with_node_port(name: &str, ip: &str, number: u16) -> FactChange {
    let FactChange::Service(name, Some(sample)) = service(name, ip) else {
        unreachable!("a Service is what is made")
    };
    let mut service: Service = (*sample).clone();
    service.kind = ServiceKind::NodePort;
    service.ports[0].node_port = NodePort::new(number);
    FactChange::Service(name, Some(Arc::new(service)))
}

#[test]
fn a_port_that_is_taken_hurts_nobody_else_and_is_tried_again() {
    let mut bench = Bench::new("30001");
    for _ in 0..2 {
        let (pass, localhost) = bench.write();
        assert_eq!(localhost, LocalhostPass { open: 1, refused: 1 });
        assert!(pass.is_complete() && !pass.is_done(), "its rules are there: {pass:?}");
        assert_eq!(bench.open(), ["127.0.0.1:30002"]);
    }
    assert!(bench.rules.state().to_string().contains("tcp . 30001 : goto node-port-cluster-1"));
    bench.refuse("");
    let (pass, localhost) = bench.write();
    assert_eq!(localhost, LocalhostPass { open: 2, refused: 0 });
    assert!(pass.is_done());
    assert_eq!(bench.open(), ["127.0.0.1:30001", "127.0.0.1:30002"]);
}

#[test]
fn a_port_that_nobody_wants_any_more_is_not_waited_for() {
    let mut bench = Bench::new("30001");
    bench.write();
    bench.know(FactChange::Service(ServiceName::new("ns", "web"), None));
    let (pass, localhost) = bench.write();
    assert_eq!(localhost, LocalhostPass { open: 1, refused: 0 });
    assert!(pass.is_done());
}

#[test]
fn what_does_not_change_is_not_opened_again() {
    let mut bench = Bench::new("");
    bench.write();
    assert_eq!(bench.listeners.take_writes().len(), 2);
    bench.know(endpoints("api", service_plan::Protocol::Tcp, 8080, &["10.1.0.2"]));
    bench.write();
    let writes = bench.listeners.take_writes();
    let changed: Vec<_> = writes.iter().flatten().map(|change| change.key().place.to_string()).collect();
    assert_eq!(changed, ["127.0.0.1:30002"]);
}

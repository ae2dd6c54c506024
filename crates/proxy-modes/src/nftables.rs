//! The nftables mode: services, node ports and endpoints are elements of a few maps, and chains are few.
//!
//! `docs/modes/nftables.md` draws the path of a packet. A service's element leads to a chain that all services
//! with as many endpoints share: it draws a number, and the endpoint of that number is an element of another map.
//! Only a service with session affinity has chains and sets of its own.

use std::net::IpAddr;

use kernel_state::nft::{
    self, Data, Field, Key, Name, Nft, NftState, Object, Protocol, Rule, Statement, Tuple, Value, Verdict,
};
use service_plan::{
    Address, Entrance, Family, Locality, Masquerade, NodePlan, PoolName, ServicePlan, Source, equal_shares,
};

use crate::Mode;

mod affinity;
mod layout;
mod skeleton;

/// The mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nftables {
    /// What the kernel allows.
    pub source_ranges: SourceRanges,
}

/// Where the source ranges of load balancers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceRanges {
    /// All in one set, whose keys end in a range.
    InSet,
    /// Each service's in a chain of its own.
    InChains,
}

impl Nftables {
    /// The mode on a kernel that has all it can use.
    pub const MODERN: Self = Self { source_ranges: SourceRanges::InSet };

    /// What the table's comment says: by which layout its sets and chains are to be read.
    pub fn layout(self) -> &'static str {
        match self.source_ranges {
            SourceRanges::InSet => layout::COMMENT,
            SourceRanges::InChains => layout::COMMENT_WITHOUT_RANGES,
        }
    }

    /// The sets and maps that hold elements of ours, and what these are.
    pub fn sets(self) -> &'static [(&'static str, nft::KeyType, nft::DataType)] {
        match self.source_ranges {
            SourceRanges::InSet => layout::SETS,
            SourceRanges::InChains => layout::SETS_WITHOUT_RANGES,
        }
    }
}

impl Mode for Nftables {
    type Objects = Nft;

    fn skeleton(&self, node: &NodePlan) -> NftState {
        skeleton::skeleton(*self, node)
    }

    fn render(&self, plan: &ServicePlan, node: &NodePlan) -> NftState {
        let mut rendering = Rendering {
            mode: *self,
            plan,
            node,
            family: family(node),
            protocol: protocol(plan),
            state: NftState::new(),
        };
        for entrance in &plan.entrances {
            rendering.entrance(entrance);
        }
        rendering.hairpins();
        if let Some(timeout) = plan.affinity {
            affinity::render(&mut rendering, timeout);
        }
        rendering.state
    }

    fn is_dear(key: &Key) -> bool {
        matches!(&key.object, Object::Chain(name) if layout::is_pool_chain(name))
    }
}

/// One service port on its way into elements.
struct Rendering<'a> {
    mode: Nftables,
    plan: &'a ServicePlan,
    node: &'a NodePlan,
    family: nft::Family,
    protocol: Protocol,
    state: NftState,
}

/// Where an entrance is found, and hence which maps serve it.
#[derive(Clone, Copy)]
enum Gate {
    /// At an address of its own.
    Socket(IpAddr, u16),
    /// At a port of the node.
    NodePort(u16),
}

/// What happens to those whom a source fits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Pool(PoolName),
    Drop,
}

impl Rendering<'_> {
    fn entrance(&mut self, entrance: &Entrance) {
        let gate = match entrance.at {
            Address::ClusterIp(ip, port) => {
                self.put(layout::CLUSTER_IPS, Tuple::Address(ip), Value::member());
                Gate::Socket(ip, port.get())
            }
            Address::ExternalIp(ip, port) | Address::LoadBalancerIp(ip, port) => Gate::Socket(ip, port.get()),
            Address::NodePort(port) => Gate::NodePort(port.get()),
        };
        let mut ways = Vec::new();
        for (source, verdict) in &entrance.verdicts {
            match (source, verdict) {
                (Source::Outside(ranges), _) => self.restrict(gate, ranges),
                (_, service_plan::Verdict::Reject) => return self.refuse(gate),
                (_, service_plan::Verdict::Drop) => ways.push((source, Way::Drop)),
                (_, service_plan::Verdict::Forward { pool, .. }) => ways.push((source, self.way(*pool))),
            }
        }
        self.masquerade(gate, entrance);
        if self.plan.affinity.is_none() {
            self.endpoints(gate, &ways);
        }
        let verdict = self.verdict(gate, &simplified(ways));
        let (map, tuple) = match gate {
            Gate::Socket(ip, port) => (layout::SERVICES, Tuple::Socket(ip, self.protocol, port)),
            Gate::NodePort(port) => (layout::NODE_PORTS, Tuple::Port(self.protocol, port)),
        };
        self.put(map, tuple, Value::verdict(verdict));
    }

    /// A pool without endpoints is a way to nowhere.
    fn way(&self, pool: PoolName) -> Way {
        if self.plan.pool(pool).is_empty() { Way::Drop } else { Way::Pool(pool) }
    }

    /// Whoever is not in one of these ranges is dropped before anything else is asked.
    fn restrict(&mut self, gate: Gate, ranges: &[ipnet::IpNet]) {
        let Gate::Socket(ip, port) = gate else { return };
        // The kernel takes no ranges that overlap.
        let ranges = ipnet::IpNet::aggregate(&ranges.to_vec());
        let socket = Tuple::Socket(ip, self.protocol, port);
        match self.mode.source_ranges {
            SourceRanges::InSet => {
                self.put(layout::RESTRICTED, socket, Value::member());
                for range in ranges {
                    let admitted = Tuple::SocketRange(ip, self.protocol, port, range);
                    self.put(layout::ADMITTED, admitted, Value::member());
                }
            }
            SourceRanges::InChains => {
                let within = |range| Statement::Within(Field::Source, nft::Sense::Is, range);
                let admits = |range| Rule::new([within(range), Statement::End(Verdict::Return)]);
                let drops = Rule::new([Statement::drop()]);
                let chain = layout::admitting_chain(&self.plan.name);
                let rules = ranges.into_iter().map(admits).chain([drops]);
                self.state.put(Key::chain(self.family, &chain), Value::chain(rules));
                self.put(layout::RESTRICTIONS, socket, Value::verdict(Verdict::Jump(chain)));
            }
        }
    }

    fn refuse(&mut self, gate: Gate) {
        self.put_at_gate(gate, layout::REFUSED_SERVICES, layout::REFUSED_NODE_PORTS);
    }

    /// Who is masqueraded at an entrance. Cluster IPs are judged by rules, since all of them are alike.
    fn masquerade(&mut self, gate: Gate, entrance: &Entrance) {
        if matches!(entrance.at, Address::ClusterIp(..)) {
            return;
        }
        let masqueraded = |(_, verdict): &&(Source, service_plan::Verdict)| {
            matches!(verdict, service_plan::Verdict::Forward { masquerade: Masquerade::Yes, .. })
        };
        match entrance.verdicts.iter().find(masqueraded).map(|(source, _)| source) {
            Some(Source::Anyone) => {
                self.put_at_gate(gate, layout::MASQUERADED_SERVICES, layout::MASQUERADED_NODE_PORTS);
            }
            Some(Source::Node) => self.put_at_gate(gate, layout::LOCAL_SERVICES, layout::LOCAL_NODE_PORTS),
            Some(Source::Pod | Source::Outside(_)) | None => {}
        }
    }

    /// The endpoints of the pools that an entrance forwards to, numbered from 0.
    fn endpoints(&mut self, gate: Gate, ways: &[(&Source, Way)]) {
        for pool in [PoolName::Cluster, PoolName::Local] {
            if !ways.iter().any(|(_, way)| *way == Way::Pool(pool)) {
                continue;
            }
            let map = endpoint_map(gate, pool);
            for (slot, endpoint) in (0..).zip(equal_shares(self.plan.pool(pool))) {
                let tuple = match gate {
                    Gate::Socket(ip, port) => Tuple::SocketSlot(ip, self.protocol, port, slot),
                    Gate::NodePort(port) => Tuple::PortSlot(self.protocol, port, slot),
                };
                self.put(map, tuple, Value::endpoint(endpoint));
            }
        }
    }

    /// What an entrance's element says: mostly, which chain is next. Chains that are missing are made.
    fn verdict(&mut self, gate: Gate, ways: &[(&Source, Way)]) -> Verdict {
        match ways {
            [] | [(_, Way::Drop)] => return Verdict::Drop,
            [(_, Way::Pool(pool))] => return Verdict::Goto(self.pool_chain(gate, *pool)),
            [..] => {}
        }
        let mut rules = Vec::new();
        let mut words = Vec::new();
        for (source, way) in ways {
            let (who, condition) = self.condition(source);
            let (where_to, end) = match way {
                Way::Drop => ("drop".to_owned(), Verdict::Drop),
                Way::Pool(pool) => (self.pool_words(*pool), Verdict::Goto(self.pool_chain(gate, *pool))),
            };
            rules.push(Rule::new(condition.into_iter().chain([Statement::End(end)])));
            words.push(format!("{who}-{where_to}"));
        }
        let name: Name = match (self.plan.affinity, gate) {
            (Some(_), _) => layout::affinity_chain(&words.join("-"), &self.plan.name),
            (None, Gate::Socket(..)) => words.join("-").into(),
            (None, Gate::NodePort(_)) => format!("node-port-{}", words.join("-")).into(),
        };
        self.state.put(Key::chain(self.family, &name), Value::chain(rules));
        Verdict::Goto(name)
    }

    fn condition(&self, source: &Source) -> (&'static str, Option<Statement>) {
        match source {
            Source::Pod => ("pods", skeleton::local_pods(self.node, nft::Sense::Is)),
            Source::Node => ("node", Some(Statement::SourceIsLocal)),
            Source::Anyone | Source::Outside(_) => ("others", None),
        }
    }

    fn pool_words(&self, pool: PoolName) -> String {
        let word = layout::pool_word(pool);
        match self.plan.affinity {
            Some(_) => word.to_owned(),
            None => format!("{word}-{}", equal_shares(self.plan.pool(pool)).len()),
        }
    }

    /// The chain that picks an endpoint of a pool: shared by all pools of that size, unless there is affinity.
    fn pool_chain(&mut self, gate: Gate, pool: PoolName) -> Name {
        if self.plan.affinity.is_some() {
            return layout::affinity_chain(layout::pool_word(pool), &self.plan.name);
        }
        let size = u32::try_from(equal_shares(self.plan.pool(pool)).len()).unwrap_or(u32::MAX);
        let (name, fields): (String, &[Field]) = match gate {
            Gate::Socket(..) => (
                format!("{}-{size}", layout::pool_word(pool)),
                &[Field::Destination, Field::Protocol, Field::Port, Field::Slot(size)],
            ),
            Gate::NodePort(_) => (
                format!("node-port-{}-{size}", layout::pool_word(pool)),
                &[Field::Protocol, Field::Port, Field::Slot(size)],
            ),
        };
        let rule = Rule::new([Statement::DnatByMap(fields.into(), endpoint_map(gate, pool).into())]);
        self.state.put(Key::chain(self.family, &name), Value::chain([rule]));
        name.into()
    }

    /// Whoever is sent to itself must be masqueraded, and only those on this node can be.
    fn hairpins(&mut self) {
        let pools = self.plan.cluster.iter().chain(&self.plan.local);
        for endpoint in pools.filter(|endpoint| endpoint.locality == Locality::Local) {
            let ip = endpoint.at.ip();
            self.put(layout::HAIRPINS, Tuple::Pair(ip, ip), Value::member());
        }
    }

    fn put_at_gate(&mut self, gate: Gate, socket_set: &'static str, port_set: &'static str) {
        match gate {
            Gate::Socket(ip, port) => {
                self.put(socket_set, Tuple::Socket(ip, self.protocol, port), Value::member());
            }
            Gate::NodePort(port) => self.put(port_set, Tuple::Port(self.protocol, port), Value::member()),
        }
    }

    fn put(&mut self, set: &'static str, tuple: Tuple, value: Value) {
        debug_assert!(matches!(value, Value::Element(Data::Nothing | Data::Verdict(_) | Data::Endpoint(..))));
        self.state.put(Key::element(self.family, set, tuple), value);
    }
}

/// Sources that go the way of all others need not be asked for.
fn simplified(mut ways: Vec<(&Source, Way)>) -> Vec<(&Source, Way)> {
    let same = |ways: &[(&Source, Way)]| matches!(ways, [.., (_, one), (_, other)] if one == other);
    while same(&ways) {
        let last = ways.len() - 1;
        ways.remove(last - 1);
    }
    ways
}

fn endpoint_map(gate: Gate, pool: PoolName) -> &'static str {
    match (gate, pool) {
        (Gate::Socket(..), PoolName::Cluster) => layout::ENDPOINTS,
        (Gate::Socket(..), PoolName::Local) => layout::LOCAL_ENDPOINTS,
        (Gate::NodePort(_), PoolName::Cluster) => layout::NODE_PORT_ENDPOINTS,
        (Gate::NodePort(_), PoolName::Local) => layout::NODE_PORT_LOCAL_ENDPOINTS,
    }
}

fn family(node: &NodePlan) -> nft::Family {
    match node.family {
        Family::V4 => nft::Family::Ip,
        Family::V6 => nft::Family::Ip6,
    }
}

fn protocol(plan: &ServicePlan) -> Protocol {
    match plan.name.protocol {
        service_plan::Protocol::Tcp => Protocol::TCP,
        service_plan::Protocol::Udp => Protocol::UDP,
        service_plan::Protocol::Sctp => Protocol::SCTP,
    }
}

#[cfg(test)]
mod tests;

//! How each mode's rules are kept in the lab.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kernel_io::link::Routing;
use kernel_io::listeners::{AddressBook, WithListeners};
use kernel_io::netns::Netns;
use kernel_io::nft::{self, Nft};
use kernel_io::xtables::{Tool, Xtables};
use kernel_io::{Drift, ReadError, SumTarget, Target, WriteError};
use kernel_state::ipset::Family as SetFamily;
use kernel_state::listeners::{self, Listeners, Place};
use kernel_state::nft::{self as nft_state, Family as NftFamily};
use kernel_state::xtables::GuardedChain;
use kernel_state::{Change, Objects, State, Sum};
use proxy::ipvs::{self, IpvsSettings, IpvsTarget};
use proxy_modes::{Iptables, Ipvs, Localhost, Mode, Nftables, SourceRanges, Transparency};
use relay::{Balancer, Mark, PortRange, Relay, RelayListeners, Settings};
use service_plan::{Family, NodePlan, ServicePlan};

use super::{Kept, LabError, nft_programs, same};
use crate::scenario::Stage;
use crate::{Expectation, Scenario, relayed, relayed_transparently};

impl Kept for Iptables {
    const NAME: &str = "iptables";

    type Target = Xtables;

    fn open(scenario: &Scenario, family: Family) -> Result<Xtables, LabError> {
        let localhost = scenario.config.iptables.localhost_node_ports;
        let guarded_chain = if localhost { GuardedChain::Wanted } else { GuardedChain::Unwanted };
        Ok(Xtables::open(tool(family), Self::layout(guarded_chain))?)
    }

    fn open_to_clean(family: Family) -> Result<Xtables, LabError> {
        Ok(Xtables::open(tool(family), Self::layout(GuardedChain::Unwanted))?)
    }
}

/// The nftables mode on some kernel, and the listeners on localhost beside its rules.
#[derive(Clone, Copy, Debug)]
pub struct WithLocalhost<K>(pub K);

/// What the mode was found to be able to do.
pub trait Kernel: Copy + Send + Sync + 'static {
    /// How it speaks there.
    const NFTABLES: Nftables;
}

/// A kernel that can do all of it.
#[derive(Clone, Copy, Debug)]
pub struct Modern;

/// One that was found to have no sets of ranges.
#[derive(Clone, Copy, Debug)]
pub struct WithoutRanges;

impl Kernel for Modern {
    const NFTABLES: Nftables = Nftables::MODERN;
}

impl Kernel for WithoutRanges {
    const NFTABLES: Nftables = Nftables { source_ranges: SourceRanges::InChains };
}

impl<K: Kernel> Mode for WithLocalhost<K> {
    type Objects = Sum<Listeners, nft_state::Nft>;

    fn skeleton(&self, node: &NodePlan) -> State<Self::Objects> {
        State::<Self::Objects>::of(Localhost.skeleton(node), K::NFTABLES.skeleton(node))
    }

    fn render(&self, plan: &ServicePlan, node: &NodePlan) -> State<Self::Objects> {
        State::<Self::Objects>::of(Localhost.render(plan, node), K::NFTABLES.render(plan, node))
    }
}

impl<K: Kernel> Kept for WithLocalhost<K> {
    const NAME: &str = "nftables";

    type Target = Relayed<SumTarget<RelayListeners, Nft>>;

    fn open(_scenario: &Scenario, family: Family) -> Result<Self::Target, LabError> {
        Self::open_to_clean(family)
    }

    fn open_to_clean(family: Family) -> Result<Self::Target, LabError> {
        let relay = relay(Mark::None)?;
        let first = relay.listeners(family.localhost(), PortRange::Any, AddressBook::default());
        let family = match family {
            Family::V4 => NftFamily::Ip,
            Family::V6 => NftFamily::Ip6,
        };
        let layout = nft::Layout {
            comment: K::NFTABLES.layout(),
            sets: K::NFTABLES.sets(),
            comments: nft::abilities(family)?.comments,
        };
        Ok(Relayed { target: SumTarget { first, then: Nft::open(family, layout)? }, _relay: relay })
    }

    /// Another process' listeners are none of its own.
    fn compared(found: &State<Self::Objects>, wanted: &State<Self::Objects>) -> Result<(), String> {
        same(&found.parts().1, &wanted.parts().1)
    }

    fn listeners(plan: &ServicePlan, node: &NodePlan) -> Vec<SocketAddr> {
        let at = |key: &listeners::Key| match key.place {
            Place::At(at) => Some(at),
            Place::Named(_) => None,
        };
        Localhost.render(plan, node).iter().filter_map(|(key, _)| at(key)).collect()
    }

    fn inspect(node: &Netns) -> Result<(), String> {
        nft_programs::all().iter().try_for_each(|program| program.copes_with(node))
    }
}

/// Something, and the threads behind its listeners. They are in the namespace that they were started in.
pub struct Relayed<T> {
    target: T,
    _relay: Relay,
}

/// The way back of answers, listeners, and rules.
type Userspace = Relayed<SumTarget<Routing, SumTarget<RelayListeners, WithListeners<Xtables>>>>;

impl Kept for proxy_modes::Userspace {
    const NAME: &str = "userspace";

    type Target = Userspace;

    fn open(scenario: &Scenario, family: Family) -> Result<Userspace, LabError> {
        let mark = Mark::Bits(scenario.configuration()?.settings.mark.0);
        let ip = scenario.stage.node_address(family);
        open_userspace(family, ip.unwrap_or(family.localhost()), mark)
    }

    fn open_to_clean(family: Family) -> Result<Userspace, LabError> {
        open_userspace(family, family.localhost(), Mark::None)
    }

    fn packets(&self, packets: &[Expectation], stage: &Stage) -> Vec<Expectation> {
        match self.transparency {
            Transparency::Off => relayed(packets),
            Transparency::On => relayed_transparently(packets, &stage.addresses),
        }
    }

    /// Another process' listeners are numbers to it; that they are right was seen by the second pass.
    fn compared(_: &State<Self::Objects>, _: &State<Self::Objects>) -> Result<(), String> {
        Ok(())
    }
}

impl<O: Objects, T: Target<O>> Target<O> for Relayed<T> {
    fn read(&mut self, found: &mut dyn FnMut(O::Key, O::Value)) -> Result<(), ReadError> {
        self.target.read(found)
    }

    fn write(&mut self, changes: &[Change<O>]) -> Result<(), WriteError> {
        self.target.write(changes)
    }

    fn drift(&mut self) -> Drift<O> {
        self.target.drift()
    }
}

fn open_userspace(family: Family, ip: IpAddr, mark: Mark) -> Result<Userspace, LabError> {
    let relay = relay(mark)?;
    let book = AddressBook::default();
    let first = relay.listeners(ip, PortRange::Any, book.clone());
    let rules = Xtables::open(tool(family), proxy_modes::Userspace::layout())?;
    let family = if family == Family::V4 { SetFamily::Inet } else { SetFamily::Inet6 };
    let routing = Routing::open(family, proxy_modes::Userspace::ANSWERS_TABLE)?;
    let then = SumTarget { first, then: WithListeners::new(rules, book) };
    Ok(Relayed { target: SumTarget { first: routing, then }, _relay: relay })
}

fn relay(mark: Mark) -> io::Result<Relay> {
    Relay::start(Settings {
        workers: 2,
        balancer: Balancer::RoundRobin,
        mark,
        udp_timeout: Duration::from_millis(250),
        drain_timeout: Duration::from_secs(1),
    })
}

impl Kept for Ipvs {
    const NAME: &str = "ipvs";

    type Target = IpvsTarget;

    fn open(scenario: &Scenario, family: Family) -> Result<IpvsTarget, LabError> {
        let settings = scenario.configuration()?.ipvs;
        ipvs::prepare(&settings)?;
        Ok(ipvs::target(family, &settings)?)
    }

    fn open_to_clean(family: Family) -> Result<IpvsTarget, LabError> {
        Ok(ipvs::target(family, &IpvsSettings::default())?)
    }
}

fn tool(family: Family) -> Tool {
    match family {
        Family::V4 => Tool::Iptables,
        Family::V6 => Tool::Ip6tables,
    }
}

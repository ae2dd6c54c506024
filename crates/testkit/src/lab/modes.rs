//! How each mode's rules are kept in the lab.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use kernel_io::link::Routing;
use kernel_io::listeners::{AddressBook, WithListeners};
use kernel_io::netns::Netns;
use kernel_io::nft::{self, Nft};
use kernel_io::xtables::{Tool, Xtables};
use kernel_io::{Drift, ReadError, SumTarget, Target, WriteError};
use kernel_state::ipset::Family as SetFamily;
use kernel_state::nft::{Family as NftFamily, NftState};
use kernel_state::xtables::GuardedChain;
use kernel_state::{Change, Objects, State};
use proxy::ipvs::{self, IpvsSettings, IpvsTarget};
use proxy_modes::{Iptables, Ipvs, Mode, Nftables, SourceRanges, Transparency, UserspaceObjects};
use relay::{Balancer, Mark, PortRange, Relay, RelayListeners, Settings};
use service_plan::{Family, NodePlan, ServicePlan};

use super::{Kept, LabError, nft_programs};
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

fn open_nft(mode: Nftables, family: Family) -> Result<Nft, LabError> {
    let family = match family {
        Family::V4 => NftFamily::Ip,
        Family::V6 => NftFamily::Ip6,
    };
    let layout =
        nft::Layout { comment: mode.layout(), sets: mode.sets(), comments: nft::abilities(family)?.comments };
    Ok(Nft::open(family, layout)?)
}

impl Kept for Nftables {
    const NAME: &str = "nftables";

    type Target = Nft;

    fn open(_scenario: &Scenario, family: Family) -> Result<Nft, LabError> {
        Self::open_to_clean(family)
    }

    fn open_to_clean(family: Family) -> Result<Nft, LabError> {
        open_nft(Self::MODERN, family)
    }

    fn inspect(node: &Netns) -> Result<(), String> {
        nft_programs::all().iter().try_for_each(|program| program.copes_with(node))
    }
}

/// The nftables mode as it is on a kernel that was found to have no sets of ranges.
#[derive(Clone, Copy, Debug)]
pub struct NftablesWithoutRanges;

const WITHOUT_RANGES: Nftables = Nftables { source_ranges: SourceRanges::InChains };

impl Mode for NftablesWithoutRanges {
    type Objects = kernel_state::nft::Nft;

    fn skeleton(&self, node: &NodePlan) -> NftState {
        WITHOUT_RANGES.skeleton(node)
    }

    fn render(&self, plan: &ServicePlan, node: &NodePlan) -> NftState {
        WITHOUT_RANGES.render(plan, node)
    }
}

impl Kept for NftablesWithoutRanges {
    const NAME: &str = Nftables::NAME;

    type Target = Nft;

    fn open(_scenario: &Scenario, family: Family) -> Result<Nft, LabError> {
        Self::open_to_clean(family)
    }

    fn open_to_clean(family: Family) -> Result<Nft, LabError> {
        open_nft(WITHOUT_RANGES, family)
    }

    fn inspect(node: &Netns) -> Result<(), String> {
        Nftables::inspect(node)
    }
}

/// The way back of answers, listeners, and rules.
type UserspaceTarget = SumTarget<Routing, SumTarget<RelayListeners, WithListeners<Xtables>>>;

/// That, and the threads behind the listeners. They are in the namespace that they were started in.
pub struct Userspace {
    target: UserspaceTarget,
    _relay: Relay,
}

impl Kept for proxy_modes::Userspace {
    const NAME: &str = "userspace";

    type Target = Userspace;

    fn open(scenario: &Scenario, family: Family) -> Result<Userspace, LabError> {
        let mark = Mark::Bits(scenario.configuration()?.settings.mark.0);
        let ip = scenario.stage.node_address(family);
        open_userspace(family, ip.unwrap_or(loopback(family)), mark)
    }

    fn open_to_clean(family: Family) -> Result<Userspace, LabError> {
        open_userspace(family, loopback(family), Mark::None)
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

impl Target<UserspaceObjects> for Userspace {
    fn read(&mut self, found: Found<'_>) -> Result<(), ReadError> {
        self.target.read(found)
    }

    fn write(&mut self, changes: &[Change<UserspaceObjects>]) -> Result<(), WriteError> {
        self.target.write(changes)
    }

    fn drift(&mut self) -> Drift<UserspaceObjects> {
        self.target.drift()
    }
}

type Found<'a> = &'a mut dyn FnMut(<UserspaceObjects as Objects>::Key, <UserspaceObjects as Objects>::Value);

fn open_userspace(family: Family, ip: IpAddr, mark: Mark) -> Result<Userspace, LabError> {
    let settings = Settings {
        workers: 2,
        balancer: Balancer::RoundRobin,
        mark,
        udp_timeout: Duration::from_millis(250),
        drain_timeout: Duration::from_secs(1),
    };
    let relay = Relay::start(settings)?;
    let book = AddressBook::default();
    let first = relay.listeners(ip, PortRange::Any, book.clone());
    let rules = Xtables::open(tool(family), proxy_modes::Userspace::layout())?;
    let family = if family == Family::V4 { SetFamily::Inet } else { SetFamily::Inet6 };
    let routing = Routing::open(family, proxy_modes::Userspace::ANSWERS_TABLE)?;
    let then = SumTarget { first, then: WithListeners::new(rules, book) };
    Ok(Userspace { target: SumTarget { first: routing, then }, _relay: relay })
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
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

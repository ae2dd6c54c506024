//! How each mode's rules are kept in the lab.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use kernel_io::link::Routing;
use kernel_io::listeners::{AddressBook, WithListeners};
use kernel_io::netns::Netns;
use kernel_io::nft::{self, Nft};
use kernel_io::xtables::{Tool, Xtables};
use kernel_io::{Drift, ReadError, SumTarget, Target, WriteError};
use kernel_state::ipset::Family as SetFamily;
use kernel_state::nft::Family as NftFamily;
use kernel_state::xtables::GuardedChain;
use kernel_state::{Change, Objects, State};
use proxy::ipvs::{self, IpvsSettings, IpvsTarget};
use proxy_modes::{Iptables, Ipvs, Nftables, Transparency, UserspaceObjects};
use relay::{Balancer, Mark, PortRange, Relay, RelayListeners, Settings};
use service_plan::Family;

use super::{Kept, LabError};
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

impl Kept for Nftables {
    const NAME: &str = "nftables";

    type Target = Nft;

    fn open(_scenario: &Scenario, family: Family) -> Result<Nft, LabError> {
        Self::open_to_clean(family)
    }

    fn open_to_clean(family: Family) -> Result<Nft, LabError> {
        let family = match family {
            Family::V4 => NftFamily::Ip,
            Family::V6 => NftFamily::Ip6,
        };
        Ok(Nft::open(family, nft::Layout { comment: Self::LAYOUT, sets: Self::SETS })?)
    }

    /// nft must list what we write, or it would fail for everybody else on the host; and what it lists must be what
    /// it can read, and be the same again.
    fn inspect(node: &Netns) -> Result<(), String> {
        let listed = run(node, "nft list ruleset")?;
        run(node, "nft -j list ruleset")?;
        let elsewhere = Netns::new().map_err(|error| error.to_string())?;
        let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        std::fs::write(file.path(), &listed).map_err(|error| error.to_string())?;
        run(&elsewhere, &format!("nft -f {}", file.path().display()))?;
        let again = run(&elsewhere, "nft list ruleset")?;
        if sorted(&again) == sorted(&listed) {
            return Ok(());
        }
        Err(format!("nft lists\n{listed}\nand what it read as\n{again}"))
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

/// The words of a listing. Elements of sets come in no order, and those that expire do so while they are listed.
fn sorted(listing: &str) -> Vec<&str> {
    let mut words: Vec<&str> = Vec::new();
    let split = |letter: char| letter.is_whitespace() || letter == ',';
    let mut all = listing.split(split).filter(|word| !word.is_empty());
    while let Some(word) = all.next() {
        if word == "expires" {
            all.next();
        } else {
            words.push(word);
        }
    }
    words.sort_unstable();
    words
}

fn run(netns: &Netns, line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    let output = netns.run(|| command.output()).map_err(|error| error.to_string())?;
    let output = output.map_err(|error| format!("{line}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

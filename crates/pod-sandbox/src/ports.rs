//! Ports of the node that lead to a pod of the built-in network: a table of nftables for each pod that has some, of the
//! name of its link.
//!
//! ```text
//! table ip fl0123456789ab {
//!     map ports   { typeof meta l4proto . th dport : ip daddr . th dport; … }              # at any address of the node
//!     map sockets { typeof ip daddr . meta l4proto . th dport : ip daddr . th dport; … }   # at one
//!     chain prerouting  { type nat hook prerouting priority -100; … dnat … }
//!     chain output      { type nat hook output priority -100; ip daddr != 127.0.0.0/8 … dnat … }
//!     chain postrouting { type nat hook postrouting priority 100; … masquerade }           # the pod, by the node, to itself
//! }
//! ```

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kernel_io::nft::{Layout, Nft, OpenError};
use kernel_state::nft::{
    ChainKind, DataType, Family, Field, Hook, HookPoint, Key, KeyType, Protocol as Number, Rule, Sense,
    SetSpec, Statement, Tuple, Value,
};

use crate::kernel::StepError;
use crate::spec::{HostPort, Protocol};

const PORTS: &str = "ports";
const SOCKETS: &str = "sockets";

/// Leads ports of the node to a pod with these addresses, in the network namespace of the calling thread.
pub(crate) fn make(table: &str, ports: &[HostPort], addresses: &[IpAddr]) -> Result<(), StepError> {
    for address in addresses {
        open(family(*address))?.make_table(table, &objects(ports, *address))?;
    }
    Ok(())
}

/// Leads them no more; what is gone already is no error.
pub(crate) fn remove(table: &str) -> Result<(), StepError> {
    [Family::Ip, Family::Ip6].into_iter().try_for_each(|family| match open(family) {
        // There cannot be one.
        Err(StepError::Nft(OpenError::Missing(_))) => Ok(()),
        opened => Ok(opened?.remove_table(table)?),
    })
}

fn open(family: Family) -> Result<Nft, StepError> {
    Ok(Nft::open(family, Layout::NONE)?)
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ip } else { Family::Ip6 }
}

/// The table of the family of one of the pod's addresses.
fn objects(ports: &[HostPort], address: IpAddr) -> Vec<(Key, Value)> {
    let family = family(address);
    let maps = [(PORTS, KeyType::Port), (SOCKETS, KeyType::Socket)];
    let mut objects = vec![(Key::table(family), Value::Table("ports of the node that lead to a pod".into()))];
    objects.extend(
        maps.map(|(name, key)| {
            (Key::set(family, name), Value::Set(SetSpec::Written(key, DataType::Endpoint)))
        }),
    );
    for port in ports {
        let protocol = number(port.protocol);
        let (map, tuple) = match port.node_ip {
            None => (PORTS, Tuple::Port(protocol, port.node_port)),
            Some(ip) if ip.is_ipv4() == address.is_ipv4() => {
                (SOCKETS, Tuple::Socket(ip, protocol, port.node_port))
            }
            Some(_) => continue,
        };
        let to = SocketAddr::new(address, port.pod_port);
        objects.push((Key::element(family, map, tuple), Value::endpoint(to)));
    }
    let hooked = |name: &str, at, priority, rules: Vec<Rule>| {
        let hook = Hook { kind: ChainKind::Nat, at, priority };
        (Key::chain(family, name), Value::base_chain(hook, rules))
    };
    let loopback: IpNet = match family {
        Family::Ip => ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8).into(),
        Family::Ip6 => IpNet::from(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)),
    };
    let own = IpNet::from(address);
    objects.extend([
        hooked("prerouting", HookPoint::Prerouting, -100, leading(&[])),
        // What is sent from there cannot be answered from elsewhere.
        hooked(
            "output",
            HookPoint::Output,
            -100,
            leading(&[Statement::Within(Field::Destination, Sense::Not, loopback)]),
        ),
        hooked(
            "postrouting",
            HookPoint::Postrouting,
            100,
            vec![Rule::new([
                Statement::Within(Field::Source, Sense::Is, own),
                Statement::Within(Field::Destination, Sense::Is, own),
                Statement::Masquerade,
            ])],
        ),
    ]);
    objects
}

/// The rules that lead from the node's ports, under a condition.
fn leading(condition: &[Statement]) -> Vec<Rule> {
    let socket = [Field::Destination, Field::Protocol, Field::Port];
    let to = |last: Vec<Statement>| Rule::new(condition.iter().cloned().chain(last));
    vec![
        to(vec![Statement::DnatByMap(socket.into(), SOCKETS.into())]),
        to(vec![
            Statement::DestinationIsLocal,
            Statement::DnatByMap([Field::Protocol, Field::Port].into(), PORTS.into()),
        ]),
    ]
}

fn number(protocol: Protocol) -> Number {
    match protocol {
        Protocol::Tcp => Number::TCP,
        Protocol::Udp => Number::UDP,
        Protocol::Sctp => Number::SCTP,
    }
}

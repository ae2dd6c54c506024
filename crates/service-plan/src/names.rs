//! Names and numbers that may not be mistaken for one another.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

/// An IP family. Each is planned and written on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both families, in the order in which they are written.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The address by which a machine calls itself.
    pub fn localhost(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::from(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::from(Ipv6Addr::LOCALHOST),
        }
    }

    /// Whether an address is of this family.
    pub fn has(self, ip: &IpAddr) -> bool {
        Self::of(*ip) == self
    }
}

/// A transport protocol that a Service may have (core/v1 `Protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// A port that something listens on, or that a Service offers on its addresses: 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

/// A port that every node opens for a Service: 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodePort(NonZeroU16);

/// The bit of the packet mark that asks for masquerade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub u32);

/// A time span in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub u32);

/// An endpoint's share of new connections, beside those of its pool: 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u8);

/// Namespace and name of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// metadata.namespace
    pub namespace: Arc<str>,
    /// metadata.name
    pub name: Arc<str>,
}

/// Namespace and name of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceName {
    /// metadata.namespace
    pub namespace: Arc<str>,
    /// metadata.name
    pub name: Arc<str>,
}

/// One port of a Service. Printed without its protocol, as every tool around kube-proxy prints it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The Service.
    pub service: ServiceName,
    /// The port's own name; empty where the Service has an unnamed port.
    pub port: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
}

impl Port {
    /// A port, unless the number is 0.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl NodePort {
    /// A node port, unless the number is 0.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl Weight {
    /// No new connection.
    pub const ZERO: Self = Self(0);
    /// What nobody states.
    pub const ONE: Self = Self(1);

    /// A weight, if it is not too large.
    pub fn new(number: u8) -> Option<Self> {
        (number <= 100).then_some(Self(number))
    }

    /// As a number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl ServiceName {
    /// A name of its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl SliceName {
    /// A name of its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Display for NodePort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for SliceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(out)?;
        if self.port.is_empty() { Ok(()) } else { write!(out, ":{}", self.port) }
    }
}

//! Routes, printed as `ip route` prints them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The way to a range of addresses.
///
/// ```
/// use kernel_io::link::Route;
/// let to = "0.0.0.0/0".parse().expect("a range");
/// let route = Route::to(to).via("169.254.1.1".parse().expect("an address")).dev("eth0").on_link();
/// assert_eq!(route.to_string(), "default via 169.254.1.1 dev eth0 onlink");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub(super) to: IpNet,
    pub(super) via: Option<IpAddr>,
    pub(super) dev: Option<String>,
    pub(super) source: Option<IpAddr>,
    pub(super) kind: Kind,
    pub(super) reach: Reach,
}

/// What becomes of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unicast,
    Local,
    Blackhole,
}

/// Whether the gateway must be reachable by another route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    ByRoute,
    OnLink,
}

impl Route {
    /// A route that still needs a gateway ([`Route::via`]), a link ([`Route::dev`]), or both.
    pub fn to(range: IpNet) -> Self {
        Self::of_kind(Kind::Unicast, range)
    }

    /// The default route of the gateway's family, by way of that gateway.
    pub fn default_via(gateway: IpAddr) -> Self {
        let range = match gateway {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
        };
        Self::to(range).via(gateway)
    }

    /// Every address of the range is this machine's own (`ip route add local RANGE dev lo`).
    pub fn local(range: IpNet) -> Self {
        Self::of_kind(Kind::Local, range).dev("lo")
    }

    /// Packets to the range are dropped without a word.
    pub fn blackhole(range: IpNet) -> Self {
        Self::of_kind(Kind::Blackhole, range)
    }

    /// By way of this gateway.
    #[must_use]
    pub fn via(mut self, gateway: IpAddr) -> Self {
        self.via = Some(gateway);
        self
    }

    /// Through this link.
    #[must_use]
    pub fn dev(mut self, link: &str) -> Self {
        self.dev = Some(link.to_owned());
        self
    }

    /// Packets of this machine that have no source yet take this one.
    #[must_use]
    pub fn source(mut self, address: IpAddr) -> Self {
        self.source = Some(address);
        self
    }

    /// The gateway is on the link although no route says so.
    #[must_use]
    pub fn on_link(mut self) -> Self {
        self.reach = Reach::OnLink;
        self
    }

    fn of_kind(kind: Kind, range: IpNet) -> Self {
        Self { to: range.trunc(), via: None, dev: None, source: None, kind, reach: Reach::ByRoute }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.kind {
            Kind::Unicast => "",
            Kind::Local => "local ",
            Kind::Blackhole => "blackhole ",
        })?;
        match self.to {
            range if range.prefix_len() == 0 => formatter.write_str("default")?,
            range if range.prefix_len() == range.max_prefix_len() => write!(formatter, "{}", range.addr())?,
            range => write!(formatter, "{range}")?,
        }
        if let Some(via) = self.via {
            write!(formatter, " via {via}")?;
        }
        if let Some(dev) = &self.dev {
            write!(formatter, " dev {dev}")?;
        }
        if let Some(source) = self.source {
            write!(formatter, " src {source}")?;
        }
        formatter.write_str(if self.reach == Reach::OnLink { " onlink" } else { "" })
    }
}

//! The sets: what each says of an address, by kube-proxy's names.

use kernel_state::ipset::{self, HashOf, SetName, SetType};
use kernel_state::xtables::{Direction, Match};
use service_plan::Family;

/// A set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Endpoints of this node, each with itself as the source.
    LoopBack,
    /// Cluster IPs.
    ClusterIp,
    /// External IPs with a Cluster policy.
    ExternalIp,
    /// External IPs with a Local policy.
    ExternalIpLocal,
    /// Load balancer IPs.
    LoadBalancer,
    /// Those with a Local policy.
    LoadBalancerLocal,
    /// Those with source ranges.
    LoadBalancerFw,
    /// Their source ranges.
    LoadBalancerSourceCidr,
    /// Those that admit the node itself, which may carry their address.
    LoadBalancerSourceIp,
    /// Node ports of TCP.
    NodePortTcp,
    /// Those with a Local policy.
    NodePortLocalTcp,
    /// Node ports of UDP.
    NodePortUdp,
    /// Those with a Local policy.
    NodePortLocalUdp,
    /// Node ports of SCTP, on each address.
    NodePortSctp,
    /// Those with a Local policy.
    NodePortLocalSctp,
    /// Health check node ports.
    HealthCheckNodePort,
    /// What is bound to the device.
    IpvsIps,
    /// Entrances at which nobody gets an answer. Ours, not kube-proxy's.
    DropAll,
    /// Entrances at which nobody outside gets an answer. Ours, not kube-proxy's.
    DropOutside,
}

impl Set {
    pub(super) const ALL: [Self; 19] = [
        Self::LoopBack,
        Self::ClusterIp,
        Self::ExternalIp,
        Self::ExternalIpLocal,
        Self::LoadBalancer,
        Self::LoadBalancerLocal,
        Self::LoadBalancerFw,
        Self::LoadBalancerSourceCidr,
        Self::LoadBalancerSourceIp,
        Self::NodePortTcp,
        Self::NodePortLocalTcp,
        Self::NodePortUdp,
        Self::NodePortLocalUdp,
        Self::NodePortSctp,
        Self::NodePortLocalSctp,
        Self::HealthCheckNodePort,
        Self::IpvsIps,
        Self::DropAll,
        Self::DropOutside,
    ];

    /// Its name; that of IPv6 is cut where the kernel would not take it, as kube-proxy cuts it.
    pub(super) fn name(self, family: Family) -> SetName {
        let name = match family {
            Family::V4 => format!("KUBE-{}", self.stem()),
            Family::V6 => format!("KUBE-6-{}", self.stem()).chars().take(SetName::MAX).collect(),
        };
        SetName::new(&name).expect("the stems are short, and the longest is cut")
    }

    /// What it holds.
    pub(super) fn kind(self, family: Family) -> SetType {
        let family = match family {
            Family::V4 => ipset::Family::Inet,
            Family::V6 => ipset::Family::Inet6,
        };
        match self {
            Self::LoopBack | Self::LoadBalancerSourceIp => SetType::Hash(HashOf::IpPortIp, family),
            Self::LoadBalancerSourceCidr => SetType::Hash(HashOf::IpPortNet, family),
            Self::IpvsIps => SetType::Hash(HashOf::Ip, family),
            Self::NodePortTcp
            | Self::NodePortLocalTcp
            | Self::NodePortUdp
            | Self::NodePortLocalUdp
            | Self::HealthCheckNodePort => SetType::BitmapPort,
            Self::ClusterIp
            | Self::ExternalIp
            | Self::ExternalIpLocal
            | Self::LoadBalancer
            | Self::LoadBalancerLocal
            | Self::LoadBalancerFw
            | Self::NodePortSctp
            | Self::NodePortLocalSctp
            | Self::DropAll
            | Self::DropOutside => SetType::Hash(HashOf::IpPort, family),
        }
    }

    /// Whether a packet goes to what is in it.
    pub(super) fn is_destination(self, family: Family) -> Match {
        use Direction::{Destination, Source};
        let directions: &[Direction] = match self.kind(family) {
            SetType::BitmapPort | SetType::Hash(HashOf::Ip, _) | SetType::Other(_) => &[Destination],
            SetType::Hash(HashOf::IpPort, _) => &[Destination, Destination],
            SetType::Hash(HashOf::IpPortIp | HashOf::IpPortNet, _) => &[Destination, Destination, Source],
        };
        Match::Set(self.name(family), directions.into())
    }

    /// Whether a packet comes from the address of what is in it, to the port.
    pub(super) fn is_source(self, family: Family) -> Match {
        Match::Set(self.name(family), [Direction::Source, Direction::Destination].into())
    }

    fn stem(self) -> &'static str {
        match self {
            Self::LoopBack => "LOOP-BACK",
            Self::ClusterIp => "CLUSTER-IP",
            Self::ExternalIp => "EXTERNAL-IP",
            Self::ExternalIpLocal => "EXTERNAL-IP-LOCAL",
            Self::LoadBalancer => "LOAD-BALANCER",
            Self::LoadBalancerLocal => "LOAD-BALANCER-LOCAL",
            Self::LoadBalancerFw => "LOAD-BALANCER-FW",
            Self::LoadBalancerSourceCidr => "LOAD-BALANCER-SOURCE-CIDR",
            Self::LoadBalancerSourceIp => "LOAD-BALANCER-SOURCE-IP",
            Self::NodePortTcp => "NODE-PORT-TCP",
            Self::NodePortLocalTcp => "NODE-PORT-LOCAL-TCP",
            Self::NodePortUdp => "NODE-PORT-UDP",
            Self::NodePortLocalUdp => "NODE-PORT-LOCAL-UDP",
            Self::NodePortSctp => "NODE-PORT-SCTP-HASH",
            Self::NodePortLocalSctp => "NODE-PORT-LOCAL-SCTP-HASH",
            Self::HealthCheckNodePort => "HEALTH-CHECK-NODE-PORT",
            Self::IpvsIps => "IPVS-IPS",
            Self::DropAll => "DROP-ALL",
            Self::DropOutside => "DROP-OUTSIDE",
        }
    }
}

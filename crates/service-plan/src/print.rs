//! How a plan reads: one paragraph a service port, as in the scenarios' plan files.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use crate::facts::{ClientHeader, LocalhostNodePorts, MasqueradeAll};
use crate::names::Weight;
use crate::plan::{
    Address, Endpoint, EndpointComments, Entrance, LocalPods, Locality, Masquerade, NodePlan,
    NodePortAddresses, Plan, Pool, PoolName, ServicePlan, Source, Verdict,
};

impl Display for Plan {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.node.fmt(out)?;
        for (name, ports) in &self.services {
            if ports.is_empty() {
                writeln!(out, "\nservice {name}: nothing in this family")?;
            }
            for port in ports {
                write!(out, "\n{port}")?;
            }
        }
        Ok(())
    }
}

impl Display for NodePlan {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "node {}", self.family)?;
        match &self.local_pods {
            Some(LocalPods::Range(range)) => writeln!(out, "  local pods   from {range}"),
            Some(LocalPods::Interface(name)) => writeln!(out, "  local pods   through {name}"),
            Some(LocalPods::InterfacePrefix(prefix)) => writeln!(out, "  local pods   through {prefix}*"),
            None => writeln!(out, "  local pods   not told apart"),
        }?;
        match self.masquerade_all {
            MasqueradeAll::Yes => writeln!(out, "  masquerade   all, mark {:#010x}", self.mark.0),
            MasqueradeAll::No => writeln!(out, "  masquerade   where needed, mark {:#010x}", self.mark.0),
        }?;
        write!(out, "  node ports   on ")?;
        match (&self.node_ports, self.localhost_node_ports) {
            (NodePortAddresses::All, _) => write!(out, "all local addresses"),
            (NodePortAddresses::Only(addresses), LocalhostNodePorts::Ignore) if addresses.is_empty() => {
                write!(out, "no address")
            }
            (NodePortAddresses::Only(addresses), _) if addresses.is_empty() => {
                write!(out, "no other address")
            }
            (NodePortAddresses::Only(addresses), _) => list(out, addresses),
        }?;
        match self.localhost_node_ports {
            LocalhostNodePorts::Serve => writeln!(out, ", and on localhost"),
            LocalhostNodePorts::Relay => writeln!(out, ", and relayed on localhost"),
            LocalhostNodePorts::Ignore => writeln!(out),
        }?;
        if self.endpoint_comments == EndpointComments::No {
            writeln!(out, "  endpoints    without comments")?;
        }
        if !self.service_ranges.is_empty() {
            write!(out, "  cluster IPs  from ")?;
            list(out, &self.service_ranges)?;
            writeln!(out)?;
        }
        Ok(())
    }
}

impl Display for ServicePlan {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "service {} {}", self.name, self.name.protocol)?;
        for (name, pool) in [("cluster", &self.cluster), ("local", &self.local)] {
            if !pool.is_empty() {
                write!(out, "  {name:<8} ")?;
                list(out, pool)?;
                writeln!(out)?;
            }
        }
        if let Some(seconds) = self.affinity {
            writeln!(out, "  affinity {} s", seconds.0)?;
        }
        if let Some(scheduler) = &self.scheduler {
            writeln!(out, "  scheduler {scheduler}")?;
        }
        match self.header {
            ClientHeader::None => {}
            ClientHeader::ProxyV2 => writeln!(out, "  header   PROXY v2")?,
        }
        for entrance in &self.entrances {
            entrance.fmt(out)?;
        }
        if !self.named_on_node.is_empty() {
            write!(out, "  node port not on ")?;
            list(out, &self.named_on_node)?;
            writeln!(out)?;
        }
        if !self.serving.is_empty() && !self.is_served_by(&self.cluster) {
            write!(out, "  flows stay with ")?;
            list(out, &self.serving)?;
            writeln!(out)?;
        }
        if let Some(check) = self.health_check {
            writeln!(out, "  health check node port {}: {} local ready", check.port, check.local_ready)?;
        }
        Ok(())
    }
}

impl ServicePlan {
    fn is_served_by(&self, pool: &Pool) -> bool {
        let pool: BTreeSet<_> = pool.iter().map(|endpoint| endpoint.at).collect();
        self.serving.iter().copied().collect::<BTreeSet<_>>() == pool
    }
}

impl Display for Entrance {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.at {
            Address::ClusterIp(..) => "cluster IP ",
            Address::ExternalIp(..) => "external IP ",
            Address::LoadBalancerIp(..) => "load balancer IP ",
            Address::NodePort(_) => "node port ",
        };
        writeln!(out, "  {kind}{}", self.at)?;
        for (source, verdict) in &self.verdicts {
            let source = source.to_string();
            writeln!(out, "    {source:<8} {verdict}")?;
        }
        Ok(())
    }
}

impl Display for Address {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIp(ip, port) | Self::ExternalIp(ip, port) | Self::LoadBalancerIp(ip, port) => {
                SocketAddr::new(*ip, port.get()).fmt(out)
            }
            Self::NodePort(port) => port.fmt(out),
        }
    }
}

impl Display for Endpoint {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self.locality {
            Locality::Local => write!(out, "{} local", self.at)?,
            Locality::Remote => self.at.fmt(out)?,
        }
        if self.weight == Weight::ONE { Ok(()) } else { write!(out, " weight {}", self.weight.get()) }
    }
}

impl Display for Source {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(ranges) => {
                out.write_str("outside ")?;
                list(out, ranges)
            }
            Self::Pod => out.write_str("pod"),
            Self::Node => out.write_str("node"),
            Self::Anyone => out.write_str("anyone"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { pool, masquerade } => {
                out.write_str(match pool {
                    PoolName::Cluster => "cluster",
                    PoolName::Local => "local",
                })?;
                match masquerade {
                    Masquerade::Yes => out.write_str(", masqueraded"),
                    Masquerade::No => Ok(()),
                }
            }
            Self::Reject => out.write_str("reject"),
            Self::Drop => out.write_str("drop"),
        }
    }
}

fn list(out: &mut Formatter<'_>, items: &[impl Display]) -> fmt::Result {
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.write_str(", ")?;
        }
        item.fmt(out)?;
    }
    Ok(())
}

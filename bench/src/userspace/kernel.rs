//! What the kernel does without any proxy: connections that it sends to a server by the rules of a mode, or directly.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kernel_io::link::{Link, Route};
use kernel_io::netns::Netns;
use kernel_io::sysctl;

use super::peers::Running;
use super::{Part, Service};

/// The servers, in a namespace with the rules of a mode that lead to them.
pub(super) struct Ruled {
    pub(super) netns: Netns,
    _servers: Running,
}

/// Where the servers are towards the rules, which do not lead to loopback, and where the Service is.
const POD: &str = "10.244.0.10";
const CLIENT: &str = "10.0.0.1";
const CLUSTER_IP: [u8; 4] = [10, 96, 0, 10];

impl Ruled {
    /// By the rules that a program writes for a mode.
    pub(super) fn new(fairlead: &Path, mode: &str) -> Result<Self> {
        let netns = Netns::new()?;
        // A connection that has ended is forgotten soon, else there are more than the kernel tracks.
        let brief = ["time_wait", "close", "fin_wait", "last_ack"];
        let names = brief.map(|state| format!("net.netfilter.nf_conntrack_tcp_timeout_{state}"));
        netns.run(|| names.iter().try_for_each(|name| sysctl::write(name, "1")))??;
        netns.run(|| sysctl::write("net.ipv4.conf.all.rp_filter", "0"))??;
        let lo = Link::loopback(&netns);
        // The first is the source of whoever does not choose one. An endpoint that asked for itself would be masqueraded.
        for address in [CLIENT, POD] {
            lo.add_address(format!("{address}/32").parse()?)?;
        }
        lo.add_route(&Route::to("10.96.0.0/16".parse()?))?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("service.yaml"), manifest())?;
        let mut command = Command::new(fairlead);
        command.args(["proxy", "--once", "--proxy-mode", mode, "--manifests"]).arg(folder.path());
        let ended = netns.run(|| command.output())??;
        ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let servers = netns.run(|| Running::part(Part::Servers))?.context("start the servers")?;
        Ok(Self { netns, _servers: servers })
    }
}

/// Where the Service leads to a server.
pub(super) fn at(service: Service) -> SocketAddr {
    SocketAddr::from((CLUSTER_IP, service.port()))
}

fn manifest() -> String {
    let ports = [Service::Source, Service::Short];
    let port = |service: &Service| format!("- {{name: p{0}, port: {0}}}\n", service.port());
    let of_slice = ports.iter().map(port).collect::<String>();
    let of_service = of_slice.replace("- ", "  - ");
    let [a, b, c, d] = CLUSTER_IP;
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: bench, namespace: default}}
spec:
  clusterIP: {a}.{b}.{c}.{d}
  ports:
{of_service}---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: bench-1, namespace: default, labels: {{kubernetes.io/service-name: bench}}}}
addressType: IPv4
ports:
{of_slice}endpoints:
- addresses: [{POD}]
"
    )
}

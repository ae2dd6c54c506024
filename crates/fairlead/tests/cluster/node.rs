//! A node: a namespace, a pod behind it that answers with its own address, and a proxy.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel_io::link::{Link, Route};
use kernel_io::netns::Netns;
use kernel_io::sysctl;

use crate::cluster::{Cluster, Process};

/// A node of the cluster. Number N has the addresses 172.18.N.2 and `fd00:18:N::2` and the pod 10.244.N.10 and
/// `fd00:244:N::a`.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) number: u8,
    pub(crate) netns: Netns,
    pub(crate) pod: Netns,
    pub(crate) proxy: Option<Process>,
}

/// The last number of a pod's addresses.
const POD: u8 = 10;

/// The port that pods serve.
pub(crate) const POD_PORT: u16 = 8080;

const PATIENCE: Duration = Duration::from_secs(1);

impl Node {
    /// Links a new node to the cluster.
    pub(crate) fn join(cluster: &Cluster, number: u8) -> Self {
        let (netns, pod) = (Netns::new().expect("a namespace"), Netns::new().expect("a namespace"));
        route(&netns);
        let (node_ips, gateways) = (on_link(number, 2), on_link(number, 1));
        let (pod_ips, pod_gateways) = (pod_ips(number, POD), pod_ips(number, 1));
        let uplink = format!("node{number}");
        link(("eth0", &netns, node_ips), (&uplink, &cluster.netns, gateways));
        link(("eth0", &pod, pod_ips), ("pod", &netns, pod_gateways));
        for family in [0, 1] {
            for (netns, gateway) in [(&netns, gateways[family]), (&pod, pod_gateways[family])] {
                Link::named("eth0", netns).add_route(&Route::default_via(gateway)).expect("a way out");
            }
            let way = Route::to(with_range(pod_ips[family]).trunc()).via(node_ips[family]);
            Link::named(&uplink, &cluster.netns).add_route(&way).expect("a way in");
            serve(&pod, SocketAddr::new(pod_ips[family], POD_PORT));
        }
        Self { name: format!("node-{number}"), number, netns, pod, proxy: None }
    }

    /// The Node object once all is known of it.
    pub(crate) fn manifest(&self) -> String {
        let range = with_range(Self::pod_ip_of(self.number)).trunc();
        self.manifest_with(&format!("podCIDR: {range}, podCIDRs: [{range}]"))
    }

    /// The Node object as a kubelet registers it, before somebody gives it the ranges of its pods.
    pub(crate) fn first_manifest(&self) -> String {
        self.manifest_with("")
    }

    fn manifest_with(&self, spec: &str) -> String {
        let (name, number) = (&self.name, self.number);
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: zone-{number}}}}},\n\
             spec: {{{spec}}},\n\
             status: {{addresses: [{{type: InternalIP, address: 172.18.{number}.2}}]}}}}\n"
        )
    }

    pub(crate) fn pod_ip_of(number: u8) -> IpAddr {
        pod_ips(number, POD)[0]
    }

    pub(crate) fn pod_ip6_of(number: u8) -> IpAddr {
        pod_ips(number, POD)[1]
    }

    /// Asks from the node; answers which pod spoke.
    pub(crate) fn ask(&self, at: SocketAddr) -> io::Result<String> {
        self.netns
            .run(|| {
                let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok(answer)
            })
            .expect("entered")
    }

    /// Waits until exactly these pods answer there, each at least once.
    pub(crate) fn until_served_by(&self, at: SocketAddr, pods: &[u8]) {
        let ip =
            |number: &u8| if at.is_ipv4() { Self::pod_ip_of(*number) } else { Self::pod_ip6_of(*number) };
        let wanted: Vec<String> = pods.iter().map(|number| ip(number).to_string()).collect();
        let seen = || -> Result<Vec<String>, io::Error> {
            let mut seen = (0..24).map(|_| self.ask(at)).collect::<io::Result<Vec<_>>>()?;
            seen.sort();
            seen.dedup();
            Ok(seen)
        };
        let start = Instant::now();
        loop {
            let now = seen();
            if now.as_ref().is_ok_and(|now| *now == wanted) {
                return;
            }
            let log = || self.proxy.as_ref().map(Process::log).unwrap_or_default();
            assert!(
                start.elapsed() < Duration::from_mins(1),
                "{at} on {} is to be served by {wanted:?} within a minute, but: {now:?}\n{}",
                self.name,
                log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until nobody answers there.
    pub(crate) fn until_unserved(&self, at: SocketAddr) {
        crate::cluster::until(&format!("nobody answers at {at} on {}", self.name), || self.ask(at).is_err());
    }

    pub(crate) fn log(&self) -> String {
        self.proxy.as_ref().map(Process::log).unwrap_or_default()
    }
}

/// Lets a namespace pass on what is not for it.
pub(crate) fn route(netns: &Netns) {
    let settings = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv6.conf.all.forwarding", "1"),
    ];
    let set = || settings.into_iter().try_for_each(|(name, value)| sysctl::write(name, value));
    netns.run(set).expect("entered").expect("a router");
}

/// The addresses of both families on the link between a node and the others.
fn on_link(number: u8, host: u8) -> [IpAddr; 2] {
    let ipv6 = Ipv6Addr::new(0xfd00, 0x18, number.into(), 0, 0, 0, 0, host.into());
    [Ipv4Addr::new(172, 18, number, host).into(), ipv6.into()]
}

/// Those in the ranges of a node's pods.
fn pod_ips(number: u8, host: u8) -> [IpAddr; 2] {
    let ipv6 = Ipv6Addr::new(0xfd00, 0x244, number.into(), 0, 0, 0, 0, host.into());
    [Ipv4Addr::new(10, 244, number, host).into(), ipv6.into()]
}

fn with_range(ip: IpAddr) -> IpNet {
    let prefix = if ip.is_ipv4() { 24 } else { 64 };
    IpNet::new(ip, prefix).expect("a prefix that fits")
}

fn link(one: (&str, &Netns, [IpAddr; 2]), two: (&str, &Netns, [IpAddr; 2])) {
    let ends = Link::veth(one.0, one.1, two.0, two.1).expect("a link");
    for (link, ips) in [(&ends.0, one.2), (&ends.1, two.2)] {
        link.set_up().expect("a link that is up");
        for ip in ips {
            link.add_address(with_range(ip)).expect("an address");
        }
    }
    ends.0.wait_running().expect("a link that runs");
}

/// Answers everybody with the address of this pod, until the tests end.
fn serve(pod: &Netns, at: SocketAddr) {
    let listener = pod.run(|| TcpListener::bind(at).expect("a port")).expect("entered");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever is gone has lost interest.
            let _ = stream.write_all(at.ip().to_string().as_bytes());
        }
    });
}

//! A node: a namespace, a pod behind it that answers with its own address, and a proxy.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel_io::link::{Link, Route};
use kernel_io::netns::Netns;
use kernel_io::sysctl;

use crate::cluster::{Cluster, Process};

/// A node of the cluster. Number N has the address 172.18.N.2 and the pod 10.244.N.10.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) number: u8,
    pub(crate) netns: Netns,
    pub(crate) pod: Netns,
    pub(crate) proxy: Option<Process>,
}

/// The port that pods serve.
pub(crate) const POD_PORT: u16 = 8080;

const PATIENCE: Duration = Duration::from_secs(1);

impl Node {
    /// Links a new node to the cluster.
    pub(crate) fn join(cluster: &Cluster, number: u8) -> Self {
        let (netns, pod) = (Netns::new().expect("a namespace"), Netns::new().expect("a namespace"));
        netns
            .run(|| {
                ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"].iter().try_for_each(|setting| {
                    let (name, value) = setting.split_once('=').expect("a setting");
                    sysctl::write(name, value)
                })
            })
            .expect("entered")
            .expect("a router");
        let node_ip = Ipv4Addr::new(172, 18, number, 2);
        let gateway = Ipv4Addr::new(172, 18, number, 1);
        let pod_ip = Self::pod_ip_of(number);
        let pod_gateway = Ipv4Addr::new(10, 244, number, 1);
        let uplink = format!("node{number}");
        link(("eth0", &netns, node_ip), (&uplink, &cluster.netns, gateway));
        link(("eth0", &pod, pod_ip), ("pod", &netns, pod_gateway));
        let all = |gateway: Ipv4Addr| Route::default_via(gateway.into());
        Link::named("eth0", &netns).add_route(&all(gateway)).expect("a way out");
        Link::named("eth0", &pod).add_route(&all(pod_gateway)).expect("a way out");
        let pods: IpNet = format!("10.244.{number}.0/24").parse().expect("a range");
        let way = Route::to(pods).via(node_ip.into());
        Link::named(&uplink, &cluster.netns).add_route(&way).expect("a way in");
        serve(&pod, SocketAddr::from((pod_ip, POD_PORT)));
        Self { name: format!("node-{number}"), number, netns, pod, proxy: None }
    }

    /// The Node object as a kubelet registers it.
    pub(crate) fn manifest(&self) -> String {
        let (name, number) = (&self.name, self.number);
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: zone-{number}}}}},\n\
             spec: {{podCIDR: 10.244.{number}.0/24, podCIDRs: [10.244.{number}.0/24]}},\n\
             status: {{addresses: [{{type: InternalIP, address: 172.18.{number}.2}}]}}}}\n"
        )
    }

    pub(crate) fn pod_ip_of(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, number, 10)
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
        let wanted: Vec<String> = pods.iter().map(|number| Self::pod_ip_of(*number).to_string()).collect();
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

fn link(one: (&str, &Netns, Ipv4Addr), two: (&str, &Netns, Ipv4Addr)) {
    let ends = Link::veth(one.0, one.1, two.0, two.1).expect("a link");
    for (link, ip) in [(&ends.0, one.2), (&ends.1, two.2)] {
        let address: IpNet = format!("{ip}/24").parse().expect("an address");
        link.add_address(address).and_then(|link| link.set_up().map(drop)).expect("a link that is up");
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

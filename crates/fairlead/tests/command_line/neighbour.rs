//! Whoever asks from another host.

use std::io;
use std::net::{IpAddr, SocketAddr};

use kernel_io::link::Link;
use kernel_io::netns::Netns;

use crate::stage::Stage;
use crate::web::{Answer, get};

/// A host on the same link as the stage.
pub(crate) struct Neighbour {
    pub(crate) netns: Netns,
}

impl Neighbour {
    /// The stage's own addresses on that link.
    pub(crate) const STAGE: [&'static str; 2] = ["192.0.2.1", "2001:db8::1"];

    pub(crate) fn new(stage: &Stage) -> Self {
        let netns = Netns::new().expect("a namespace");
        let (here, there) = Link::veth("eth0", &stage.netns, "eth0", &netns).expect("a link");
        for (link, addresses) in [(&here, Self::STAGE), (&there, ["192.0.2.2", "2001:db8::2"])] {
            for (address, length) in addresses.into_iter().zip([24, 64]) {
                let range = format!("{address}/{length}").parse().expect("a range");
                link.add_address(range).expect("an address");
            }
            link.set_up().expect("a link that is up");
        }
        here.wait_running().expect("a link that runs");
        Self { netns }
    }

    /// Asks a port of the stage by its address of each family.
    pub(crate) fn ask(&self, port: u16) -> [io::Result<Answer>; 2] {
        Self::STAGE.map(|ip| {
            let ip: IpAddr = ip.parse().expect("an address");
            get(&self.netns, SocketAddr::new(ip, port), "/")
        })
    }
}

//! The field on which the proxy is measured and tried for long: a node, a machine behind it that has all endpoints,
//! a pod beside them, and somebody outside.

mod ask;
mod fairlead;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};
use kernel_io::link::{Link, Route};
use kernel_io::netns::Netns;
use kernel_io::sysctl;

pub(crate) use ask::{Answer, ask, connect};
pub(crate) use fairlead::{Fairlead, Proxy, Tools, children_cpu};

/// The node, as somebody outside and the endpoints' machine know it.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The range of all pods: endpoints and clients.
pub(crate) const POD_RANGE: &str = "10.176.0.0/12";
/// The same of IPv6, where nobody is.
const POD_RANGE_V6: &str = "fd00:176::/32";

/// The port that every endpoint serves.
pub(crate) const ENDPOINT_PORT: u16 = 8080;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const ENDPOINT_RANGE: &str = "10.180.0.0/14";
const SERVICE_RANGE: &str = "10.96.0.0/12";
const TO_ENDPOINTS: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 0, 1, 1), Ipv4Addr::new(10, 0, 1, 2));
const TO_POD: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 184, 0, 1), Ipv4Addr::new(10, 184, 0, 2));

/// The namespaces.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) node: Netns,
    pub(crate) endpoints: Netns,
    pub(crate) pod: Netns,
    pub(crate) outside: Netns,
}

impl Field {
    /// Makes the surroundings of a node; the endpoints answer from then on.
    pub(crate) fn around(node: Netns) -> Result<Self> {
        Link::loopback(&node).set_up()?;
        node.run(|| {
            let names = ["ip_forward", "conf.all.rp_filter", "conf.default.rp_filter"];
            names
                .into_iter()
                .zip(["1", "0", "0"])
                .try_for_each(|(name, value)| sysctl::write(&format!("net.ipv4.{name}"), value))
        })??;
        let field = Self { endpoints: Netns::new()?, pod: Netns::new()?, outside: Netns::new()?, node };
        field.connect("outside", &field.outside, (NODE, OUTSIDE))?;
        field.connect("endpoints", &field.endpoints, TO_ENDPOINTS)?;
        field.connect("pod", &field.pod, TO_POD)?;
        // A node sends to a cluster IP only if it has a way there at all, before the way is changed.
        Link::named("outside", &field.node).add_route(&Route::default_via(OUTSIDE.into()))?;
        // What no rule sends elsewhere is refused at once, so that a client need not wait.
        Link::loopback(&field.outside).add_route(&Route::local(SERVICE_RANGE.parse().context("a range")?))?;
        let range = ENDPOINT_RANGE.parse().context("a range")?;
        Link::named("endpoints", &field.node).add_route(&Route::to(range).via(TO_ENDPOINTS.1.into()))?;
        Link::loopback(&field.endpoints).add_route(&Route::local(range))?;
        field.endpoints.run(serve)??;
        Ok(field)
    }

    fn connect(&self, name: &str, other: &Netns, (here, there): (Ipv4Addr, Ipv4Addr)) -> Result<()> {
        let (near, far) = Link::veth(name, &self.node, "eth0", other)?;
        for (link, address) in [(&near, here), (&far, there)] {
            link.add_address(format!("{address}/24").parse()?)?.set_up()?;
        }
        near.wait_running()?;
        far.wait_running()?.add_route(&Route::default_via(IpAddr::from(here)))?;
        Ok(())
    }
}

/// Tells each client the address that it has reached, and then says back what the client says. For ever.
fn serve() -> Result<()> {
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, ENDPOINT_PORT)).context("serve the endpoints")?;
    thread::Builder::new().name("endpoints".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let thread = thread::Builder::new().stack_size(64 << 10);
            // A client that goes away harms nobody else; one that gets no thread sees its connection end.
            let _ = thread.spawn(move || talk(stream));
        }
    })?;
    Ok(())
}

fn talk(mut stream: TcpStream) -> Result<()> {
    let here = stream.local_addr()?.ip();
    stream.set_nodelay(true)?;
    stream.write_all(format!("{here}\n").as_bytes())?;
    let mut buffer = [0; 256];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

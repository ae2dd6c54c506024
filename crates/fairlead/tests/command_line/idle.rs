//! As many connections through the userspace mode as there may be, with nothing to say: none is lost, and each costs the
//! process little.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kernel_io::link::{Link, Route};
use kernel_io::sysctl;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::stage::{Running, Stage, endpoints, service, until};

const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
const PODS: [&str; 2] = ["10.180.0.1", "10.180.0.2"];

/// What an idle connection may cost the process.
const BYTES: usize = 4096;

/// What the servers have accepted, in no order.
type Accepted = Arc<Mutex<Vec<TcpStream>>>;

#[test]
fn nine_thousand_idle_connections_cost_little() {
    hold(9000);
}

/// Holds so many connections to a Service, and lets somebody speak on each at last. This process has two descriptors for
/// each, and so has the proxy.
pub(crate) fn hold(count: usize) {
    raise_limit(2 * count + 200);
    let accepted = Accepted::default();
    let held = Arc::clone(&accepted);
    let stage = stage(move |stream| held.lock().expect("nobody panics").push(stream));
    let proxy = stage.start(stage.proxy_command(&["--proxy-mode", "userspace"]));
    proxy.until_log("pass{family=IPv4}: kernel brought to plan");
    let mut clients = Vec::new();
    let mut hold_until = |wanted: usize| {
        while clients.len() < wanted {
            // The servers' queues are short, and who is not let in at once is sent to the other one.
            let some = (wanted - clients.len()).min(100);
            clients.extend(connected(&stage, some));
            until_accepted(&accepted, clients.len(), &proxy);
        }
    };
    let few = 100;
    hold_until(few);
    let before = resident(&proxy);
    hold_until(count);
    let each = resident(&proxy).saturating_sub(before) / (count - few);
    eprintln!("{count} idle connections: {each} bytes of the process each");
    assert!(each <= BYTES, "{each} bytes");
    for stream in accepted.lock().expect("no server panics").iter_mut() {
        stream.write_all(b"!").expect("it is still there");
    }
    for mut client in clients {
        client.read_exact(&mut [0]).expect("somebody speaks");
    }
}

/// A node with two servers, that do this with each connection.
pub(crate) fn stage(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Stage {
    let stage = Stage::new();
    let settings = [("net.ipv4.conf.all.rp_filter", "0"), ("net.ipv4.ip_local_port_range", "10000 65000")];
    let set = || settings.into_iter().try_for_each(|(name, value)| sysctl::write(name, value));
    stage.netns.run(set).expect("entered").expect("written");
    let lo = Link::loopback(&stage.netns);
    for address in [NODE.to_string().as_str()].iter().chain(&PODS) {
        lo.add_address(format!("{address}/32").parse().expect("an address")).expect("added");
    }
    lo.add_route(&Route::to("10.96.0.0/16".parse().expect("a range"))).expect("a way to the Services");
    for pod in PODS {
        let at: SocketAddr = format!("{pod}:8080").parse().expect("a socket");
        let listener = stage.netns.run(|| TcpListener::bind(at)).expect("entered").expect("a port");
        let serve = serve.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.expect("a client"));
            }
        });
    }
    stage.write("web.yaml", &(service("web", "10.96.0.10", "") + &endpoints("web", &PODS)));
    stage
}

/// So many clients of the Service.
pub(crate) fn connected(stage: &Stage, count: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let stream = TcpStream::connect("10.96.0.10:80").expect("it is served");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    };
    stage.netns.run(|| (0..count).map(connect).collect()).expect("entered")
}

fn until_accepted(accepted: &Accepted, count: usize, proxy: &Running) {
    let there = || accepted.lock().expect("no server panics").len();
    until("all are relayed", || there() == count, || format!("{} of {count}\n{}", there(), proxy.log()));
}

/// Bytes of memory that a process has.
fn resident(proxy: &Running) -> usize {
    let status = proxy.proc("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number");
    kilobytes * 1024
}

/// So many descriptors, if not more; the proxy inherits the limit.
fn raise_limit(wanted: usize) {
    let wanted = u64::try_from(wanted).expect("a small number");
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let maximum = maximum.map(|maximum| maximum.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("as many descriptors");
}

//! A proxy between the nodes and the API server, as some networks have one, through which little passes at a time.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use kernel_io::netns::Netns;

use crate::acts::create;
use crate::bulk;
use crate::cluster::{Cluster, SERVER, spawn};
use crate::credentials::shown_to;
use crate::node::Node;

const PORT: u16 = 3128;

/// So much of what the server says passes in a piece, and then nothing for a while: lines come in parts.
const PIECE: usize = 700;
const PAUSE: Duration = Duration::from_millis(1);

/// What clients asked it for, before they spoke with the server.
type Asked = Arc<Mutex<Vec<String>>>;

/// A watch that is slow is followed all the same, and what was known stays served meanwhile.
pub(crate) fn slow_watch_is_followed(cluster: &mut Cluster) {
    const COUNT: u32 = 150;
    let asked = open(&cluster.netns);
    let at = create(cluster, "behind-a-proxy", 24, &[1, 2]);
    let through = |name: &str, scheme: &str, user: &str| {
        let proxy = format!(", proxy-url: \"{scheme}://{user}{SERVER}:{PORT}\"");
        cluster.write_kubeconfig_of(name, &proxy, "token: proxy-token")
    };
    let output = shown_to(cluster, &through("socks", "socks5", ""));
    assert!(String::from_utf8_lossy(&output.stdout).contains("10.96.1.24"), "{output:?}");

    let node = Node::join(cluster, 11);
    cluster.apply(&node.manifest());
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_fairlead"));
    proxy.args(["proxy", "--proxy-mode", "nftables", "--hostname-override", &node.name, "--kubeconfig"]);
    proxy.arg(through("tunnel", "http", "me:open%20sesame@")).args(["--cluster-cidr", "10.244.0.0/16"]);
    let process = node.netns.run(|| spawn(proxy, &cluster.path("narrow.log"))).expect("entered");
    node.until_served_by(at, &[1, 2]);
    bulk::create(cluster, COUNT, &Node::pod_ip_of(2).to_string());
    for number in [COUNT - 1, 0] {
        node.until_served_by(format!("{}:80", bulk::cluster_ip(number)).parse().expect("an address"), &[2]);
        node.until_served_by(at, &[1, 2]);
    }
    bulk::delete(cluster, COUNT);
    let last = format!("{}:80", bulk::cluster_ip(COUNT - 1)).parse().expect("an address");
    node.until_unserved(last);
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    let tunnel = format!("CONNECT {SERVER}:{}", crate::cluster::PORT);
    let is_ours = |head: &&String| {
        head.starts_with(&tunnel) && head.to_lowercase().contains("authorization: basic bwu6b3blbibzzxnhbwu=")
    };
    assert!(asked.iter().any(|head| head == "socks"), "{asked:?}");
    assert!(asked.iter().filter(is_ours).count() >= 1, "{asked:?}");
    drop(process);
    cluster.kubectl(&["delete", "node", &node.name], "");
}

/// Serves for as long as the tests run.
fn open(netns: &Netns) -> Asked {
    let bind = || TcpListener::bind(SocketAddr::new(SERVER, PORT));
    let listener = netns.run(bind).expect("entered").expect("a free port");
    let (asked, netns) = (Asked::default(), netns.clone());
    let heard = Arc::clone(&asked);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (heard, netns) = (Arc::clone(&heard), netns.clone());
            // A client that goes away harms nobody else.
            thread::spawn(move || pass(client, &netns, &heard));
        }
    });
    asked
}

fn pass(mut client: TcpStream, netns: &Netns, heard: &Asked) -> io::Result<()> {
    let mut first = [0];
    client.peek(&mut first)?;
    let (what, to, granted) = if first == [5] { socks(&mut client)? } else { connect(&mut client)? };
    heard.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    let server = netns.run(|| TcpStream::connect(to)).expect("entered")?;
    client.write_all(&granted)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || io::copy(&mut from_client, &mut to_server));
    let (mut server, mut piece) = (server, [0; PIECE]);
    loop {
        let length = server.read(&mut piece)?;
        if length == 0 {
            return client.shutdown(std::net::Shutdown::Both);
        }
        client.write_all(&piece[..length])?;
        thread::sleep(PAUSE);
    }
}

/// RFC 9110, section 9.3.6. What was asked, where to, and the answer that grants it.
fn connect(client: &mut TcpStream) -> io::Result<(String, SocketAddr, Vec<u8>)> {
    let (mut head, mut letter) = (String::new(), [0]);
    while !head.ends_with("\r\n\r\n") {
        client.read_exact(&mut letter)?;
        head.push(letter[0].into());
    }
    let to = head.split(' ').nth(1).and_then(|to| to.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((head, to, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()))
}

/// RFC 1928, without a password, by an IPv4 address.
fn socks(client: &mut TcpStream) -> io::Result<(String, SocketAddr, Vec<u8>)> {
    let mut methods = [0; 2];
    client.read_exact(&mut methods)?;
    client.read_exact(&mut vec![0; methods[1].into()])?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 10];
    client.read_exact(&mut request)?;
    let [5, 1, 0, 1, a, b, c, d, high, low] = request else { return Err(io::ErrorKind::InvalidData.into()) };
    let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([high, low]));
    Ok(("socks".to_owned(), to, vec![5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
}

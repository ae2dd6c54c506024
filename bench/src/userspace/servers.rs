//! What the proxies lead to, and the plainest UDP relay there is.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use kernel_io::datagrams::Batch;
use rustix::event::{PollFd, PollFlags, poll};

use super::Service;
use super::peers::{forever, raise_limit};

/// Serves all services.
pub(super) fn serve() -> Result<()> {
    raise_limit();
    listening(Service::Source, |mut stream| {
        let zeros = vec![0; 1 << 20];
        while stream.write_all(&zeros).is_ok() {}
    })?;
    for_short()?;
    let hold = TcpListener::bind(anywhere(Service::Hold))?;
    thread::spawn(move || hold.incoming().collect::<Vec<_>>());
    let echo = UdpSocket::bind(anywhere(Service::Echo))?;
    thread::spawn(move || {
        let mut batch = Batch::new();
        loop {
            let mut ready = [PollFd::new(&echo, PollFlags::IN)];
            let Ok(_) = poll(&mut ready, None) else { continue };
            while let Ok(count) = batch.receive(echo.as_fd()) {
                let mut start = 0;
                while start < count {
                    let run = batch.run(start, count);
                    start = run.end;
                    let to = batch.sender(run.start);
                    let _ = batch.send(run, echo.as_fd(), to);
                }
            }
        }
    });
    forever()
}

/// Several threads, each of which serves one connection at a time.
fn for_short() -> Result<()> {
    let listener = Arc::new(TcpListener::bind(anywhere(Service::Short))?);
    for _ in 0..16 {
        let listener = Arc::clone(&listener);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut word = [0; 64];
                if stream.read_exact(&mut word).is_ok() {
                    let _ = stream.write_all(&word);
                }
            }
        });
    }
    Ok(())
}

fn listening(service: Service, serve: impl Fn(TcpStream) + Send + Clone + 'static) -> Result<()> {
    let listener = TcpListener::bind(anywhere(service))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    Ok(())
}

fn local(service: Service) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, service.port()))
}

/// At all addresses: rules lead to one that is not loopback.
fn anywhere(service: Service) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, service.port()))
}

/// One thread, one socket towards clients, a socket towards the server for each of them, and a datagram a call.
pub(super) fn naive_relay() -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, Service::Echo.port() + 400))?;
    socket.set_nonblocking(true)?;
    let mut clients: Vec<(SocketAddr, UdpSocket)> = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut ready = vec![PollFd::new(&socket, PollFlags::IN)];
        ready.extend(clients.iter().map(|(_, back)| PollFd::new(back, PollFlags::IN)));
        poll(&mut ready, None)?;
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            if clients.iter().all(|(known, _)| *known != client) {
                clients.push((client, towards_the_server()?));
            }
            let back = clients.iter().find(|(known, _)| *known == client);
            let _ = back.map(|(_, back)| back.send(&buffer[..length]));
        }
        for (client, back) in &clients {
            while let Ok(length) = back.recv(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], client);
            }
        }
    }
}

fn towards_the_server() -> Result<UdpSocket> {
    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    back.connect(local(Service::Echo))?;
    back.set_nonblocking(true)?;
    Ok(back)
}

//! Those who ask.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kernel_io::datagrams::Batch;
use kernel_io::socket_options::set_segments;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::peers::{enough_descriptors, raise_limit};

/// How many ask at once for short connections, and for datagrams.
const ASKERS: u32 = 16;
const SENDERS: usize = 8;
/// How many datagrams of a sender are on the way.
const WINDOW: usize = 64;

/// Reads from connections as fast as they give. Gigabytes, and seconds.
pub(super) fn bulk(at: SocketAddr, connections: usize, span: Duration) -> Result<(f64, f64)> {
    let total = AtomicU64::new(0);
    let streams: Vec<TcpStream> =
        (0..connections).map(|_| TcpStream::connect(at)).collect::<Result<_, _>>()?;
    let start = Instant::now();
    thread::scope(|scope| {
        for mut stream in streams {
            let total = &total;
            scope.spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                while let Ok(count @ 1..) = stream.read(&mut buffer)
                    && start.elapsed() < span
                {
                    total.fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    Ok((number(total.into_inner()) / 1e9, seconds))
}

/// Short connections a second, one after another for each that asks.
pub(super) fn short(at: SocketAddr, span: Duration) -> Result<f64> {
    let total = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS)
            .map(|_| {
                scope.spawn(|| {
                    while start.elapsed() < span {
                        short_once(at)?;
                        total.fetch_add(1, Ordering::Relaxed);
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        askers.into_iter().try_for_each(|asker| asker.join().expect("an asker does not panic"))
    })?;
    Ok(number(total.into_inner()) / start.elapsed().as_secs_f64())
}

/// One of them.
pub(super) fn short_once(at: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[7; 64])?;
    stream.read_exact(&mut [0; 64])?;
    Ok(())
}

/// The time that all but one in a hundred short connections take at most, at a rate, in milliseconds. Who comes late
/// to its turn counts from its turn on.
pub(super) fn p99(at: SocketAddr, rate: f64, span: Duration) -> Result<f64> {
    let pause = Duration::from_secs_f64(f64::from(ASKERS) / rate);
    let start = Instant::now();
    let mut times = thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS)
            .map(|asker| {
                scope.spawn(move || {
                    let mut times = Vec::new();
                    let mut turn = start + pause * asker / ASKERS;
                    while turn < start + span {
                        thread::sleep(turn.saturating_duration_since(Instant::now()));
                        short_once(at)?;
                        times.push(turn.elapsed());
                        turn += pause;
                    }
                    anyhow::Ok(times)
                })
            })
            .collect();
        let all = askers.into_iter().map(|asker| asker.join().expect("an asker does not panic"));
        all.collect::<Result<Vec<_>>>().map(|times| times.concat())
    })?;
    times.sort();
    Ok(times.get(times.len() * 99 / 100).context("no connection was made")?.as_secs_f64() * 1000.0)
}

/// Datagrams of 64 bytes that come back a second, of clients that have a number of them on the way. They and the server
/// move them by the batch, or they and not the relay would be what is measured.
pub(super) fn datagrams(at: SocketAddr, span: Duration) -> Result<f64> {
    let total = AtomicU64::new(0);
    let sockets: Vec<UdpSocket> =
        (0..SENDERS).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let start = Instant::now();
    thread::scope(|scope| {
        for socket in sockets {
            let total = &total;
            scope.spawn(move || -> Result<()> {
                socket.connect(at)?;
                set_segments(&socket, 64)?;
                let mut back = Batch::new();
                while start.elapsed() < span {
                    // What there is no room for is lost, as datagrams are.
                    let _ = socket.send(&[7; 64 * WINDOW]);
                    total.fetch_add(heard(&socket, &mut back)?, Ordering::Relaxed);
                }
                Ok(())
            });
        }
    });
    Ok(number(total.into_inner()) / start.elapsed().as_secs_f64())
}

/// How many of a window's datagrams come back.
fn heard(socket: &UdpSocket, back: &mut Batch) -> Result<u64> {
    let mut heard = 0;
    while heard < WINDOW && is_readable(socket, Duration::from_millis(50))? {
        heard += back.receive(socket.as_fd()).unwrap_or_default();
    }
    Ok(heard as u64)
}

/// Connections that nobody says anything on.
pub(super) fn held(at: SocketAddr, connections: u32) -> Result<Vec<TcpStream>> {
    raise_limit();
    enough_descriptors(connections)?;
    (0..connections).map(|_| Ok(TcpStream::connect(at)?)).collect()
}

fn is_readable(socket: &UdpSocket, patience: Duration) -> Result<bool> {
    let patience = Timespec::try_from(patience)?;
    Ok(poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&patience))? > 0)
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}

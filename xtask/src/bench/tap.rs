//! Somebody between a client and the API server, who passes everything on and notes when.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

/// A place where clients connect as if to the server.
pub(super) struct Tap {
    port: u16,
    passed: Passed,
}

/// When something was passed on to a client, and how much it was by then.
type Passed = Arc<Mutex<Vec<(Instant, usize)>>>;

/// What comes after lists while a proxy writes: answers to its own events, and bookmarks.
const NO_LIST: usize = 16 << 10;

impl Tap {
    /// Lets clients in from now on, until the process ends.
    pub(super) fn before(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("be between")?;
        let tap = Self { port: listener.local_addr()?.port(), passed: Passed::default() };
        let passed = Arc::clone(&tap.passed);
        thread::Builder::new().name("tap".to_owned()).spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that cannot be served sees its connection end, and says so.
                let _ = serve(client, server, &passed);
            }
        })?;
        Ok(tap)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// When the lists were passed on: all but the little that may have followed by then.
    pub(super) fn lists_passed(&self, by: Instant) -> Option<Instant> {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let until = passed.partition_point(|(when, _)| *when <= by);
        let (_, all) = passed[..until].last()?;
        passed.iter().find(|(_, sum)| sum + NO_LIST >= *all).map(|(when, _)| *when)
    }
}

fn serve(client: TcpStream, server: SocketAddr, passed: &Passed) -> Result<()> {
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (asked, answered) = (client.try_clone()?, server.try_clone()?);
    thread::Builder::new().spawn(move || pass(asked, server, |_| ()))?;
    let passed = Arc::clone(passed);
    thread::Builder::new().spawn(move || {
        pass(answered, client, |count| {
            let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
            let sum = passed.last().map_or(0, |(_, sum)| *sum) + count;
            passed.push((Instant::now(), sum));
        });
    })?;
    Ok(())
}

/// Until either side ends.
fn pass(mut from: TcpStream, mut to: TcpStream, note: impl Fn(usize)) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        note(count);
    }
    for stream in [from, to] {
        // It may have ended by itself.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

//! A Service whose one endpoint is replaced again and again, and looked for: it tells what is in the rules.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kernel_io::netns::Netns;
use serde_json::json;

use super::world::{Change, Endpoint, Health, Place, World, service_object, slice_object};
use crate::field::{Answer, ENDPOINT_PORT, ask};

/// The beacon.
pub(super) struct Beacon {
    turn: u16,
    before: Change,
    /// How long each took from rename to answer, in ms.
    pub(super) seen: Vec<f64>,
    /// Changes of everybody when the last one was seen.
    pub(super) changes: usize,
}

const NAME: &str = "beacon";
const IP: Ipv4Addr = Ipv4Addr::new(10, 111, 255, 254);

/// A beacon that is not seen by then never will be.
const PATIENCE: Duration = Duration::from_mins(1);

/// Between two beacons.
const PAUSE: Duration = Duration::from_millis(50);

impl Beacon {
    pub(super) fn new(world: &Mutex<World>) -> Result<Self> {
        let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
        let spec = json!({
            "type": "ClusterIP",
            "clusterIP": IP,
            "clusterIPs": [IP],
            "ports": [{ "name": "web", "protocol": "TCP", "port": 80, "targetPort": ENDPOINT_PORT }],
        });
        world.replace("services", NAME, Some(service_object(NAME, &spec)))?;
        let mut beacon = Self { turn: 0, before: 0, seen: Vec::new(), changes: 0 };
        beacon.turn(&mut world)?;
        Ok(beacon)
    }

    /// Waits until the proxy has written all that there is.
    pub(super) fn await_first(&mut self, node: &Netns, world: &Mutex<World>) -> Result<()> {
        node.run(|| {
            self.look(Instant::now(), &AtomicBool::new(false))?;
            for _ in 0..2 {
                self.once(world, &AtomicBool::new(false))?;
            }
            self.seen.clear();
            Ok(())
        })?
    }

    /// Keeps everybody told until told to stop; if a beacon is not seen, tells everybody to stop.
    pub(super) fn keep_lit(&mut self, node: &Netns, world: &Mutex<World>, stop: &AtomicBool) -> Result<()> {
        node.run(|| {
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = self.once(world, stop) {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                thread::sleep(PAUSE);
            }
            Ok(())
        })?
    }

    fn once(&mut self, world: &Mutex<World>, stop: &AtomicBool) -> Result<()> {
        let (change, written) = {
            let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
            let change = self.turn(&mut world)?;
            (change, Instant::now())
        };
        if self.look(written, stop)? == Look::Stopped {
            return Ok(());
        }
        self.seen.push(written.elapsed().as_secs_f64() * 1000.0);
        let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settled = self.before;
        self.before = change;
        self.changes = usize::try_from(world.next)?;
        Ok(())
    }

    fn turn(&mut self, world: &mut World) -> Result<Change> {
        self.turn = self.turn.wrapping_add(1);
        let change = world.next;
        let endpoint = Endpoint { ip: self.ip(), health: Health::Ready, place: Place::ThisNode };
        world.replace("slices", NAME, Some(slice_object(NAME, &[endpoint])))?;
        Ok(change)
    }

    fn look(&self, since: Instant, stop: &AtomicBool) -> Result<Look> {
        while ask(SocketAddr::from((IP, 80)), Duration::from_millis(500)) != Answer::By(self.ip()) {
            if stop.load(Ordering::Relaxed) {
                return Ok(Look::Stopped);
            }
            if since.elapsed() > PATIENCE {
                bail!("the change of an endpoint was not seen within {PATIENCE:?}");
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(Look::Seen)
    }

    fn ip(&self) -> Ipv4Addr {
        let [high, low] = self.turn.to_be_bytes();
        Ipv4Addr::new(10, 183, high, low)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Seen,
    Stopped,
}

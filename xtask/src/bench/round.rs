//! One start of the proxy in a node of its own, and what is timed there.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kernel_io::netns::Netns;

use super::cluster::{Cluster, Shape};
use super::passes;
use crate::field::{Answer, Fairlead, Field, Proxy, Tools, ask};

/// The proxy on a node that nobody else is on.
pub(super) struct Round {
    pub(super) field: Field,
    pub(super) proxy: Proxy,
    pub(super) log: PathBuf,
    cluster: Cluster,
    manifests: PathBuf,
}

/// Longer than anything that is measured.
const PATIENCE: Duration = Duration::from_mins(5);

/// Between two changes: a proxy that waits between writes has done so.
const PAUSE: Duration = Duration::from_millis(250);

impl Round {
    /// Starts it with nothing to serve.
    pub(super) fn start(mode: &'static str, tools: &Tools, size: u32, folder: &Path) -> Result<Self> {
        let field = Field::around(Netns::new()?)?;
        let cluster = Cluster::new(Shape::even(size, 10));
        let manifests = folder.join("manifests");
        fs::create_dir_all(&manifests)?;
        cluster.write_last(&manifests)?;
        let fairlead =
            Fairlead { mode, tools: tools.clone(), manifests: manifests.clone(), arguments: Vec::new() };
        let log = folder.join("proxy.log");
        let proxy = fairlead.serve(&field.node, log.clone())?;
        let start = Instant::now();
        while passes::count(&log)? == 0 {
            ensure!(start.elapsed() < PATIENCE, "the proxy does not start");
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(PAUSE);
        Ok(Self { field, proxy, log, cluster, manifests })
    }

    /// How many ms it takes from the rename of the manifests until the last Service answers. When this returns, the
    /// others do so too.
    pub(super) fn load(&self) -> Result<f64> {
        let before = passes::count(&self.log)?;
        let start = self.cluster.appear(&self.manifests)?;
        let took = self.await_answer(self.cluster.last(), start, Duration::from_millis(2), |_| true)?;
        while passes::count(&self.log)? == before {
            ensure!(start.elapsed() < PATIENCE, "the proxy does not end writing");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(took)
    }

    /// How many ms it takes from the rename of a manifest until a connection reaches the endpoint that is new in it.
    pub(super) fn change(&mut self) -> Result<f64> {
        thread::sleep(PAUSE);
        let fresh = self.cluster.replace_endpoint();
        let start = self.cluster.write_last(&self.manifests)?;
        // One connection of ten finds the new endpoint, so they follow each other fast.
        let pause = Duration::from_micros(100);
        self.await_answer(self.cluster.last(), start, pause, |endpoint| endpoint == fresh)
    }

    /// Where the last Service is asked.
    pub(super) fn last(&self) -> SocketAddr {
        self.cluster.last()
    }

    fn await_answer(
        &self,
        at: SocketAddr,
        start: Instant,
        probe_pause: Duration,
        is_it: impl Fn(Ipv4Addr) -> bool + Send + Sync,
    ) -> Result<f64> {
        self.field.node.run(|| {
            while !matches!(ask(at, Duration::from_millis(500)), Answer::By(endpoint) if is_it(endpoint)) {
                ensure!(start.elapsed() < PATIENCE, "{at} did not answer as it should");
                thread::sleep(probe_pause);
            }
            Ok(start.elapsed().as_secs_f64() * 1000.0)
        })?
    }
}

//! The proxy beside us: what it is told to be, and the thread in which it is.

use std::sync::mpsc::{self, Sender};
use std::thread;

use proxy::{Configuration, Feed, Input, KubeProxyConfiguration, Origin, OwnSettings, ProxyError, ProxyMode};

use crate::{Settings, UpError};

/// The proxy's thread. It ends when this is dropped, and the rules stay.
pub(crate) struct Proxying {
    pub(crate) mode: ProxyMode,
    stop: Sender<()>,
}

/// What the proxy is told to be.
pub(crate) fn configuration(
    settings: &Settings,
    auto: impl FnOnce() -> ProxyMode,
) -> Result<Configuration, UpError> {
    let ranges: Vec<_> = settings.pod_ranges.iter().map(ToString::to_string).collect();
    let written = KubeProxyConfiguration {
        mode: settings.mode.clone(),
        cluster_cidr: ranges.join(","),
        hostname_override: settings.node_name.clone(),
        // Nobody asks a single node whether it may have more work.
        healthz_bind_address: String::new(),
        // Pods would have the score of whoever starts them.
        oom_score_adj: 0,
        ..KubeProxyConfiguration::default()
    };
    Ok(written.checked(&OwnSettings::default(), auto)?)
}

impl Proxying {
    /// Starts it; `ended` is told when it cannot go on.
    pub(crate) fn start(
        settings: &Settings,
        feed: Feed,
        ended: impl FnOnce(Result<(), ProxyError>) + Send + 'static,
    ) -> Result<Self, UpError> {
        let configuration = configuration(settings, proxy::best_mode)?;
        let mode = configuration.mode;
        let input = Input { configuration, origin: Origin::Fed(feed), flags: Vec::new() };
        let (stop, stopped) = mpsc::channel();
        let (_, unchanging) = mpsc::channel();
        let work = move || ended(proxy::serve(&input, stopped, unchanging));
        thread::Builder::new().name("proxy".to_owned()).spawn(work).map_err(UpError::Thread)?;
        Ok(Self { mode, stop })
    }
}

impl Drop for Proxying {
    fn drop(&mut self) {
        let _ = self.stop.send(()); // it may have ended
    }
}

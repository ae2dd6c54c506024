//! Who takes part: our proxy, and kube-proxies of several versions. All are told the same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::control_plane;
use crate::field::{POD_RANGE, Tools};
use crate::workspace::dist;

/// A proxy in one of its modes.
pub(super) struct Contender {
    pub(super) name: &'static str,
    program: PathBuf,
    arguments: Vec<&'static str>,
    mode: &'static str,
    tools: Tools,
    pause: Duration,
}

const OURS: &str = "ours";

/// Between changes: ours has come to rest by then, and its tools have.
const OUR_PAUSE: Duration = Duration::from_millis(60);
const OUR_PAUSE_WITH_TOOLS: Duration = Duration::from_millis(500);

/// By default a kube-proxy waits a second between writes; then it need not wait.
const KUBE_PROXY_PAUSE: Duration = Duration::from_millis(1500);

impl Contender {
    pub(super) fn ours(mode: &'static str, tools: &Tools) -> Self {
        let (program, arguments) = (dist().join("fairlead"), vec!["proxy"]);
        let pause = if mode == "nftables" { OUR_PAUSE } else { OUR_PAUSE_WITH_TOOLS };
        Self { name: OURS, program, arguments, mode, tools: tools.clone(), pause }
    }

    /// Of the version of the cluster tests.
    pub(super) fn kube_proxy(mode: &'static str, tools: &Tools) -> Result<Self> {
        let (program, name) = (control_plane::program("kube-proxy")?, "kube-proxy 1.36");
        let pause = KUBE_PROXY_PAUSE;
        Ok(Self { name, program, arguments: Vec::new(), mode, tools: tools.clone(), pause })
    }

    /// The newest one, which can do without `nft`.
    pub(super) fn newest_kube_proxy(program: PathBuf) -> Self {
        Self {
            name: "kube-proxy 1.37, NFTablesNetlink",
            program,
            arguments: vec!["--feature-gates", "NFTablesNetlink=true"],
            mode: "nftables",
            tools: Tools::of_machine(),
            pause: KUBE_PROXY_PAUSE,
        }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.name == OURS
    }

    pub(super) fn tools(&self) -> &Tools {
        &self.tools
    }

    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// Its name where letters and figures alone will do.
    pub(super) fn file_name(&self) -> String {
        self.name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
    }

    pub(super) fn command(&self, kubeconfig: &Path) -> Command {
        let mut command = self.tools.command(&self.program.to_string_lossy());
        command.args(&self.arguments).arg("--kubeconfig").arg(kubeconfig);
        command.args(["--proxy-mode", self.mode, "--hostname-override", "node-1"]);
        // A namespace has no limit of its own, and kube-proxy does not start without.
        command.args(["--conntrack-max-per-core", "0", "--conntrack-min", "0"]);
        command.args(["--cluster-cidr", POD_RANGE]);
        command
    }
}

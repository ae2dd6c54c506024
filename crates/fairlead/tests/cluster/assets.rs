//! The programs of a cluster: found where the ecosystem keeps them, else built from `tests/cluster`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where they are.
#[derive(Clone, Debug)]
pub(crate) struct Assets {
    directory: PathBuf,
}

const BUILT: [&str; 3] = ["kube-apiserver", "kube-proxy", "kubectl"];

impl Assets {
    /// What a machine lacks that cannot run a cluster.
    pub(crate) fn missing() -> Option<String> {
        let is_root = || rustix::process::geteuid().is_root();
        let works = |program: &str, argument: &str| {
            let quiet =
                Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
            quiet.is_ok_and(|status| status.success())
        };
        let found = || given().is_some_and(|directory| is_whole(&directory)) || is_whole(&cache());
        [
            ("root", is_root()),
            ("etcd", works("etcd", "--version")),
            ("Go, or $KUBEBUILDER_ASSETS", found() || works("go", "version")),
        ]
        .into_iter()
        .find_map(|(what, is_there)| (!is_there).then(|| what.to_owned()))
    }

    /// Finds them, or builds them, which takes some minutes once.
    pub(crate) fn get() -> Self {
        let directory = match given() {
            Some(directory) if is_whole(&directory) => directory,
            Some(_) | None => cache(),
        };
        if !is_whole(&directory) {
            build(&directory);
        }
        Self { directory }
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        Command::new(self.directory.join(name))
    }
}

fn given() -> Option<PathBuf> {
    std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from)
}

/// Beside the Rust artefacts, so that who removes those removes these.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("cluster")
}

fn is_whole(directory: &Path) -> bool {
    BUILT.iter().all(|name| directory.join(name).exists())
}

fn build(directory: &Path) {
    eprintln!("building kube-apiserver, kube-proxy and kubectl from tests/cluster; this takes minutes, once");
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cluster");
    let draft = directory.with_extension("draft");
    // An unstamped build would be of no version, and the API server would refuse its own feature gates.
    let stamp = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
                 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";
    let mut go = Command::new("go");
    go.current_dir(module).args(["build", "-trimpath", "-ldflags", stamp, "-o"]).arg(&draft).arg("tool");
    std::fs::create_dir_all(&draft).expect("a directory to build in");
    assert!(go.status().expect("Go starts").success(), "go build");
    std::fs::rename(&draft, directory).expect("what was built is moved to its place");
}

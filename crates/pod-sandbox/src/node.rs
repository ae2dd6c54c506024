//! The node that sandboxes stand on: where their state is kept, and what they all have in common.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kernel_io::cgroup::{CgroupError, Cgroups};
use kernel_io::namespaces::IdRange;
use kernel_io::netns::{Netns, NetnsError};
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// The node's part of what sandboxes are. [`NodeSettings::at`] has the defaults.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The directory under which everything is kept. Two nodes on one machine need two.
    pub root: PathBuf,
    /// The cgroup below which each sandbox has its own.
    pub cgroup: String,
    /// Where the CNI configuration is, and the plugins.
    pub cni: CniSettings,
    /// The ranges from which pods of the built-in network have their addresses: none, one, or one of each family.
    pub ranges: Vec<IpNet>,
    /// The user and group numbers from which pods with their own have theirs, [`IDS_PER_POD`] each.
    pub ids: IdRange,
    /// The program that is process 1 of a pod whose containers share their processes.
    pub pause: Cow<'static, [u8]>,
    /// Settings beyond the safe ones that pods may set; a star at the end stands for any ending.
    pub unsafe_sysctls: Vec<String>,
    /// The cluster's name servers and domain.
    pub cluster_dns: ClusterDns,
    /// The node's own name servers.
    pub resolv_conf: PathBuf,
    /// The node's own names, for pods on its network.
    pub hosts: PathBuf,
}

/// Where the CNI configuration is, and the plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniSettings {
    /// The directory of network configurations; the first of its files counts. Without one, the built-in network.
    pub configurations: PathBuf,
    /// The directories of plugins; the first that has one counts.
    pub plugins: Vec<PathBuf>,
    /// How long a plugin may take.
    pub timeout: Duration,
}

/// The cluster's name servers and domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterDns {
    /// The name servers.
    pub servers: Vec<IpAddr>,
    /// The domain, such as `cluster.local`.
    pub domain: String,
}

/// How many user and group numbers a pod has.
pub const IDS_PER_POD: u32 = 65_536;

/// The node that sandboxes stand on. Clones are the same node.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: NodeSettings,
    netns: Netns,
    cgroups: Cgroups,
}

/// A node that cannot be used.
#[derive(Debug, Error)]
pub enum NodeError {
    /// In the tree of cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Of the node's network namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A file or directory under the root.
    #[error("{verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Held while the list of sandboxes, or what they share, is changed.
#[derive(Debug)]
pub(crate) struct Guard(#[expect(dead_code, reason = "its life is the lock")] File);

impl NodeSettings {
    /// The defaults, everything kept under a directory.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            cgroup: "fairlead".to_owned(),
            cni: CniSettings {
                configurations: "/etc/cni/net.d".into(),
                plugins: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
                timeout: Duration::from_secs(30),
            },
            ranges: Vec::new(),
            // Above what is given to users of machines, in whole blocks.
            ids: IdRange { first: IDS_PER_POD * 16_384, count: IDS_PER_POD * 4_096 },
            pause: Cow::Borrowed(crate::PAUSE),
            unsafe_sysctls: Vec::new(),
            cluster_dns: ClusterDns { servers: Vec::new(), domain: "cluster.local".to_owned() },
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
        }
    }
}

impl Node {
    /// Takes hold of a node: its root is made, and pause put there. Links are made in the network namespace of the
    /// calling thread.
    pub fn open(settings: NodeSettings) -> Result<Self, NodeError> {
        let (netns, cgroups) = (Netns::current()?, Cgroups::detect()?);
        let node = Self(Arc::new(Inner { settings, netns, cgroups }));
        for directory in [node.sandboxes(), node.pool(), node.pause_root()] {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(&directory);
            made.map_err(|source| file_error("make", &directory, source))?;
        }
        node.put_pause()?;
        Ok(node)
    }

    /// The settings.
    pub fn settings(&self) -> &NodeSettings {
        &self.0.settings
    }

    /// The node's network namespace.
    pub fn netns(&self) -> &Netns {
        &self.0.netns
    }

    /// The trees of cgroups.
    pub fn cgroups(&self) -> &Cgroups {
        &self.0.cgroups
    }

    /// Where each sandbox has a directory.
    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.settings().root.join("sandboxes")
    }

    /// Where a file stands for each address and each range of user numbers that is taken.
    pub(crate) fn pool(&self) -> PathBuf {
        self.settings().root.join("pool")
    }

    /// The directory that is all that pause can see.
    pub(crate) fn pause_root(&self) -> PathBuf {
        self.settings().root.join("pause")
    }

    /// Waits until nobody else changes the list of sandboxes, or what they share.
    pub(crate) fn lock(&self) -> io::Result<Guard> {
        let file = File::create(self.settings().root.join("lock"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Guard(file))
    }

    /// By way of a rename: the program that is replaced may be running.
    fn put_pause(&self) -> Result<(), NodeError> {
        let program = self.pause_root().join("pause");
        let wanted = &self.settings().pause;
        if fs::read(&program).is_ok_and(|there| there == **wanted) {
            return Ok(());
        }
        let fresh = self.pause_root().join(format!(".pause.{}", std::process::id()));
        let put = fs::write(&fresh, wanted)
            .and_then(|()| fs::set_permissions(&fresh, Permissions::from_mode(0o555)))
            .and_then(|()| fs::rename(&fresh, &program));
        put.map_err(|source| file_error("write", &program, source))
    }
}

fn file_error(verb: &'static str, path: &Path, source: io::Error) -> NodeError {
    NodeError::File { verb, path: path.to_path_buf(), source }
}

//! Control groups for pods, in both of the kernel's layouts: one tree a controller (v1) or one tree for all (v2).

mod group;
mod resources;

pub use group::Cgroup;
pub use resources::Resources;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// Where the trees are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// What limits a pod.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "hugetlb", "memory", "pids"];
/// How often a group is made again when somebody removes its parent meanwhile.
const TRIES: usize = 5;

/// A group that could not be made, changed or removed.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// Neither layout is mounted.
    #[error("no cgroup controller is mounted under {}", root.display())]
    Absent {
        /// Where it was looked for.
        root: PathBuf,
    },
    /// The name would lead out of our part of the tree.
    #[error("{name:?} is not the name of a cgroup")]
    Name {
        /// What was given.
        name: String,
    },
    /// There is a group of that name, with processes in it.
    #[error("cgroup {} is in use", path.display())]
    InUse {
        /// The group.
        path: PathBuf,
    },
    /// A limit was asked for whose controller is not there.
    #[error("limit {limit}: the {controller} controller is not mounted")]
    NoController {
        /// What should be limited.
        limit: &'static str,
        /// The controller that would do it.
        controller: &'static str,
    },
    /// A directory or file of the tree refused.
    #[error("{verb} {}", path.display())]
    Failed {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Processes outlived being killed.
    #[error("processes {pids:?} of cgroup {} do not end", path.display())]
    Survivors {
        /// The group.
        path: PathBuf,
        /// The processes.
        pids: Vec<u32>,
    },
}

/// The layout of this machine, and the place in it under which groups are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    layout: Layout,
    /// By controller; in the layout of one tree for all there is one entry.
    parents: BTreeMap<&'static str, PathBuf>,
    /// Where others may make groups of the same name: every tree that is mounted.
    everywhere: Vec<PathBuf>,
}

/// Which of the kernel's two layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    TreePerController,
    OneTree,
}

impl Cgroups {
    /// Looks at /sys/fs/cgroup.
    pub fn detect() -> Result<Self, CgroupError> {
        Self::in_tree(Path::new(ROOT))
    }

    /// Looks at a tree. Groups are made at its root, in the same place for every controller, since that is what an OCI
    /// runtime can be told; and in the layout of one tree a group that holds processes, as ours does, may hold no others.
    pub fn in_tree(root: &Path) -> Result<Self, CgroupError> {
        if root.join("cgroup.controllers").exists() {
            let parents = BTreeMap::from([("", root.to_path_buf())]);
            return Ok(Self { layout: Layout::OneTree, parents, everywhere: vec![root.to_path_buf()] });
        }
        let parents: BTreeMap<_, _> = CONTROLLERS
            .into_iter()
            .map(|name| (name, root.join(name)))
            .filter(|(name, tree)| *name != "cpuset" && tree.join("cgroup.procs").exists())
            .collect();
        if parents.is_empty() {
            return Err(CgroupError::Absent { root: root.to_path_buf() });
        }
        // Links, such as cpu to cpu,cpuacct, lead to what is there already.
        let trees = fs::read_dir(root).map_err(|source| failed("read", root, source))?;
        let trees =
            trees.filter_map(Result::ok).filter(|tree| tree.file_type().is_ok_and(|kind| kind.is_dir()));
        let everywhere = trees.map(|tree| tree.path()).collect();
        Ok(Self { layout: Layout::TreePerController, parents, everywhere })
    }

    /// The group of this name, be it there or not, such as one that an earlier process made.
    pub fn group(&self, name: &str) -> Result<Cgroup, CgroupError> {
        let parts: Vec<_> = Path::new(name).components().collect();
        if name.is_empty() || !parts.iter().all(|part| matches!(part, Component::Normal(_))) {
            return Err(CgroupError::Name { name: name.to_owned() });
        }
        Ok(Cgroup::new(self, name))
    }

    /// Makes a group, such as `fairlead/POD`; one of that name that an earlier process left empty is taken over.
    pub fn create(&self, name: &str) -> Result<Cgroup, CgroupError> {
        let group = self.group(name)?;
        let usable = self.ensure(name).and_then(|group| match group.pids()?.as_slice() {
            [] => Ok(()),
            [..] => Err(CgroupError::InUse { path: group.path() }),
        });
        match usable {
            Ok(()) => Ok(group),
            Err(error) => {
                if !matches!(error, CgroupError::InUse { .. }) {
                    let _ = group.remove(); // the first error is the one to tell
                }
                Err(error)
            }
        }
    }

    /// The group of this name, made if it is not there.
    pub fn ensure(&self, name: &str) -> Result<Cgroup, CgroupError> {
        let group = self.group(name)?;
        self.parents.values().try_for_each(|parent| self.create_below(parent, name))?;
        Ok(group)
    }

    fn create_below(&self, parent: &Path, name: &str) -> Result<(), CgroupError> {
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            outcome = Path::new(name)
                .iter()
                .try_fold(parent.to_path_buf(), |above, part| {
                    let path = above.join(part);
                    if self.layout == Layout::OneTree {
                        pass_controllers_on(&above)?;
                    }
                    match fs::create_dir(&path) {
                        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                            Err(failed("make cgroup", &path, source))
                        }
                        Ok(()) | Err(_) => Ok(path),
                    }
                })
                .map(drop);
            match &outcome {
                // Another pod was the last to leave our common parent.
                Err(CgroupError::Failed { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Ok(()) | Err(_) => break,
            }
        }
        outcome
    }
}

/// Lets the groups below a group have the controllers that it has itself.
fn pass_controllers_on(group: &Path) -> Result<(), CgroupError> {
    let read = |file: &str| {
        let path = group.join(file);
        fs::read_to_string(&path).map_err(|source| failed("read", &path, source))
    };
    let (have, passed) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    for controller in CONTROLLERS {
        let among = |list: &str| list.split_whitespace().any(|name| name == controller);
        if among(&have) && !among(&passed) {
            let path = group.join("cgroup.subtree_control");
            fs::write(&path, format!("+{controller}"))
                .map_err(|source| failed("pass controllers on in", &path, source))?;
        }
    }
    Ok(())
}

fn failed(verb: &'static str, path: &Path, source: io::Error) -> CgroupError {
    CgroupError::Failed { verb, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests;

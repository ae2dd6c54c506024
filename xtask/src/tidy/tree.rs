//! What the rules look at: the files of the workspace as text, and who depends on whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::code::Code;
use crate::workspace::{cargo, output, root};

#[derive(Default)]
pub(super) struct Tree {
    /// The text of every source, manifest and document, by path from the root.
    pub(super) files: BTreeMap<String, String>,
    /// Every file and folder, by path from the root.
    pub(super) paths: BTreeSet<String>,
    /// Our packages and everybody else's, by what Cargo calls each.
    pub(super) packages: BTreeMap<String, Package>,
}

pub(super) struct Package {
    pub(super) name: String,
    /// Where its manifest lies, if it is ours.
    pub(super) manifest: Option<String>,
    pub(super) needs: Vec<Need>,
}

/// That one package depends on another.
pub(super) struct Need {
    pub(super) package: String,
    pub(super) when: When,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Shipped,
    Tested,
}

impl Tree {
    pub(super) fn read() -> Result<Self> {
        let mut tree = Self { packages: read_packages()?, ..Self::default() };
        tree.read_folder(root())?;
        Ok(tree)
    }

    /// Our own packages with their names and manifests.
    pub(super) fn rooms(&self) -> impl Iterator<Item = (&Package, &str)> {
        self.packages.values().filter_map(|package| Some((package, package.manifest.as_deref()?)))
    }

    /// Every Rust file, taken apart.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&str, Code)> {
        self.files_of("rs").map(|(path, text)| (path, Code::of(text)))
    }

    /// Every file of a kind, by the ending of its name.
    pub(super) fn files_of(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        let of_kind = move |path: &str| Path::new(path).extension().is_some_and(|found| found == ending);
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .filter(move |(path, _)| of_kind(path))
    }

    fn read_folder(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let entry = entry.with_context(|| format!("read {}", folder.display()))?;
            let path = entry.path();
            let name = path.strip_prefix(root()).unwrap_or(&path).to_string_lossy().into_owned();
            if [".git", "target"].contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.read_folder(&path)?;
            } else if [".rs", ".md", ".toml"].iter().any(|end| name.ends_with(end)) {
                let text = fs::read_to_string(&path).with_context(|| format!("read {name}"))?;
                self.files.insert(name.clone(), text);
            }
            self.paths.insert(name);
        }
        Ok(())
    }
}

/// What `cargo metadata` prints, as far as we read it.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Described>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Described {
    id: String,
    name: String,
    manifest_path: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

fn read_packages() -> Result<BTreeMap<String, Package>> {
    let text = output(&mut cargo(["metadata", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("read what cargo metadata prints")?;
    let mut needs: BTreeMap<String, Vec<Need>> = metadata
        .resolve
        .nodes
        .into_iter()
        .map(|node| (node.id, node.deps.into_iter().map(need).collect()))
        .collect();
    let package = |described: Described| {
        let from_root = Path::new(&described.manifest_path).strip_prefix(root()).ok();
        let ours = metadata.workspace_members.contains(&described.id);
        let manifest = from_root.filter(|_| ours).map(|path| path.to_string_lossy().into_owned());
        let needs = needs.remove(&described.id).unwrap_or_default();
        (described.id, Package { name: described.name, manifest, needs })
    };
    Ok(metadata.packages.into_iter().map(package).collect())
}

/// A build script's needs count as shipped: they decide what is built.
fn need(dependency: Dependency) -> Need {
    let only_tests = dependency.dep_kinds.iter().all(|kind| kind.kind.as_deref() == Some("dev"));
    Need { package: dependency.pkg, when: if only_tests { When::Tested } else { When::Shipped } }
}

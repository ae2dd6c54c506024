//! The directory of manifests that a scenario's steps write to, one file an object.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use service_watch::{Batch, Manifests};
use tempfile::TempDir;

use super::ReplayError;
use crate::scenario::Step;

/// It is deleted when this is dropped.
pub(super) struct Directory {
    place: TempDir,
    manifests: Manifests,
    /// Which step an object's file came from.
    origins: BTreeMap<PathBuf, String>,
}

/// A line in a step that takes an object away.
const DELETE: &str = "# delete:";

impl Directory {
    pub(super) fn new(node_name: &str) -> Result<Self, ReplayError> {
        let place = tempfile::Builder::new().prefix("scenario-").tempdir()?;
        let manifests = Manifests::open(place.path(), node_name)?;
        Ok(Self { place, manifests, origins: BTreeMap::new() })
    }

    /// Puts a step's objects there in place of those of the same kind and name, and reads what is new.
    pub(super) fn apply(&mut self, step: &Step) -> Result<Batch, ReplayError> {
        let mut first_line = 0;
        for document in step.manifest.split_inclusive("\n---\n") {
            let lines = document.lines().count();
            let text = document.trim_end().trim_end_matches("---");
            let wrong = |message: String| {
                ReplayError::Step(format!("{}.yaml:{}: {message}", step.stem, first_line + 1))
            };
            for line in text.lines().filter_map(|line| line.strip_prefix(DELETE)) {
                fs::remove_file(self.file(line.trim()).map_err(wrong)?)?;
            }
            if text.lines().any(|line| !line.is_empty() && !line.starts_with(['#', '-'])) {
                let path = self.file(&object_name(text).map_err(wrong)?).map_err(wrong)?;
                // The object keeps its lines, so that a report names those of the step.
                fs::write(&path, "\n".repeat(first_line) + text + "\n")?;
                self.origins.insert(path, format!("{}.yaml", step.stem));
            }
            first_line += lines;
        }
        Ok(self.manifests.read())
    }

    /// A report with the step's name in place of the file's.
    pub(super) fn named(&self, report: &str) -> String {
        let replace =
            |text: String, (path, step): (&PathBuf, &String)| text.replace(&*path.to_string_lossy(), step);
        self.origins.iter().fold(report.to_owned(), replace)
    }

    /// The file of an object, by its name: `Service default/web`.
    fn file(&self, name: &str) -> Result<PathBuf, String> {
        match name.split_whitespace().collect::<Vec<_>>().as_slice() {
            [kind, name] => Ok(self.place.path().join(format!("{kind}_{}.yaml", name.replace('/', "_")))),
            _ => Err(format!("not a kind and a name: {name:?}")),
        }
    }
}

fn object_name(text: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Object {
        kind: String,
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        namespace: String,
        name: String,
    }
    let object: Object = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let Metadata { namespace, name } = object.metadata;
    let namespace = if namespace.is_empty() { "default" } else { &namespace };
    Ok(format!("{} {namespace}/{name}", object.kind))
}

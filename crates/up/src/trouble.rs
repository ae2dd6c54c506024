//! What could not be done, and when it is tried again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use manifest_documents::FieldError;
use pod_runtime::PodError;

use crate::objects::told;
use crate::pods::Owner;
use crate::services::problem;

/// The first wait; then twice as long each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Whose pods could not be made.
#[derive(Debug, Default)]
pub(crate) struct Troubles(BTreeMap<Owner, Trouble>);

#[derive(Debug)]
struct Trouble {
    /// What could not be made; another version of it is tried at once.
    revision: String,
    message: String,
    wait: Duration,
    until: Instant,
}

impl Troubles {
    /// Whether to try now.
    pub(crate) fn may_try(&self, owner: &Owner, revision: &str, now: Instant) -> bool {
        self.0.get(owner).is_none_or(|trouble| trouble.until <= now || trouble.revision != revision)
    }

    /// It was tried in vain.
    pub(crate) fn add(&mut self, owner: &Owner, revision: &str, message: String, now: Instant) {
        let before = self.0.get(owner).filter(|before| before.revision == revision);
        // Several pods of one owner fail together.
        let wait = match before {
            Some(before) if before.until > now => before.wait,
            Some(before) => (before.wait * 2).min(LONGEST_WAIT),
            None => FIRST_WAIT,
        };
        let trouble = Trouble { revision: revision.to_owned(), message, wait, until: now + wait };
        self.0.insert(owner.clone(), trouble);
    }

    /// It went well.
    pub(crate) fn end(&mut self, owner: &Owner) {
        self.0.remove(owner);
    }

    /// Only these are of interest any more.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&Owner) -> bool) {
        self.0.retain(|owner, _| is_wanted(owner));
    }

    /// A line each.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|trouble| trouble.message.as_str())
    }
}

/// A pod that could not be made, in a line with the field that is the cause.
pub(crate) fn line(owner: &Owner, error: &PodError) -> String {
    let (object, above) = shown(owner);
    let container = |name: &String, field: &str| format!("{above}spec.containers[{name}]{field}");
    let wrong: Option<FieldError> = match error {
        PodError::Image { container: name, message } => {
            Some(problem(&object, container(name, ".image"), message.clone()))
        }
        PodError::Impossible { container: name, message } => {
            Some(problem(&object, container(name, ""), message.clone()))
        }
        PodError::Volume { volume, message } => {
            Some(problem(&object, format!("{above}spec.volumes[{volume}]"), message.clone()))
        }
        PodError::Exists { .. } => {
            let message =
                "is the name of a pod that something else has made; remove that first (fairlead pod rm)";
            Some(problem(&object, "metadata.name", message.to_owned()))
        }
        PodError::File { .. }
        | PodError::Content { .. }
        | PodError::Unknown { .. }
        | PodError::Container { .. }
        | PodError::NotRunning { .. }
        | PodError::Runs { .. }
        | PodError::NoRuntime { .. }
        | PodError::Oci { .. }
        | PodError::Missing(_)
        | PodError::Sandbox(_)
        | PodError::Holder { .. }
        | PodError::NotReady { .. } => None,
    };
    wrong.map_or_else(|| format!("{object}: {}", error.told()), |error| told(&error))
}

/// A pod that could not even begin, in a line.
pub(crate) fn begun_in_vain(owner: &Owner, message: &str) -> String {
    format!("{}: {message}", shown(owner).0)
}

/// An owner, and where its pod's fields are.
fn shown(owner: &Owner) -> (String, &'static str) {
    match owner {
        Owner::Pod(name) => (format!("Pod {name}"), ""),
        Owner::Deployment(name) => (format!("Deployment {name}"), "spec.template."),
    }
}

#[cfg(test)]
mod tests;

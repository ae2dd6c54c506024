//! Which version of a template a pod was made from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pod_manifests::{ObjectName, Pod};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How many hexadecimal digits name a version.
const DIGITS: usize = 10;

/// The entries of `ConfigMaps` and Secrets, by kind and name.
pub(crate) type Entries = BTreeMap<(&'static str, ObjectName), BTreeMap<String, Vec<u8>>>;

/// The version of a pod: of its manifest, and of the `ConfigMaps` and Secrets that it asks for. A pod reads these once,
/// when it is made, so a change of them makes another pod.
pub(crate) fn revision(pod: &Pod, entries: &Entries) -> String {
    let mut hasher = Sha256::new();
    let manifest = Value::Object(pod.manifest.clone());
    hasher.update(manifest.to_string());
    let mut asked = Vec::new();
    references(&manifest, &mut asked);
    asked.sort_unstable();
    asked.dedup();
    for (kind, name) in asked {
        let object = ObjectName { namespace: pod.name.namespace.clone(), name };
        hasher.update(format!("\n{kind} {object}\n"));
        for (key, value) in entries.get(&(kind, object)).into_iter().flatten() {
            hasher.update(format!("{key} {} ", value.len()));
            hasher.update(value);
        }
    }
    let mut text = String::new();
    for byte in hasher.finalize().iter().take(DIGITS / 2) {
        let _ = write!(text, "{byte:02x}"); // a String takes all
    }
    text
}

/// The `ConfigMaps` and Secrets that a manifest names, in volumes and environments.
fn references(value: &Value, found: &mut Vec<(&'static str, String)>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let kind = match field.as_str() {
                    "configMap" | "configMapRef" | "configMapKeyRef" => Some("ConfigMap"),
                    "secret" | "secretRef" | "secretKeyRef" => Some("Secret"),
                    _ => None,
                };
                let name = ["name", "secretName"].iter().find_map(|name| value.get(name)?.as_str());
                found.extend(kind.zip(name.map(str::to_owned)));
                references(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests;

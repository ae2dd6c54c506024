//! How a container of an image runs, if its pod does not say otherwise.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// What an image says about its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The program and its first arguments.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// The arguments after it, or the program if there is no entrypoint.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// `NAME=VALUE` each.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// Where it starts; the root if this is empty.
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    /// `USER[:GROUP]`, by name or number; root if this is empty.
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    /// `PORT[/PROTOCOL]` each.
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: Vec<String>,
    /// Directories that its makers expect to be volumes.
    #[serde(deserialize_with = "keys")]
    pub volumes: Vec<String>,
    /// What to stop it with, by name or number; SIGTERM if there is none.
    pub stop_signal: Option<String>,
    /// Whatever its makers say about it.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

/// Docker writes null for what is not set.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Sets are objects with empty values there; our own records have lists.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Set {
        Keys(BTreeMap<String, serde_json::Value>),
        List(Vec<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Set::Keys(keys)) => keys.into_keys().collect(),
        Some(Set::List(list)) => list,
        None => Vec::new(),
    })
}

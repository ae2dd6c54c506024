//! Network configurations, as they lie in /etc/cni/net.d.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CniError;

/// A network: plugins that are called one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkList {
    /// Its name.
    pub name: String,
    /// The version of the protocol that its plugins are spoken to in.
    pub version: String,
    /// Whether plugins may be asked to check.
    pub check: Check,
    /// The configuration of each plugin.
    pub plugins: Vec<Value>,
}

/// Whether plugins may be asked to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check {
    /// They may.
    Allowed,
    /// The configuration forbids it.
    Disabled,
}

/// The versions of which we know how to speak.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// The network of the first file of a directory, by name; none if there is no file, or no directory.
pub(crate) fn configured(directory: &Path) -> Result<Option<NetworkList>, CniError> {
    let entries = match fs::read_dir(directory) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(|source| failed("read", directory, source))?,
    };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let is_configuration = |path: &PathBuf| {
        path.extension().and_then(OsStr::to_str).is_some_and(|ending| ENDINGS.contains(&ending))
    };
    let Some(path) = paths.filter(is_configuration).min() else { return Ok(None) };
    let text = fs::read_to_string(&path).map_err(|source| failed("read", &path, source))?;
    parsed(&text).map(Some).map_err(|what| CniError::Configuration { path, what })
}

/// Whether a plugin says that it has a capability.
pub(super) fn can(plugin: &Value, capability: &str) -> bool {
    plugin["capabilities"][capability] == Value::Bool(true)
}

impl NetworkList {
    /// Whether one of its plugins leads ports of the node to pods.
    pub fn maps_ports(&self) -> bool {
        self.plugins.iter().any(|plugin| can(plugin, "portMappings"))
    }

    /// Whether its version knows CHECK, and DEL with the former result, and the former is allowed.
    pub(super) fn has_check(&self) -> bool {
        self.check == Check::Allowed && !self.version.starts_with("0.3.")
    }
}

/// What a file says: a list of plugins, or one plugin.
pub(super) fn parsed(text: &str) -> Result<NetworkList, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let field = |name: &str| {
        let text = file[name].as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| format!("{name} is missing"))
    };
    let (name, version) = (field("name")?, field("cniVersion")?);
    if !VERSIONS.contains(&version.as_str()) {
        return Err(format!("cniVersion {version} is not one of {}", VERSIONS.join(", ")));
    }
    let plugins = match file.get("plugins") {
        None => vec![file.clone()],
        Some(list) => match list.as_array().filter(|plugins| !plugins.is_empty()) {
            Some(plugins) => plugins.clone(),
            None => return Err("plugins is no list of plugins".to_owned()),
        },
    };
    for (place, plugin) in plugins.iter().enumerate() {
        match plugin["type"].as_str() {
            // It becomes a path below the directories of plugins.
            Some(kind) if !kind.is_empty() && !kind.contains('/') => {}
            _ => return Err(format!("plugins[{place}].type is not the name of a plugin")),
        }
    }
    let check = if file["disableCheck"] == Value::Bool(true) { Check::Disabled } else { Check::Allowed };
    Ok(NetworkList { name, version, check, plugins })
}

fn failed(verb: &'static str, path: &Path, source: io::Error) -> CniError {
    CniError::File { verb, path: path.to_path_buf(), source }
}

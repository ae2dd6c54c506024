//! Scenario folders: what they must contain, and how they are read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use packet_trace::Host;
use proxy::{Configuration, Invalid, KubeProxyConfiguration, OwnSettings, ProxyMode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use service_plan::Family;
use thiserror::Error;

use crate::packets::{Expectation, parse_packets};

/// A folder below `scenarios/`.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The folder's name: the behaviour that it shows.
    pub name: String,
    /// The folder.
    pub directory: PathBuf,
    /// How the proxy is configured.
    pub config: KubeProxyConfiguration,
    /// The node that it runs on.
    pub stage: Stage,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One step of a scenario.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number and name: `1-create`.
    pub stem: String,
    /// Its Kubernetes objects.
    pub manifest: String,
    /// Its packets.
    pub packets: Vec<Expectation>,
}

/// The node that a scenario plays on: the key `scenario` in config.yaml.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Stage {
    /// The addresses of its interfaces; the first of each family is its own.
    pub addresses: Vec<IpAddr>,
    /// The interface that packets of local pods come in on.
    pub pod_interface: String,
}

/// A folder that is no scenario.
#[derive(Debug, Error)]
#[error("{place}: {message}")]
pub struct ScenarioError {
    /// The file, with a line where one is to blame.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

/// How a scenario without a config.yaml is configured.
const STANDARD_CONFIG: &str = "clusterCIDR: 10.180.0.0/16,fd00:10:180::/48\n";

/// The fields of `KubeProxyConfiguration` that scenarios may use, so that a misspelt one is noticed.
const CONFIG_FIELDS: [&str; 9] = [
    "hostnameOverride",
    "clusterCIDR",
    "detectLocalMode",
    "detectLocal",
    "nodePortAddresses",
    "iptables",
    "nftables",
    "ipvs",
    "scenario",
];

impl Scenario {
    /// The folder that holds all scenarios.
    pub fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")
    }

    /// All scenarios, by name. What cannot be read takes its place as an error.
    pub fn all() -> io::Result<Vec<(String, Result<Self, ScenarioError>)>> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(Self::root())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let name = entry.file_name().to_string_lossy().into_owned();
                all.insert(name, Self::open(&entry.path()));
            }
        }
        Ok(all.into_iter().collect())
    }

    /// Reads a folder.
    pub fn open(directory: &Path) -> Result<Self, ScenarioError> {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (config, stage) = read_config(directory)?;
        let files = files(directory)?;
        let stems = stems(&files, directory)?;
        let parts =
            ["yaml", "packets", "plan.txt", "iptables.txt", "ipvs.txt", "nftables.txt", "userspace.txt"];
        let mut known: Vec<String> =
            stems.iter().flat_map(|stem| parts.map(|part| format!("{stem}.{part}"))).collect();
        known.push("config.yaml".to_owned());
        if let Some(file) = files.iter().find(|file| !known.contains(file)) {
            return Err(error(&directory.join(file), &"belongs to no step of the scenario"));
        }
        let steps = stems.iter().map(|stem| read_step(directory, stem, &stage)).collect::<Result<_, _>>()?;
        Ok(Self { name, directory: directory.to_owned(), config, stage, steps })
    }

    /// The node's name.
    pub fn node_name(&self) -> Arc<str> {
        match self.config.hostname_override.as_str() {
            "" => "node-1".into(),
            name => name.trim().to_lowercase().into(),
        }
    }

    /// The configuration, checked.
    pub fn configuration(&self) -> Result<Configuration, Invalid> {
        self.config.checked(&OwnSettings::default(), || ProxyMode::Iptables)
    }
}

impl Stage {
    /// The address of the pod that asks where no other is named.
    pub fn client_pod(family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::from([10, 180, 0, 100]),
            Family::V6 => IpAddr::from([0xfd00, 0x10, 0x180, 0, 0, 0, 0, 0x100]),
        }
    }

    /// The address of the outside client where no other is named.
    pub fn outside_client(family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::from([203, 0, 113, 9]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9]),
        }
    }

    /// The node's own address of a family.
    pub fn node_address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|ip| family.has(ip))
    }

    /// The node as the tracers see it.
    pub fn host(&self) -> Host {
        Host {
            addresses: self.addresses.iter().copied().collect(),
            pod_interface: self.pod_interface.clone(),
            outside_interface: Self::OUTSIDE_INTERFACE.to_owned(),
        }
    }

    /// The interface that packets from outside come in on.
    pub(crate) const OUTSIDE_INTERFACE: &str = "eth0";
}

impl Default for Stage {
    fn default() -> Self {
        let addresses =
            [IpAddr::from([192, 168, 0, 10]), IpAddr::from([0xfd00, 0x192, 0x168, 0, 0, 0, 0, 0x10])];
        Self { addresses: addresses.into(), pod_interface: "cni0".to_owned() }
    }
}

fn read_config(directory: &Path) -> Result<(KubeProxyConfiguration, Stage), ScenarioError> {
    #[derive(Deserialize)]
    struct Ours {
        #[serde(default)]
        scenario: Stage,
    }
    let path = directory.join("config.yaml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => STANDARD_CONFIG.to_owned(),
        Err(source) => return Err(error(&path, &source)),
    };
    let wrong = |source: serde_saphyr::Error| error(&path, &source);
    let fields: BTreeMap<String, Option<IgnoredAny>> = serde_saphyr::from_str(&text).map_err(wrong)?;
    if let Some(field) = fields.keys().find(|field| !CONFIG_FIELDS.contains(&field.as_str())) {
        return Err(error(&path, &format!("no scenario uses the field {field}")));
    }
    let config = KubeProxyConfiguration::parse(&text).map_err(|source| error(&path, &source))?;
    let ours: Ours = serde_saphyr::from_str(&text).map_err(wrong)?;
    Ok((config, ours.scenario))
}

fn files(directory: &Path) -> Result<Vec<String>, ScenarioError> {
    let read = || -> io::Result<Vec<String>> {
        let names =
            fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    };
    read().map_err(|source| error(directory, &source))
}

/// The steps, in the order of their numbers, which count from 1.
fn stems(files: &[String], directory: &Path) -> Result<Vec<String>, ScenarioError> {
    let mut stems = BTreeMap::new();
    for stem in files.iter().filter_map(|file| file.strip_suffix(".yaml")).filter(|stem| *stem != "config") {
        let number = stem.split_once('-').and_then(|(number, _)| number.parse::<usize>().ok());
        let number =
            number.ok_or_else(|| error(&directory.join(stem), &"its name does not begin with a number"))?;
        if let Some(other) = stems.insert(number, stem.to_owned()) {
            return Err(error(directory, &format!("{stem} and {other} have the same number")));
        }
    }
    if stems.is_empty() || !stems.keys().copied().eq(1..=stems.len()) {
        return Err(error(directory, &"the steps must be numbered from 1, without a gap"));
    }
    Ok(stems.into_values().collect())
}

fn read_step(directory: &Path, stem: &str, stage: &Stage) -> Result<Step, ScenarioError> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|source| error(path, &source));
    let manifest = read(&directory.join(format!("{stem}.yaml")))?;
    let path = directory.join(format!("{stem}.packets"));
    let packets = parse_packets(&read(&path)?, stage).map_err(|wrong| ScenarioError {
        place: format!("{}:{}", path.display(), wrong.line),
        message: wrong.message,
    })?;
    Ok(Step { stem: stem.to_owned(), manifest, packets })
}

fn error(path: &Path, message: &impl ToString) -> ScenarioError {
    ScenarioError { place: path.display().to_string(), message: message.to_string() }
}

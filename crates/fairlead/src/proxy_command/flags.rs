//! kube-proxy's flags: a row each, and each another way to write a field of its configuration.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use proxy::{GoDuration, KubeProxyConfiguration, VerbosityOfFiles};

mod rows;

pub(super) use rows::FLAGS;

/// What flags write: the configuration, and what it has no field for.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) configuration: KubeProxyConfiguration,
    pub(crate) master: String,
    pub(super) healthz_port: u16,
    pub(super) metrics_port: u16,
}

/// A flag of kube-proxy.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) beside_config: BesideConfig,
    /// What it does, in its help text; where it does nothing here, that it does nothing and why.
    pub(super) help: &'static str,
    /// Writes a value.
    pub(super) set: fn(&mut Draft, &str) -> Result<(), String>,
}

/// How a flag is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A value of this name.
    Value(&'static str),
    /// Values of this name; further ones are added.
    Values(&'static str),
    /// `--flag`, `--flag=true` or `--flag=false`.
    Switch,
}

/// Whether a flag counts where there is a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BesideConfig {
    /// It does, before what the file says.
    Counts,
    /// It does not.
    Ignored,
}

/// How the help text of a flag begins that does nothing here.
pub(super) const NOTHING: &str = "Accepted, and does nothing: ";

impl Default for Draft {
    fn default() -> Self {
        let configuration = KubeProxyConfiguration::default();
        Self { configuration, master: String::new(), healthz_port: 0, metrics_port: 0 }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "like every other writer")]
fn put(field: &mut String, text: &str) -> Result<(), String> {
    text.clone_into(field);
    Ok(())
}

fn read<T: FromStr<Err: ToString>>(field: &mut T, text: &str) -> Result<(), String> {
    *field = text.parse().map_err(|error: T::Err| error.to_string())?;
    Ok(())
}

/// The words for yes and no that Go knows.
fn switch(field: &mut bool, text: &str) -> Result<(), String> {
    *field = match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => return Err("it is neither true nor false".to_owned()),
    };
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "like every other writer")]
fn extend(field: &mut Vec<String>, text: &str) -> Result<(), String> {
    if !text.is_empty() {
        field.extend(text.split(',').map(str::to_owned));
    }
    Ok(())
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "it is no IP address".to_owned())
}

/// Nothing said leaves the default in place.
fn address(field: &mut String, text: &str) -> Result<(), String> {
    if text.is_empty() || text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        if !text.is_empty() {
            text.clone_into(field);
        }
        return Ok(());
    }
    Err("it is neither an IP address nor one with a port".to_owned())
}

fn gates(draft: &mut Draft, text: &str) -> Result<(), String> {
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("{pair} is not like Name=true"))?;
        let mut enabled = false;
        switch(&mut enabled, value.trim()).map_err(|_| format!("{pair} is neither true nor false"))?;
        draft.configuration.feature_gates.insert(name.trim().to_owned(), enabled);
    }
    Ok(())
}

fn vmodule(draft: &mut Draft, text: &str) -> Result<(), String> {
    let pair = |pair: &str| {
        let error = || format!("{pair} is not like pattern=3");
        let (pattern, level) = pair.split_once('=').ok_or_else(error)?;
        let verbosity = level.parse().map_err(|_| error())?;
        Ok(VerbosityOfFiles { file_pattern: pattern.to_owned(), verbosity })
    };
    let pairs = text.split(',').filter(|text| !text.is_empty()).map(pair);
    draft.configuration.logging.vmodule = pairs.collect::<Result<_, String>>()?;
    Ok(())
}

/// A span of time that is not negative, for our own flags.
pub(super) fn time(text: &str) -> Result<std::time::Duration, String> {
    let time: GoDuration = text.parse().map_err(|error: proxy::DurationError| error.to_string())?;
    time.not_negative().ok_or_else(|| format!("{text:?} is negative"))
}

#[cfg(test)]
mod tests;

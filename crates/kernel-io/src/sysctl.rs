//! Kernel settings under /proc/sys, named as sysctl(8) names them.
//!
//! Settings that a namespace has of its own (`net.*`, `kernel.hostname`, `kernel.shm*`, …) are those of the
//! calling thread; use [`crate::netns::Netns::run`] or `Namespaces::run` for another's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A setting that could not be read or written.
#[derive(Debug, Error)]
pub enum SysctlError {
    /// The name could not be a setting's.
    #[error("{name:?} is not the name of a sysctl")]
    Name {
        /// What was given.
        name: String,
    },
    /// It could not be read.
    #[error("read sysctl {name}")]
    Read {
        /// The setting.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It could not be written.
    #[error("set sysctl {name} to {value:?}")]
    Write {
        /// The setting.
        name: String,
        /// The value that was refused.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The value of a setting, without the line end.
pub fn read(name: &str) -> Result<String, SysctlError> {
    match fs::read_to_string(path(name)?) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(SysctlError::Read { name: name.to_owned(), source }),
    }
}

/// Sets a setting.
pub fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    // One write call: the kernel takes each for a value of its own.
    fs::write(path(name)?, value).map_err(|source| SysctlError::Write {
        name: name.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Names come with dots, or with slashes where a part holds a dot itself (`net/ipv4/conf/eth0.1/rp_filter`); the
/// first of the two says which.
fn path(name: &str) -> Result<PathBuf, SysctlError> {
    let separator = name.chars().find(|letter| matches!(letter, '.' | '/')).unwrap_or('.');
    let mut path = Path::new("/proc/sys").to_path_buf();
    for part in name.split(separator) {
        // With dots as separators a slash stands for a dot in a name, as sysctl(8) has it.
        let part = if separator == '.' { part.replace('/', ".") } else { part.to_owned() };
        if matches!(part.as_str(), "" | "." | "..") || part.contains('\0') {
            return Err(SysctlError::Name { name: name.to_owned() });
        }
        path.push(part);
    }
    Ok(path)
}

#[cfg(test)]
mod tests;

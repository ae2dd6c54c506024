//! What an image is called: a place on disk, or a name in a registry.

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::Digest;

/// An image as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `oci:PATH[:tag]`: a directory in the layout of the image specification.
    Oci {
        /// The directory.
        path: PathBuf,
        /// Which image of it, where it holds several.
        tag: Option<String>,
    },
    /// `oci-archive:PATH`: such a layout in a tar file.
    OciArchive(PathBuf),
    /// `docker-archive:PATH`: what `docker save` writes.
    DockerArchive(PathBuf),
    /// `rootfs:PATH`: a directory that is the root file system already.
    Rootfs(PathBuf),
    /// Anything else: a name to pull.
    Registry(Name),
}

/// A name in a registry, with all that people leave out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// `HOST[:PORT]`; `docker.io` where none is given.
    pub host: String,
    /// `library/` comes first where Docker's registry is asked for a name of one word.
    pub repository: String,
    /// `latest` where neither tag nor digest is given.
    pub tag: Option<String>,
    /// If there is one, it decides, whatever the tag says.
    pub digest: Option<Digest>,
}

/// Why a text names no image.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("image {image:?}: {why}")]
pub struct ReferenceError {
    image: String,
    why: &'static str,
}

/// The longest repository with its host.
const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refused = |why| ReferenceError { image: text.to_owned(), why };
        let Some((kind, path)) = text.split_once(':') else {
            return name(text).map(Self::Registry).map_err(refused);
        };
        let reference = match kind {
            "oci" => match path.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => {
                    Self::Oci { path: path.into(), tag: Some(tag.to_owned()) }
                }
                _ => Self::Oci { path: path.into(), tag: None },
            },
            "oci-archive" => Self::OciArchive(path.into()),
            "docker-archive" => Self::DockerArchive(path.into()),
            "rootfs" => Self::Rootfs(path.into()),
            _ => return name(text).map(Self::Registry).map_err(refused),
        };
        let (path, tag) = match &reference {
            Self::Oci { path, tag } => (path, tag.as_deref()),
            Self::OciArchive(path) | Self::DockerArchive(path) | Self::Rootfs(path) => (path, None),
            Self::Registry(_) => return Ok(reference),
        };
        if path.as_os_str().is_empty() {
            return Err(refused("the path is empty"));
        }
        if tag == Some("") {
            return Err(refused("the tag is empty"));
        }
        Ok(reference)
    }
}

fn name(text: &str) -> Result<Name, &'static str> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest =
                digest.parse().map_err(|_| "the digest should be sha256: and 64 hexadecimal digits")?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    let (rest, tag) = match rest.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("a tag is up to 128 letters, digits, dots, dashes and underscores");
    }
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path),
        _ => ("docker.io", rest),
    };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    if !is_well_formed_host(host) {
        return Err("the registry is no host name or address with a port");
    }
    let repository =
        if host == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
    if path.is_empty() || !repository.split('/').all(is_component) {
        return Err(
            "a repository is words in lower case, joined by /, and digits, dots, dashes and underscores in them",
        );
    }
    if host.len() + repository.len() >= NAME_LIMIT {
        return Err("the repository has more than 255 letters");
    }
    let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
    Ok(Name { host: host.to_owned(), repository, tag, digest })
}

/// Whether what comes before the first slash is a host: so it is written, or it could be no repository.
fn is_host(text: &str) -> bool {
    text == "localhost"
        || text.contains(['.', ':'])
        || text.contains(|letter: char| letter.is_ascii_uppercase())
}

fn is_well_formed_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_ipv6 = bracketed.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
        && (is_ipv6 || host.split('.').all(is_label))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_LIMIT
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// Letters and digits, and between them one dot, one or two underscores, or dashes.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let between = text.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    text.bytes().next().is_some_and(is_word)
        && text.bytes().next_back().is_some_and(is_word)
        && between
            .filter(|between| !between.is_empty())
            .all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oci { path, tag } => {
                write!(formatter, "oci:{}", path.display())?;
                tag.as_ref().map_or(Ok(()), |tag| write!(formatter, ":{tag}"))
            }
            Self::OciArchive(path) => write!(formatter, "oci-archive:{}", path.display()),
            Self::DockerArchive(path) => write!(formatter, "docker-archive:{}", path.display()),
            Self::Rootfs(path) => write!(formatter, "rootfs:{}", path.display()),
            Self::Registry(name) => name.fmt(formatter),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.host, self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(formatter, ":{tag}"))?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(formatter, "@{digest}"))
    }
}

//! Addresses and user numbers that pods take and give back. A link stands for each that is taken, and names its owner:
//! it is made whole or not at all, and never twice.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use kernel_io::namespaces::IdRange;
use thiserror::Error;

use crate::node::{IDS_PER_POD, Node};
use crate::spec::HostPort;

/// Something could not be taken or given back.
#[derive(Debug, Error)]
pub enum PoolError {
    /// All of a range is taken.
    #[error("every address of {range} is taken, by {taken} pods")]
    Full {
        /// The range.
        range: IpNet,
        /// By how many.
        taken: usize,
    },
    /// An address that was asked for is taken.
    #[error("address {address} is taken by sandbox {owner}")]
    Taken {
        /// The address.
        address: IpAddr,
        /// By whom.
        owner: String,
    },
    /// A port of the node is taken.
    #[error("{}: {port} is taken by sandbox {owner}", crate::spec::HOST_PORT)]
    PortTaken {
        /// The port, with its protocol.
        port: String,
        /// By whom.
        owner: String,
    },
    /// All user numbers are taken.
    #[error("all user numbers of {first} and above are taken, by {taken} pods")]
    NoIds {
        /// The first of them.
        first: u32,
        /// By how many.
        taken: usize,
    },
    /// There is nothing to take addresses from.
    #[error("the node has no range of pod addresses, and no CNI configuration in {}", configurations.display())]
    NoRange {
        /// Where the latter would be.
        configurations: PathBuf,
    },
    /// The files refused.
    #[error("{verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// How the names of what stands for user numbers begin.
const IDS: &str = "ids-";
/// How the names of what stands for ports of the node begin.
const PORT: &str = "port-";

/// How many places of a range are tried at most. No node has more pods.
const MOST: u128 = 1 << 20;

/// Takes an address of each range for a sandbox.
pub(crate) fn reserve_addresses(node: &Node, owner: &str) -> Result<Vec<IpAddr>, PoolError> {
    let ranges = &node.settings().ranges;
    if ranges.is_empty() {
        return Err(PoolError::NoRange { configurations: node.settings().cni.configurations.clone() });
    }
    let _guard = node.lock().map_err(|source| failed("lock", &node.settings().root, source))?;
    ranges
        .iter()
        .map(|range| {
            let offset = start(owner, hosts(*range).1);
            let full = |taken| PoolError::Full { range: *range, taken };
            let all = || rotated(*range, offset);
            take(node, owner, all, IpAddr::to_string, full)
        })
        .collect()
}

/// Takes just these addresses for a sandbox.
pub(crate) fn reserve_these(node: &Node, owner: &str, addresses: &[IpAddr]) -> Result<(), PoolError> {
    let _guard = node.lock().map_err(|source| failed("lock", &node.settings().root, source))?;
    free_stale(node)?;
    addresses.iter().try_for_each(|address| {
        let path = node.pool().join(address.to_string());
        match symlink(owner, &path) {
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                let owner = fs::read_link(&path).unwrap_or_default().to_string_lossy().into_owned();
                Err(PoolError::Taken { address: *address, owner })
            }
            taken => taken.map_err(|source| failed("take", &path, source)),
        }
    })
}

/// Takes user numbers for a sandbox.
pub(crate) fn reserve_ids(node: &Node, owner: &str) -> Result<IdRange, PoolError> {
    let IdRange { first, count } = node.settings().ids;
    let _guard = node.lock().map_err(|source| failed("lock", &node.settings().root, source))?;
    let blocks = || {
        (0..count / IDS_PER_POD)
            .map(|block| IdRange { first: first + block * IDS_PER_POD, count: IDS_PER_POD })
    };
    take(node, owner, blocks, |ids| format!("{IDS}{}", ids.first), |taken| PoolError::NoIds { first, taken })
}

/// Takes ports of the node for a sandbox. One that is taken at every address is taken at each.
pub(crate) fn reserve_ports(node: &Node, owner: &str, ports: &[HostPort]) -> Result<(), PoolError> {
    let _guard = node.lock().map_err(|source| failed("lock", &node.settings().root, source))?;
    free_stale(node)?;
    ports.iter().try_for_each(|port| {
        let everywhere = format!("{PORT}{}-{}", port.protocol.word(), port.node_port);
        let at = |ip: &IpAddr| format!("{everywhere}-{ip}");
        let name = port.node_ip.as_ref().map_or_else(|| everywhere.clone(), at);
        let in_the_way = |(path, of): (PathBuf, String)| {
            let taken = path.file_name()?.to_str()?.to_owned();
            let at_some = format!("{everywhere}-");
            let hit =
                taken == everywhere || taken == name || port.node_ip.is_none() && taken.starts_with(&at_some);
            hit.then_some((taken, of))
        };
        if let Some((taken, owner)) = owners(&node.pool())?.into_iter().find_map(in_the_way) {
            return Err(PoolError::PortTaken { port: taken.trim_start_matches(PORT).to_owned(), owner });
        }
        let path = node.pool().join(name);
        symlink(owner, &path).map_err(|source| failed("take", &path, source))
    })
}

/// Gives back the ports of a sandbox.
pub(crate) fn release_ports(node: &Node, owner: &str) -> Result<(), PoolError> {
    release(node, owner, |name| name.starts_with(PORT))
}

/// Gives back the addresses of a sandbox.
pub(crate) fn release_addresses(node: &Node, owner: &str) -> Result<(), PoolError> {
    release(node, owner, |name| !name.starts_with(IDS) && !name.starts_with(PORT))
}

/// Gives back the user numbers of a sandbox.
pub(crate) fn release_ids(node: &Node, owner: &str) -> Result<(), PoolError> {
    release(node, owner, |name| name.starts_with(IDS))
}

fn release(node: &Node, owner: &str, which: fn(&str) -> bool) -> Result<(), PoolError> {
    let _guard = node.lock().map_err(|source| failed("lock", &node.settings().root, source))?;
    let owners = owners(&node.pool())?;
    let is_own = |path: &Path, of: &str| {
        of == owner && path.file_name().is_some_and(|name| which(&name.to_string_lossy()))
    };
    let own = owners.into_iter().filter(|(path, of)| is_own(path, of));
    own.map(|(path, _)| path).try_for_each(|path| remove(&path))
}

/// Takes the first that is free; where none is, those of sandboxes that are no more count as free.
fn take<T, I: Iterator<Item = T>>(
    node: &Node,
    owner: &str,
    all: impl Fn() -> I,
    name: impl Fn(&T) -> String,
    full: impl Fn(usize) -> PoolError,
) -> Result<T, PoolError> {
    let first_free = || {
        for one in all() {
            let path = node.pool().join(name(&one));
            match symlink(owner, &path) {
                Ok(()) => return Ok(Some(one)),
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(failed("take", &path, source)),
            }
        }
        Ok(None)
    };
    if let Some(one) = first_free()? {
        return Ok(one);
    }
    free_stale(node)?;
    first_free()?.ok_or_else(|| full(all().filter(|one| node.pool().join(name(one)).is_symlink()).count()))
}

/// A sandbox has its directory before it takes anything, and gives everything back before the directory goes.
fn free_stale(node: &Node) -> Result<(), PoolError> {
    let owners = owners(&node.pool())?;
    let stale = owners.into_iter().filter(|(_, owner)| !node.sandboxes().join(owner).exists());
    stale.map(|(path, _)| path).try_for_each(|path| remove(&path))
}

fn owners(pool: &Path) -> Result<Vec<(PathBuf, String)>, PoolError> {
    let entries = fs::read_dir(pool).map_err(|source| failed("read", pool, source))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    Ok(paths
        .filter_map(|path| {
            let owner = fs::read_link(&path).ok()?;
            Some((path, owner.to_string_lossy().into_owned()))
        })
        .collect())
}

fn remove(path: &Path) -> Result<(), PoolError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("give back", path, source)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The addresses of a range, each once, from a place on and round.
fn rotated(range: IpNet, offset: u128) -> impl Iterator<Item = IpAddr> {
    let (first, count) = hosts(range);
    let offset = offset.min(count);
    let places = (offset..count).chain(0..offset);
    places.map(move |place| match range {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(first + place).unwrap_or(0))),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(first + place)),
    })
}

/// The first address of a range that a pod may have, and how many there are. Its own name and the broadcast address
/// are no pod's, and neither is the first after the name, which many nodes take for themselves.
fn hosts(range: IpNet) -> (u128, u128) {
    let (network, length) = match range {
        IpNet::V4(range) => {
            (u128::from(range.network().to_bits()), range.max_prefix_len() - range.prefix_len())
        }
        IpNet::V6(range) => (range.network().to_bits(), range.max_prefix_len() - range.prefix_len()),
    };
    let size = 1_u128.checked_shl(length.into()).unwrap_or(u128::MAX);
    match size {
        0..=2 => (network, size),
        _ => (network + 2, (size - 2 - u128::from(matches!(range, IpNet::V4(_)))).min(MOST)),
    }
}

/// Where to begin: not always at the first, so that an address that was just given back rests a while.
fn start(owner: &str, count: u128) -> u128 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in owner.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    u128::from(hash).checked_rem(count).unwrap_or(0)
}

fn failed(verb: &'static str, path: &Path, source: io::Error) -> PoolError {
    PoolError::File { verb, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests;

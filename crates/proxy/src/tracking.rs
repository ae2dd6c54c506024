//! What the kernel's connection tracker is told at start: how much it may remember, and for how long.
//!
//! None of it is worth not to start for: a container may be allowed none of it, and a namespace other than the
//! first one has no limit of its own. What is refused stays as it was, and is told in one line.

use std::error::Error;
use std::fs;
use std::thread;
use std::time::Duration;

use kernel_io::sysctl::{self, SysctlError};
use tracing::{debug, warn};

use crate::config::{ConntrackSettings, TcpBeLiberal};

/// No product of cores asks for more. It goes before `min`, too, as upstream has it.
const MOST: u32 = 1 << 20;

/// A setting below net.netfilter, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    name: &'static str,
    value: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Never lowered: somebody may know better.
    Limit,
    Exact,
}

/// What was refused, and why, to be told once nothing worse is.
pub(crate) struct Refused(Vec<String>);

/// Sets what can be set.
pub(crate) fn set(settings: &ConntrackSettings) -> Refused {
    Refused(wanted(settings, cores()).iter().filter_map(|setting| setting.apply().err()).collect())
}

impl Refused {
    pub(crate) fn tell(&self) {
        if !self.0.is_empty() {
            warn!(refused = self.0.join(", "), "the connection tracker keeps its own settings");
        }
    }
}

fn wanted(settings: &ConntrackSettings, cores: u32) -> Vec<Setting> {
    let limit = |name, value: u32| Setting { name, value: value.into(), kind: Kind::Limit };
    let exact = |name, value| Setting { name, value, kind: Kind::Exact };
    let seconds =
        |name, time: Option<Duration>| time.map(|time| exact(name, time.as_secs())).filter(|it| it.value > 0);
    let most = settings.max_per_core.map(|per_core| match per_core.saturating_mul(cores) {
        scaled if scaled > MOST => MOST,
        scaled => scaled.max(settings.min),
    });
    let liberal =
        (settings.tcp_be_liberal == TcpBeLiberal::Yes).then(|| exact("nf_conntrack_tcp_be_liberal", 1));
    [
        // First the room, and then who may come in: a table of a quarter as many lists keeps them short.
        most.map(|most| limit("nf_conntrack_buckets", most / 4)),
        most.map(|most| limit("nf_conntrack_max", most)),
        seconds("nf_conntrack_tcp_timeout_established", settings.tcp_established),
        seconds("nf_conntrack_tcp_timeout_close_wait", settings.tcp_close_wait),
        liberal,
        seconds("nf_conntrack_udp_timeout", settings.udp),
        seconds("nf_conntrack_udp_timeout_stream", settings.udp_stream),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Setting {
    /// An error says what was refused, and why.
    fn apply(&self) -> Result<(), String> {
        let Self { name, value, kind } = self;
        let path = format!("net.netfilter.{name}");
        let refused = |error: SysctlError| {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            format!("{name}={value}: {cause}")
        };
        let found: Option<u64> = sysctl::read(&path).map_err(refused)?.parse().ok();
        let is_right = found.is_some_and(|found| match kind {
            Kind::Limit => found >= *value,
            Kind::Exact => found == *value,
        });
        if is_right {
            return Ok(());
        }
        debug!(name, value, ?found, "a setting of the connection tracker");
        sysctl::write(&path, &value.to_string()).map_err(refused)
    }
}

/// All of the machine's that are switched on, however few of them this process may use.
fn cores() -> u32 {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").ok();
    let count = online.as_deref().and_then(|online| counted(online.trim()));
    count.unwrap_or_else(|| {
        thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
    })
}

/// How many numbers `0-3,8` names.
fn counted(list: &str) -> Option<u32> {
    let count = |range: &str| -> Option<u32> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    list.split(',').try_fold(0_u32, |sum, range| sum.checked_add(count(range)?))
}

#[cfg(test)]
mod tests;

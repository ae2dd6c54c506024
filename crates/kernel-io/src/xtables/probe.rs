//! How the tables show that they were changed, without being read.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

use kernel_state::xtables::Table;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::Tool;
use crate::netlink::{Protocol, Socket};
use crate::nft;

/// Where the tool keeps its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// In `nf_tables`, whose every change has a number.
    Nft,
    /// In the old tables, which can be asked how many entries they have.
    Legacy,
}

/// Asks the kernel.
#[derive(Debug)]
pub(super) enum Probe {
    Nft(Socket),
    Legacy(Tool, OwnedFd),
}

/// What the kernel answers; another answer means another state. In the old tables the same answer may hide that a
/// rule took the place of another one of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Generation(u32),
    Entries([Option<(u32, u32)>; Table::ALL.len()]),
}

/// `struct ipt_getinfo` (`linux/netfilter_ipv4/ip_tables.h`); `struct ip6t_getinfo` is the same.
#[repr(C)]
struct TableInfo {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    entries: u32,
    size: u32,
}

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`
const GET_INFO: libc::c_int = 64;

impl Backend {
    /// What `iptables --version` says in brackets.
    pub(super) fn of(version: &str) -> Self {
        if version.contains("nf_tables") { Self::Nft } else { Self::Legacy }
    }
}

impl Probe {
    /// A probe of the calling thread's network namespace. Legacy needs `CAP_NET_RAW`.
    pub(super) fn open(tool: Tool, backend: Backend) -> io::Result<Self> {
        let family = match tool {
            Tool::Iptables => AddressFamily::INET,
            Tool::Ip6tables => AddressFamily::INET6,
        };
        match backend {
            Backend::Nft => Socket::open(Protocol::Netfilter).map(Self::Nft).map_err(io::Error::other),
            Backend::Legacy => {
                let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
                Ok(Self::Legacy(tool, socket))
            }
        }
    }

    /// What the kernel answers now; nothing, if it does not.
    pub(super) fn show(&mut self) -> Option<Shown> {
        match self {
            Self::Nft(socket) => nft::generation(socket).ok().map(Shown::Generation),
            Self::Legacy(tool, socket) => {
                let entries = |table: Table| table_info(*tool, socket, table).ok();
                let sizes = |info: TableInfo| (info.entries, info.size);
                Some(Shown::Entries(Table::ALL.map(|table| entries(table).map(sizes))))
            }
        }
    }
}

#[expect(unsafe_code, reason = "no library has a call for the options of the old tables")]
fn table_info(tool: Tool, socket: &OwnedFd, table: Table) -> io::Result<TableInfo> {
    let level = match tool {
        Tool::Iptables => libc::SOL_IP,
        Tool::Ip6tables => libc::SOL_IPV6,
    };
    let mut info = TableInfo {
        name: [0; 32],
        valid_hooks: 0,
        hook_entry: [0; 5],
        underflow: [0; 5],
        entries: 0,
        size: 0,
    };
    info.name[..table.name().len()].copy_from_slice(table.name().as_bytes());
    let mut length = libc::socklen_t::try_from(size_of::<TableInfo>()).expect("a small structure");
    // SAFETY: the descriptor is open as long as `socket`; the kernel reads and writes at most `length` bytes of
    // `info`, which has that many and may hold any bytes.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, GET_INFO, (&raw mut info).cast(), &raw mut length)
    };
    if answer == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

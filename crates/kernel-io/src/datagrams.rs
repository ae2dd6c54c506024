//! Datagrams by the batch: one system call receives or sends many (recvmmsg and sendmmsg, since Linux 3.0).

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Room for a batch of datagrams, each as long as a datagram can be.
pub struct Batch {
    bytes: Vec<u8>,
    lengths: [usize; Batch::SIZE],
    senders: [libc::sockaddr_storage; Batch::SIZE],
}

impl Batch {
    /// How many datagrams it holds.
    pub const SIZE: usize = 32;

    /// The longest datagram there is.
    const LONGEST: usize = 1 << 16;

    /// An empty batch. The kernel gives it memory as it is used.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; Self::SIZE * Self::LONGEST],
            lengths: [0; Self::SIZE],
            senders: [unspecified(); Self::SIZE],
        }
    }

    /// Takes what a socket has received, up to a batch, and answers how many. Never waits.
    #[expect(unsafe_code, reason = "rustix has no recvmmsg")]
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut pieces = [EMPTY_PIECE; Self::SIZE];
        let mut headers = [empty_header(); Self::SIZE];
        let rooms = self.bytes.chunks_exact_mut(Self::LONGEST);
        for (((header, piece), room), sender) in
            headers.iter_mut().zip(&mut pieces).zip(rooms).zip(&mut self.senders)
        {
            *piece = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            header.msg_hdr.msg_iov = ptr::from_mut(piece);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = ptr::from_mut(sender).cast();
            header.msg_hdr.msg_namelen = ADDRESS_ROOM;
        }
        // SAFETY: all headers live until the call returns, as do the pieces, rooms and addresses that they
        // point to; each room is written within its length, and each is there once.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                small(headers.len()),
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in self.lengths.iter_mut().zip(&headers[..received]) {
            *length = usize::try_from(header.msg_len).unwrap_or_default();
        }
        Ok(received)
    }

    /// Who sent a datagram of the batch.
    pub fn sender(&self, index: usize) -> Option<SocketAddr> {
        decoded(&self.senders[index])
    }

    /// Sends datagrams of the batch on, to an address or to whom the socket is connected, and answers how many the
    /// socket took. Never waits.
    #[expect(unsafe_code, reason = "rustix' sendmmsg borrows each address and part on its own")]
    pub fn send(
        &self,
        range: Range<usize>,
        socket: BorrowedFd<'_>,
        to: Option<SocketAddr>,
    ) -> io::Result<usize> {
        let mut pieces = [EMPTY_PIECE; Self::SIZE];
        let mut headers = [empty_header(); Self::SIZE];
        let mut address = to.map(encoded);
        let count = range.len().min(Self::SIZE);
        for ((header, piece), index) in headers.iter_mut().zip(&mut pieces).zip(range) {
            let start = index * Self::LONGEST;
            let datagram = &self.bytes[start..start + self.lengths[index]];
            *piece = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
            header.msg_hdr.msg_iov = ptr::from_mut(piece);
            header.msg_hdr.msg_iovlen = 1;
            if let Some((address, length)) = &mut address {
                header.msg_hdr.msg_name = ptr::from_mut(address).cast();
                header.msg_hdr.msg_namelen = *length;
            }
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `count` headers live until the call returns, as do the pieces, datagrams and the address that they
        // point to; the kernel writes to the headers alone.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), small(count), flags) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

const EMPTY_PIECE: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

#[expect(clippy::cast_possible_truncation, reason = "it is 128 bytes")]
const ADDRESS_ROOM: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

#[expect(unsafe_code, reason = "the struct has padding that cannot be named")]
fn empty_header() -> libc::mmsghdr {
    // SAFETY: of integers and pointers, for which zero is a value.
    unsafe { mem::zeroed() }
}

#[expect(unsafe_code, reason = "the struct has padding that cannot be named")]
fn unspecified() -> libc::sockaddr_storage {
    // SAFETY: of integers, for which zero is a value.
    unsafe { mem::zeroed() }
}

#[expect(unsafe_code, reason = "an address is one of several structs, as its first field says")]
fn decoded(address: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let place: *const libc::sockaddr_storage = address;
    match libc::c_int::from(address.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is large enough and aligned for it, and every byte of it was initialised.
            let v4 = unsafe { place.cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the storage is large enough and aligned for it, and every byte of it was initialised.
            let v6 = unsafe { place.cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[expect(unsafe_code, reason = "an address is one of several structs, as its first field says")]
fn encoded(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut storage = unspecified();
    let place: *mut libc::sockaddr_storage = &raw mut storage;
    let length = match address {
        SocketAddr::V4(address) => {
            let v4 = libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is large enough and aligned for it.
            unsafe { place.cast::<libc::sockaddr_in>().write(v4) };
            size_of_val(&v4)
        }
        SocketAddr::V6(address) => {
            let v6 = libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: the storage is large enough and aligned for it.
            unsafe { place.cast::<libc::sockaddr_in6>().write(v6) };
            size_of_val(&v6)
        }
    };
    (storage, small(length))
}

/// A number of datagrams, or the length of an address.
fn small(number: usize) -> libc::c_uint {
    libc::c_uint::try_from(number).unwrap_or(libc::c_uint::MAX)
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).expect("address families are small numbers")
}

#[cfg(test)]
mod tests;

//! Datagrams by the batch: one system call receives or sends many (recvmmsg and sendmmsg, since Linux 3.0), and those of
//! one length go through the network's stack as one (`UDP_SEGMENT`, since 4.18), and come out of it as one where the
//! socket was told so (`UDP_GRO`, since 5.0; [`socket_options::set_trains`]).

use std::cell::OnceCell;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::socket_options;

/// Room for a batch of datagrams, each as long as a datagram can be. In the place of one there may be a train: several of
/// one sender and one length, but for the last, which may be shorter.
pub struct Batch {
    bytes: Vec<u8>,
    lengths: [usize; Batch::SIZE],
    /// How long each of a train is; 0 where there is none.
    trains: [usize; Batch::SIZE],
    senders: [libc::sockaddr_storage; Batch::SIZE],
    /// What the kernel knows, once it was asked.
    segments: OnceCell<Segments>,
}

/// Whether the kernel cuts what it is given into datagrams. One that does not would send it as a single one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Segments {
    Cut,
    Unknown,
}

impl Batch {
    /// How many datagrams it holds.
    pub const SIZE: usize = 32;

    /// The longest datagram there is.
    const LONGEST: usize = 1 << 16;

    /// What every path carries: the least MTU of IPv6, less its header and that of UDP.
    const EVERYWHERE: usize = 1280 - 40 - 8;

    /// An empty batch. The kernel gives it memory as it is used.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; Self::SIZE * Self::LONGEST],
            lengths: [0; Self::SIZE],
            trains: [0; Self::SIZE],
            senders: [unspecified(); Self::SIZE],
            segments: OnceCell::new(),
        }
    }

    /// Takes what a socket has received, up to a batch, and answers how many places it fills. Never waits.
    #[expect(unsafe_code, reason = "rustix has no recvmmsg")]
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut pieces = [EMPTY_PIECE; Self::SIZE];
        let mut headers = [empty_header(); Self::SIZE];
        let mut controls = [Control::EMPTY; Self::SIZE];
        let rooms = self.bytes.chunks_exact_mut(Self::LONGEST);
        for ((((header, piece), room), sender), control) in
            headers.iter_mut().zip(&mut pieces).zip(rooms).zip(&mut self.senders).zip(&mut controls)
        {
            header.msg_hdr.msg_control = ptr::from_mut(control).cast();
            header.msg_hdr.msg_controllen = size_of_val(control);
            *piece = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            header.msg_hdr.msg_iov = ptr::from_mut(piece);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = ptr::from_mut(sender).cast();
            header.msg_hdr.msg_namelen = ADDRESS_ROOM;
        }
        // SAFETY: all headers live until the call returns, as do the pieces, rooms, addresses and control messages that
        // they point to; each room is written within its length, and each is there once.
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
        for (index, header) in headers[..received].iter().enumerate() {
            self.lengths[index] = usize::try_from(header.msg_len).unwrap_or_default();
            self.trains[index] = controls[index].train(header.msg_hdr.msg_controllen);
        }
        Ok(received)
    }

    /// Who sent a datagram of the batch.
    pub fn sender(&self, index: usize) -> Option<SocketAddr> {
        decoded(&self.senders[index])
    }

    /// Those of the batch's first `count` that follow each other from `start` on and are of one sender.
    pub fn run(&self, start: usize, count: usize) -> Range<usize> {
        let sender = self.sender(start);
        let alike = (start..count).take_while(|index| self.sender(*index) == sender).count();
        start..start + alike
    }

    /// Sends datagrams of the batch on, to an address or to whom the socket is connected, and answers how many places
    /// the socket took. Never waits.
    pub fn send(
        &self,
        range: Range<usize>,
        socket: BorrowedFd<'_>,
        to: Option<SocketAddr>,
    ) -> io::Result<usize> {
        let mut sent = 0;
        let mut start = range.start;
        while start < range.end {
            let is_single = |index: &usize| self.trains[*index] == 0;
            let singles = (start..range.end).take_while(is_single).count();
            let result = match singles {
                0 => self.send_train(start, socket, to),
                _ => self.send_singles(start..start + singles, socket, to),
            };
            match result {
                Ok(count) if count == singles.max(1) => sent += count,
                Ok(count) => return Ok(sent + count),
                Err(error) if sent == 0 => return Err(error),
                // The socket tells again when it is used next.
                Err(_) => return Ok(sent),
            }
            start += singles.max(1);
        }
        Ok(sent)
    }

    fn send_train(&self, index: usize, socket: BorrowedFd<'_>, to: Option<SocketAddr>) -> io::Result<usize> {
        let length = self.trains[index];
        if let Some(sent) = self.send_cut(index..index + 1, length, socket, to) {
            return sent;
        }
        let mut wagons = self.datagram(index).chunks(length).map(piece).peekable();
        while wagons.peek().is_some() {
            send_each(&mut wagons.by_ref().take(Self::SIZE), socket, to)?;
        }
        Ok(1)
    }

    fn send_singles(
        &self,
        range: Range<usize>,
        socket: BorrowedFd<'_>,
        to: Option<SocketAddr>,
    ) -> io::Result<usize> {
        if let Some(length) = self.common_length(&range)
            && let Some(sent) = self.send_cut(range.clone(), length, socket, to)
        {
            return sent;
        }
        send_each(&mut range.map(|index| piece(self.datagram(index))), socket, to)
    }

    /// Sends datagrams of this length as one, for the kernel to cut; nothing where it, or the way there, cannot do that.
    fn send_cut(
        &self,
        range: Range<usize>,
        length: usize,
        socket: BorrowedFd<'_>,
        to: Option<SocketAddr>,
    ) -> Option<io::Result<usize>> {
        if !(1..=Self::EVERYWHERE).contains(&length) || self.segments(socket) == Segments::Unknown {
            return None;
        }
        let sent = self.send_as_one(range, u16::try_from(length).ok()?, socket, to);
        (!sent.as_ref().is_err_and(cannot_be_cut)).then_some(sent)
    }

    /// The length of all; the last one may be shorter.
    fn common_length(&self, range: &Range<usize>) -> Option<usize> {
        let (last, others) = self.lengths.get(range.clone())?.split_last()?;
        let length = *others.first()?;
        let alike = (1..=length).contains(last) && others.iter().all(|other| *other == length);
        alike.then_some(length)
    }

    fn segments(&self, socket: BorrowedFd<'_>) -> Segments {
        *self.segments.get_or_init(|| match socket_options::set_segments(socket, 0) {
            Ok(()) => Segments::Cut,
            Err(_) => Segments::Unknown,
        })
    }

    #[expect(unsafe_code, reason = "rustix' sendmsg has no word for this")]
    fn send_as_one(
        &self,
        range: Range<usize>,
        length: u16,
        socket: BorrowedFd<'_>,
        to: Option<SocketAddr>,
    ) -> io::Result<usize> {
        let mut pieces = [EMPTY_PIECE; Self::SIZE];
        let mut header = empty_header().msg_hdr;
        let mut address = to.map(encoded);
        let count = range.len().min(Self::SIZE);
        for (place, index) in pieces.iter_mut().zip(range) {
            *place = piece(self.datagram(index));
        }
        let mut control = Control::segments_of(length);
        header.msg_iov = pieces.as_mut_ptr();
        header.msg_iovlen = count;
        header.msg_control = ptr::from_mut(&mut control).cast();
        header.msg_controllen = size_of_val(&control);
        if let Some((address, length)) = &mut address {
            header.msg_name = ptr::from_mut(address).cast();
            header.msg_namelen = *length;
        }
        // SAFETY: the header lives until the call returns, as do the pieces, datagrams, control message and address
        // that it points to; the kernel only reads them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, SENDING) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(count) }
    }

    /// What is in a place.
    fn datagram(&self, index: usize) -> &[u8] {
        let start = index * Self::LONGEST;
        &self.bytes[start..start + self.lengths[index]]
    }
}

/// Sends datagrams, no more than a batch, by one call.
#[expect(unsafe_code, reason = "rustix' sendmmsg borrows each address and part on its own")]
fn send_each(
    datagrams: &mut dyn Iterator<Item = libc::iovec>,
    socket: BorrowedFd<'_>,
    to: Option<SocketAddr>,
) -> io::Result<usize> {
    let mut pieces = [EMPTY_PIECE; Batch::SIZE];
    let mut headers = [empty_header(); Batch::SIZE];
    let mut address = to.map(encoded);
    let mut count = 0;
    for ((header, piece), datagram) in headers.iter_mut().zip(&mut pieces).zip(datagrams) {
        *piece = datagram;
        header.msg_hdr.msg_iov = ptr::from_mut(piece);
        header.msg_hdr.msg_iovlen = 1;
        if let Some((address, length)) = &mut address {
            header.msg_hdr.msg_name = ptr::from_mut(address).cast();
            header.msg_hdr.msg_namelen = *length;
        }
        count += 1;
    }
    // SAFETY: `count` headers live until the call returns, as do the pieces, the address, and the datagrams, which those
    // who call hold; the kernel writes to the headers alone.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), small(count), SENDING) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// A datagram as the kernel is told of it.
fn piece(datagram: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() }
}

/// The way there cannot do it: a link without checksums, or a smaller MTU than there should be.
fn cannot_be_cut(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE))
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

const SENDING: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// The one control message that goes with datagrams: a length, of 16 bits when it is told and of an int when it is heard.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    header: libc::cmsghdr,
    length: [u8; 8],
}

impl Control {
    const EMPTY: Self =
        Self { header: libc::cmsghdr { cmsg_len: 0, cmsg_level: 0, cmsg_type: 0 }, length: [0; 8] };

    fn segments_of(length: u16) -> Self {
        let header = libc::cmsghdr {
            cmsg_len: mem::offset_of!(Self, length) + size_of_val(&length),
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        let [first, second] = length.to_ne_bytes();
        Self { header, length: [first, second, 0, 0, 0, 0, 0, 0] }
    }

    /// How long each of a train is, if this tells of one. So many bytes of it were written.
    fn train(&self, written: usize) -> usize {
        let [first, second, third, fourth, ..] = self.length;
        let is_it = written >= mem::offset_of!(Self, length) + size_of::<libc::c_int>()
            && (self.header.cmsg_level, self.header.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO);
        let length = if is_it { i32::from_ne_bytes([first, second, third, fourth]) } else { 0 };
        usize::try_from(length).unwrap_or_default()
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

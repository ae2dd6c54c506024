//! A netlink socket: sends requests and sorts the answers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::{
    Attributes, BatchError, HEADER_LEN, Malformed, Message, Messages, NetlinkError, Protocol, Refusal, Reply,
    aligned, flags, kinds,
};

/// More than the kernel puts into one datagram (32 KiB in a list, 64 KiB nowhere).
const BUFFER: usize = 128 * 1024;
/// How often [`Socket::dump_all`] asks again when the list changes under it.
const DUMP_TRIES: usize = 8;

/// A socket to one family of the bus, in the network namespace in which it was opened; it stays there, whatever
/// thread uses it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
    sent: AtomicU64,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(protocol: Protocol) -> Result<Self, NetlinkError> {
        let opening = |errno: Errno| NetlinkError::Open { protocol, source: errno.into() };
        let fd = net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            family_of(protocol),
        )
        .map_err(opening)?;
        net::bind(&fd, &SocketAddrNetlink::new(0, 0)).map_err(opening)?;
        let name = net::getsockname(&fd).and_then(SocketAddrNetlink::try_from).map_err(opening)?;
        let socket =
            Self { fd, port: name.pid(), sequence: 0, buffer: vec![0; BUFFER], sent: AtomicU64::new(0) };
        socket.set(libc::NETLINK_EXT_ACK, 1, "NETLINK_EXT_ACK")?;
        socket.set(libc::NETLINK_CAP_ACK, 1, "NETLINK_CAP_ACK")?;
        if protocol == Protocol::Route {
            // Without it the kernel ignores what it does not understand in a request for a list (since 4.20).
            socket.set(libc::NETLINK_GET_STRICT_CHK, 1, "NETLINK_GET_STRICT_CHK")?;
        }
        Ok(socket)
    }

    /// Our address on the bus: `nf_tables` puts it into the notifications of changes that we asked for.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Asks for the notifications of a group.
    pub fn join(&self, group: u16) -> Result<(), NetlinkError> {
        self.set(libc::NETLINK_ADD_MEMBERSHIP, group.into(), "NETLINK_ADD_MEMBERSHIP")
    }

    /// Asks for them no more. Those that wait to be read still do.
    pub fn leave(&self, group: u16) -> Result<(), NetlinkError> {
        self.set(libc::NETLINK_DROP_MEMBERSHIP, group.into(), "NETLINK_DROP_MEMBERSHIP")
    }

    /// Makes room for requests of this many bytes, past the limit for ordinary users.
    pub fn set_send_buffer(&self, bytes: usize) -> Result<(), NetlinkError> {
        sockopt::set_socket_send_buffer_size_force(&self.fd, bytes)
            .map_err(|errno| NetlinkError::Configure { option: "SO_SNDBUFFORCE", source: errno.into() })
    }

    /// Makes room for this many bytes of answers and notifications that wait to be read.
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<(), NetlinkError> {
        sockopt::set_socket_recv_buffer_size_force(&self.fd, bytes)
            .map_err(|errno| NetlinkError::Configure { option: "SO_RCVBUFFORCE", source: errno.into() })
    }

    /// Sends a request and waits until the kernel says that it is done.
    pub fn request(&mut self, message: &mut Message) -> Result<(), NetlinkError> {
        self.query(message, |_| Ok(()))
    }

    /// Sends a request, hands each answer to `each`, and returns when the kernel says that it is done.
    pub fn query(
        &mut self,
        message: &mut Message,
        each: impl FnMut(Reply<'_>) -> Result<(), Malformed>,
    ) -> Result<(), NetlinkError> {
        let sequence = self.next_sequence();
        self.send(message.add_flags(flags::ACK).set_sequence(sequence))?;
        self.answers(sequence, each)
    }

    /// Asks for a list and hands each entry to `each` as it comes.
    ///
    /// [`NetlinkError::Interrupted`] comes after the last entry: what was handed out is to be thrown away.
    pub fn dump(
        &mut self,
        message: &mut Message,
        each: impl FnMut(Reply<'_>) -> Result<(), Malformed>,
    ) -> Result<(), NetlinkError> {
        let sequence = self.next_sequence();
        self.send(message.add_flags(flags::DUMP).set_sequence(sequence))?;
        self.answers(sequence, each)
    }

    /// Asks for a list, again if it changed meanwhile, and returns what `entry` makes of each part.
    pub fn dump_all<T>(
        &mut self,
        message: &mut Message,
        mut entry: impl FnMut(Reply<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut entries = Vec::new();
        for _ in 1..DUMP_TRIES {
            entries.clear();
            let dumped = self.dump(message, |reply| {
                entries.extend(entry(reply)?);
                Ok(())
            });
            match dumped {
                Err(NetlinkError::Interrupted) => {}
                Err(other) => return Err(other),
                Ok(()) => return Ok(entries),
            }
        }
        Err(NetlinkError::Interrupted)
    }

    /// Sends many requests in one write.
    ///
    /// Only the messages that carry [`flags::ACK`] are answered when all goes well, and one near the end should;
    /// a refused message is answered in any case. The kernel works a batch off before the write returns, so
    /// nothing is waited for.
    pub fn batch(&mut self, messages: &mut [Message]) -> Result<(), BatchError> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(messages.iter().map(|message| message.as_bytes().len()).sum());
        let mut asked = None;
        for (place, message) in messages.iter_mut().enumerate() {
            let sequence = self.next_sequence();
            message.set_sequence(sequence);
            reject_too_long(message)?;
            if message.flags() & flags::ACK != 0 {
                asked = Some(place);
            }
            bytes.extend_from_slice(message.as_bytes());
        }
        self.send_bytes(&bytes)?;
        let verdicts = self.verdicts(Verdicts { first, count: messages.len(), ..Verdicts::default() })?;
        if !verdicts.refusals.is_empty() {
            return Err(BatchError::Refused { refusals: verdicts.refusals });
        }
        if verdicts.answered < asked {
            return Err(NetlinkError::Unanswered.into());
        }
        Ok(())
    }

    /// Waits for one datagram of notifications and hands each message to `each`.
    pub fn receive(
        &mut self,
        mut each: impl FnMut(Reply<'_>) -> Result<(), Malformed>,
    ) -> Result<(), NetlinkError> {
        self.datagram(RecvFlags::empty(), |bytes| {
            for reply in Messages::new(bytes) {
                let reply = reply?;
                if reply.kind == kinds::OVERRUN {
                    return Err(NetlinkError::Overrun);
                }
                each(reply)?;
            }
            Ok(())
        })
    }

    /// Hands each message of the notifications that wait to be read to `each`, and returns when none is left.
    pub fn drain(
        &mut self,
        mut each: impl FnMut(Reply<'_>) -> Result<(), Malformed>,
    ) -> Result<(), NetlinkError> {
        loop {
            let read = self.datagram(RecvFlags::DONTWAIT, |bytes| {
                for reply in Messages::new(bytes) {
                    each(reply?)?;
                }
                Ok(())
            });
            match read {
                Ok(()) => {}
                Err(NetlinkError::Receive(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(());
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        // 0 is the number of notifications.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }

    fn send(&self, message: &Message) -> Result<(), NetlinkError> {
        reject_too_long(message)?;
        self.send_bytes(message.as_bytes())
    }

    /// How many bytes it has sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn send_bytes(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        self.sent.fetch_add(bytes.len().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        rustix::io::retry_on_intr(|| net::send(&self.fd, bytes, SendFlags::empty()))
            .map(drop)
            .map_err(|errno| NetlinkError::Send(errno.into()))
    }

    /// Reads until the request of this number is answered. A failure of `each` is kept until the kernel is done,
    /// so that the socket is clean for the next request.
    fn answers(
        &mut self,
        sequence: u32,
        mut each: impl FnMut(Reply<'_>) -> Result<(), Malformed>,
    ) -> Result<(), NetlinkError> {
        let mut state = Answer::default();
        while !state.done {
            self.datagram(RecvFlags::empty(), |bytes| {
                for reply in Messages::new(bytes) {
                    state.take(reply?, sequence, &mut each);
                }
                Ok(())
            })?;
        }
        match state.failure {
            Some(failure) => Err(failure),
            None if state.interrupted => Err(NetlinkError::Interrupted),
            None => Ok(()),
        }
    }

    /// What the kernel has said by now about a batch.
    fn verdicts(&mut self, mut verdicts: Verdicts) -> Result<Verdicts, NetlinkError> {
        loop {
            let read = self.datagram(RecvFlags::DONTWAIT, |bytes| {
                for reply in Messages::new(bytes) {
                    verdicts.take(&reply?)?;
                }
                Ok(())
            });
            match read {
                Ok(()) => {}
                Err(NetlinkError::Receive(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(verdicts);
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Reads one datagram that the kernel sent; what other processes send to our port is dropped.
    fn datagram(
        &mut self,
        how: RecvFlags,
        read: impl FnOnce(&[u8]) -> Result<(), NetlinkError>,
    ) -> Result<(), NetlinkError> {
        loop {
            let received = rustix::io::retry_on_intr(|| {
                net::recvfrom(&self.fd, self.buffer.as_mut_slice(), how | RecvFlags::TRUNC)
            });
            let (kept, length, from) = received.map_err(|errno| match errno {
                Errno::NOBUFS => NetlinkError::Overrun,
                other => NetlinkError::Receive(other.into()),
            })?;
            let sender = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
            if sender.is_none_or(|sender| sender.pid() != 0) {
                continue;
            }
            if length > kept {
                return Err(NetlinkError::Truncated { length });
            }
            return read(&self.buffer[..kept]);
        }
    }

    #[expect(unsafe_code, reason = "rustix has no call for the options of netlink sockets")]
    fn set(&self, option: libc::c_int, value: libc::c_int, name: &'static str) -> Result<(), NetlinkError> {
        let size = libc::socklen_t::try_from(size_of_val(&value)).expect("an int is small");
        // SAFETY: the descriptor is open as long as `self`, and the pointer and size are those of `value`, which
        // the kernel only reads.
        let answer = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const value).cast(), size)
        };
        if answer == 0 {
            return Ok(());
        }
        Err(NetlinkError::Configure { option: name, source: io::Error::last_os_error() })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How far the answer to one request has come.
#[derive(Default)]
struct Answer {
    done: bool,
    interrupted: bool,
    failure: Option<NetlinkError>,
}

impl Answer {
    fn take(
        &mut self,
        reply: Reply<'_>,
        sequence: u32,
        each: &mut impl FnMut(Reply<'_>) -> Result<(), Malformed>,
    ) {
        if reply.sequence != sequence {
            return; // the end of an exchange that failed before
        }
        self.interrupted |= reply.flags & flags::DUMP_INTR != 0;
        let outcome = match reply.kind {
            kinds::NOOP => Ok(()),
            kinds::OVERRUN => Err(NetlinkError::Overrun),
            kinds::ERROR | kinds::DONE => {
                self.done = true;
                refusal(&reply)
                    .map_err(NetlinkError::from)
                    .and_then(|no| no.map_or(Ok(()), |no| Err(no.into())))
            }
            _ if self.failure.is_some() => Ok(()),
            _ => each(reply).map_err(NetlinkError::from),
        };
        if let Err(failure) = outcome {
            self.failure.get_or_insert(failure);
        }
    }
}

/// What the kernel says about a batch.
#[derive(Default)]
struct Verdicts {
    first: u32,
    count: usize,
    /// The last place that it acknowledged.
    answered: Option<usize>,
    refusals: Vec<(usize, Refusal)>,
}

impl Verdicts {
    fn take(&mut self, reply: &Reply<'_>) -> Result<(), Malformed> {
        let place = usize::try_from(reply.sequence.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        if reply.kind != kinds::ERROR || place >= self.count {
            return Ok(());
        }
        match refusal(reply)? {
            None => self.answered = self.answered.max(Some(place)),
            Some(refusal) => self.refusals.push((place, refusal)),
        }
        Ok(())
    }
}

/// What an acknowledgement, or the end of a list, says: nothing when all went well.
pub(super) fn refusal(reply: &Reply<'_>) -> Result<Option<Refusal>, Malformed> {
    const OFFSET: u16 = 2; // NLMSGERR_ATTR_OFFS
    const TEXT: u16 = 1; // NLMSGERR_ATTR_MSG
    const MISSING: u16 = 5; // NLMSGERR_ATTR_MISS_TYPE, since 6.0

    // A list may end without a number where it ends well (before 4.20).
    let Some((&code, rest)) = reply.payload.split_first_chunk::<4>() else {
        let want = 4;
        let have = reply.payload.len();
        return if reply.kind == kinds::DONE { Ok(None) } else { Err(Malformed::Short { have, want }) };
    };
    let code = i32::from_ne_bytes(code);
    let (errno, private) = match code {
        0.. => return Ok(None),
        -4095..0 => (Errno::from_raw_os_error(-code), None),
        -8191..-4095 => (Errno::PROTO, Some(-code)),
        _ => return Err(Malformed::Errno { code }),
    };
    let mut refusal = Refusal { errno, private, text: None, offset: None, missing: None };
    if reply.flags & flags::ACK_TLVS == 0 {
        return Ok(Some(refusal));
    }
    for attribute in Attributes::new(rest.get(repeated_request(reply, rest)..).unwrap_or_default()) {
        let attribute = attribute?;
        match attribute.kind {
            TEXT => refusal.text = Some(attribute.text()?.to_owned()),
            OFFSET => refusal.offset = Some(attribute.u32()?),
            MISSING => refusal.missing = Some(attribute.u32()?),
            _ => {}
        }
    }
    Ok(Some(refusal))
}

/// How many bytes of the request an acknowledgement repeats before its attributes: all of it, its header alone,
/// or nothing at the end of a list.
fn repeated_request(reply: &Reply<'_>, rest: &[u8]) -> usize {
    if reply.kind == kinds::DONE {
        return 0;
    }
    match rest.first_chunk::<4>() {
        Some(&length) if reply.flags & flags::CAPPED == 0 => usize::try_from(u32::from_ne_bytes(length))
            .map_or(usize::MAX, |length| aligned(length.min(rest.len()))),
        _ => HEADER_LEN,
    }
}

fn family_of(protocol: Protocol) -> Option<net::Protocol> {
    match protocol {
        Protocol::Route => None,
        Protocol::Netfilter => Some(net::netlink::NETFILTER),
        Protocol::Generic => Some(net::netlink::GENERIC),
    }
}

fn reject_too_long(message: &Message) -> Result<(), NetlinkError> {
    message.too_long().map_or(Ok(()), |kind| Err(NetlinkError::TooLong { kind }))
}

//! SCTP by hand, for a kernel that has no sockets of it: the two packets that begin an association (RFC 9260).
//!
//! ```text
//! 0              2              4                     8                    12
//! ├─ source port ┼─ destination ┼─ verification tag ──┼─ CRC32c ───────────┤
//! ├ type ┬ flags ┬─ length ─────┼─ initiate tag ──────┼─ receive window ───┤
//! ├─ streams out ┼─ streams in ─┼─ first number ──────┤
//! └─ in an INIT ACK: type 7 ┬ length, and the cookie ──────────────────────┘
//! ```
//! The connection tracker checks tags and checksum, and the translation of addresses must mend the latter; so a
//! packet with a wrong one is none.

/// What a packet of ours asks or answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// An INIT: somebody asks.
    Init,
    /// An INIT ACK: somebody answers, with this as its cookie.
    InitAck(Vec<u8>),
}

/// A packet that begins an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) source: u16,
    pub(super) destination: u16,
    /// The tag that the sender wants to be called by; an answer calls the asker by its own.
    pub(super) tag: u32,
    pub(super) chunk: Chunk,
}

const HEADER: usize = 12;
const CHUNK: usize = 20;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const STATE_COOKIE: u16 = 7;

impl Packet {
    /// Somebody asks.
    pub(super) fn asking(source: u16, destination: u16, tag: u32) -> Self {
        Self { source, destination, tag, chunk: Chunk::Init }
    }

    /// The answer to a packet, with a text as its cookie.
    pub(super) fn answered(&self, text: &str) -> Self {
        let chunk = Chunk::InitAck(text.as_bytes().to_vec());
        Self { source: self.destination, destination: self.source, tag: self.tag, chunk }
    }

    /// As it is sent.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (kind, verification_tag, cookie) = match &self.chunk {
            Chunk::Init => (INIT, 0, &[][..]),
            Chunk::InitAck(cookie) => (INIT_ACK, self.tag, &cookie[..]),
        };
        let parameter = if cookie.is_empty() { 0 } else { 4 + cookie.len() };
        let mut bytes = Vec::with_capacity(HEADER + CHUNK + parameter + 3);
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(verification_tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([kind, 0]);
        bytes.extend(length(CHUNK + parameter).to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend(0xffff_u32.to_be_bytes());
        bytes.extend([0, 1, 0, 1]);
        bytes.extend(1_u32.to_be_bytes());
        if !cookie.is_empty() {
            bytes.extend(STATE_COOKIE.to_be_bytes());
            bytes.extend(length(parameter).to_be_bytes());
            bytes.extend(cookie);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let checksum = crc32c(&bytes).to_le_bytes();
        bytes[8..HEADER].copy_from_slice(&checksum);
        bytes
    }

    /// Reads a packet; nothing, if it is none of ours or has a wrong checksum.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut unsummed = bytes.to_vec();
        unsummed.get_mut(8..HEADER)?.fill(0);
        if crc32c(&unsummed).to_le_bytes() != bytes[8..HEADER] {
            return None;
        }
        let (source, destination) = ports(bytes)?;
        let tag = u32::from_be_bytes(*bytes.get(16..20)?.as_array()?);
        let chunk = match *bytes.get(HEADER)? {
            INIT => Chunk::Init,
            INIT_ACK => Chunk::InitAck(cookie(bytes)?.to_vec()),
            _ => return None,
        };
        Some(Self { source, destination, tag, chunk })
    }
}

/// Source and destination port, which an ICMP error quotes, too.
pub(super) fn ports(bytes: &[u8]) -> Option<(u16, u16)> {
    let number = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    Some((number(0)?, number(2)?))
}

fn cookie(bytes: &[u8]) -> Option<&[u8]> {
    let parameter = bytes.get(HEADER + CHUNK..)?;
    let (kind, length) = ports(parameter)?;
    if kind == STATE_COOKIE { parameter.get(4..usize::from(length)) } else { None }
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// The sum of RFC 9260, appendix A: polynomial 0x1EDC6F41, its bits reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| {
                if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 }
            },
        )
    });
    !sum
}

#[cfg(test)]
mod tests;

//! Reads messages and attributes out of any bytes, without a panic.

use thiserror::Error;

use super::{ATTRIBUTE_LEN, HEADER_LEN, KIND_MASK, aligned};

/// Bytes that do not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Fewer bytes than the header that should stand here.
    #[error("{have} bytes where a header of {want} should stand")]
    Short {
        /// Bytes that are there.
        have: usize,
        /// Bytes that should be there.
        want: usize,
    },
    /// A length field that is shorter than its own header or longer than what follows.
    #[error("a length of {says} where {have} bytes are left")]
    Length {
        /// What the field says.
        says: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// An attribute whose payload has another size than its type.
    #[error("attribute {kind} holds {have} bytes, not {want}")]
    Size {
        /// The attribute's kind.
        kind: u16,
        /// Bytes that are there.
        have: usize,
        /// Bytes that its type has.
        want: usize,
    },
    /// An error number that the kernel does not have.
    #[error("{code} is no error number")]
    Errno {
        /// What stands there.
        code: i32,
    },
    /// An attribute that should be text and is not UTF-8.
    #[error("attribute {kind} is not text")]
    Text {
        /// The attribute's kind.
        kind: u16,
    },
    /// An attribute that this kind of message always carries is not there.
    #[error("attribute {kind} is missing")]
    Missing {
        /// The attribute's kind.
        kind: u16,
    },
}

/// The messages of one datagram.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Reads a datagram from its first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Reply<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Some(Err(Malformed::Short { have: bytes.len(), want: HEADER_LEN }));
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let Some(payload) = bytes.get(HEADER_LEN..length) else {
            return Some(Err(Malformed::Length { says: length, have: bytes.len() }));
        };
        self.0 = bytes.get(aligned(length)..).unwrap_or_default();
        Some(Ok(Reply {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            payload,
        }))
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Its kind.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The number of the request that it answers; 0 in a notification of the kernel's own.
    pub sequence: u32,
    /// The port of the socket that asked, or, in a notification, that made the change where the family tells it.
    pub port: u32,
    /// The family's fixed part and the attributes.
    pub payload: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The family's fixed part, and the attributes after it.
    pub fn split<const N: usize>(&self) -> Result<(&'a [u8; N], Attributes<'a>), Malformed> {
        let (fixed, rest) = self
            .payload
            .split_first_chunk::<N>()
            .ok_or(Malformed::Short { have: self.payload.len(), want: N })?;
        Ok((fixed, Attributes::new(rest.get(aligned(N) - N..).unwrap_or_default())))
    }
}

/// The attributes of a message, or of an attribute that holds others.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Reads attributes from the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The first attribute of this kind.
    pub fn find(&self, kind: u16) -> Result<Option<Attribute<'a>>, Malformed> {
        for attribute in self.clone() {
            let attribute = attribute?;
            if attribute.kind == kind {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let Some((&[l0, l1, k0, k1], _)) = bytes.split_first_chunk::<ATTRIBUTE_LEN>() else {
            return Some(Err(Malformed::Short { have: bytes.len(), want: ATTRIBUTE_LEN }));
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(payload) = bytes.get(ATTRIBUTE_LEN..length) else {
            return Some(Err(Malformed::Length { says: length, have: bytes.len() }));
        };
        self.0 = bytes.get(aligned(length)..).unwrap_or_default();
        Some(Ok(Attribute { kind: u16::from_ne_bytes([k0, k1]) & KIND_MASK, payload }))
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its kind, without the flags that share the field.
    pub kind: u16,
    /// What it holds.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes that it holds.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }

    /// One byte.
    pub fn u8(&self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A number in the machine's byte order.
    pub fn u16(&self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    /// A number in the machine's byte order.
    pub fn u32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// A number in the machine's byte order.
    pub fn u64(&self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    /// A number in network byte order.
    pub fn be16(&self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A number in network byte order.
    pub fn be32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number in network byte order.
    pub fn be64(&self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Text, up to its first NUL.
    pub fn text(&self) -> Result<&'a str, Malformed> {
        let text = self.payload.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(text).map_err(|_| Malformed::Text { kind: self.kind })
    }

    /// The payload, which must have exactly this size.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.payload.try_into().map_err(|_| Malformed::Size {
            kind: self.kind,
            have: self.payload.len(),
            want: N,
        })
    }
}

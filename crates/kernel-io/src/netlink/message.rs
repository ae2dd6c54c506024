//! Builds one message.

use super::{ATTRIBUTE_LEN, HEADER_LEN, NESTED, aligned, flags};

/// A request that grows: the header, the family's fixed part, then attributes, some of them nested.
///
/// ```
/// use kernel_io::netlink::Message;
/// let mut message = Message::new(16, 0);
/// message.header(&[0; 16]).text(3, "eth0").nested(18, |info| {
///     info.text(1, "veth");
/// });
/// assert_eq!(message.as_bytes().len(), 16 + 16 + 12 + 4 + 12);
/// ```
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
    too_long: Option<u16>,
}

impl Message {
    /// A request of this kind; `NLM_F_REQUEST` is added to the flags.
    pub fn new(kind: u16, with: u16) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(with | flags::REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let mut message = Self { bytes, too_long: None };
        message.seal();
        message
    }

    /// Appends the fixed part that the family puts before its attributes.
    pub fn header(&mut self, fixed: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(fixed);
        self.pad();
        self.seal();
        self
    }

    /// Appends an attribute.
    pub fn attribute(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(payload);
        self.close(start, kind);
        self
    }

    /// Appends one byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attribute(kind, &[value])
    }

    /// Appends a number in the machine's byte order.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Appends a number in the machine's byte order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order, as netfilter wants them.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Appends a number in network byte order, as netfilter wants them.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Appends a number in network byte order, as netfilter wants them.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Appends text with the NUL that the kernel wants at its end.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start, kind);
        self
    }

    /// Appends an attribute that holds what `fill` appends.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.open(kind | NESTED);
        fill(self);
        self.close(start, kind);
        self
    }

    /// The whole message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The first attribute that its length field could not hold.
    pub fn too_long(&self) -> Option<u16> {
        self.too_long
    }

    /// The flags as they stand.
    pub fn flags(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]])
    }

    /// Adds flags to the header.
    pub fn add_flags(&mut self, more: u16) -> &mut Self {
        let all = self.flags() | more;
        self.bytes[6..8].copy_from_slice(&all.to_ne_bytes());
        self
    }

    /// Numbers the message, so that its answer can be told.
    pub fn set_sequence(&mut self, sequence: u32) -> &mut Self {
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize, kind: u16) {
        debug_assert!(self.bytes.len() >= start + ATTRIBUTE_LEN, "an attribute has its header");
        if let Ok(length) = u16::try_from(self.bytes.len() - start) {
            self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        } else {
            self.too_long.get_or_insert(kind);
        }
        self.pad();
        self.seal();
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    /// Writes the message's length, so that it is whole after every append.
    fn seal(&mut self) {
        debug_assert!(self.bytes.len() >= HEADER_LEN, "a message has its header");
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
    }
}

//! The instructions that a rule is made of (`NFTA_EXPR_*` and each one's own attributes), one for one.

use kernel_state::nft::Verdict;

use super::verdict;
use super::wire::{LIST_ITEM, data};
use crate::netlink::{Attributes, Malformed, Message};

/// A register: 0 holds the verdict, 1 to 4 are 16 bytes each, from 8 on the same space in words of 4.
pub(super) type Register = u32;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    Payload {
        base: u32,
        offset: u32,
        length: u32,
        to: Register,
    },
    Meta {
        key: u32,
        to: Register,
    },
    Ct {
        key: u32,
        direction: Option<u8>,
        to: Register,
    },
    Fib {
        result: u32,
        flags: u32,
        to: Register,
    },
    Numgen {
        modulus: u32,
        kind: u32,
        offset: u32,
        to: Register,
    },
    Bitwise {
        from: Register,
        to: Register,
        length: u32,
        mask: Vec<u8>,
        xor: Vec<u8>,
        operation: u32,
    },
    ToNetworkOrder {
        register: Register,
        size: u32,
        length: u32,
    },
    Compare {
        from: Register,
        operation: u32,
        value: Vec<u8>,
    },
    Lookup {
        set: String,
        from: Register,
        to: Option<Register>,
        flags: u32,
    },
    Dynset {
        set: String,
        operation: u32,
        from: Register,
    },
    Value {
        to: Register,
        bytes: Vec<u8>,
    },
    Verdict(Verdict),
    /// Without its flags that only say which registers are given.
    Nat {
        kind: u32,
        family: u32,
        address: Register,
        port: Register,
        flags: u32,
    },
    Masquerade {
        flags: u32,
    },
    Reject {
        kind: u32,
        code: u8,
    },
}

/// `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED`: the kernel sets them by itself.
const NAT_RANGE_FLAGS: u32 = 0x3;
const NAT_PORT_GIVEN: u32 = 0x2;
/// `NFT_BYTEORDER_HTON`
const TO_NETWORK: u32 = 1;

impl Expression {
    /// Appends the instruction to a rule's list.
    pub(super) fn write(&self, list: &mut Message) {
        list.nested(LIST_ITEM, |out| {
            out.text(1, self.name()).nested(2, |out| self.write_attributes(out));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta { .. } => "meta",
            Self::Ct { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Numgen { .. } => "numgen",
            Self::Bitwise { .. } => "bitwise",
            Self::ToNetworkOrder { .. } => "byteorder",
            Self::Compare { .. } => "cmp",
            Self::Lookup { .. } => "lookup",
            Self::Dynset { .. } => "dynset",
            Self::Value { .. } | Self::Verdict(_) => "immediate",
            Self::Nat { .. } => "nat",
            Self::Masquerade { .. } => "masq",
            Self::Reject { .. } => "reject",
        }
    }

    /// The numbers are those of each instruction's own list of attributes.
    fn write_attributes(&self, out: &mut Message) {
        match self {
            Self::Payload { base, offset, length, to } => {
                out.be32(1, *to).be32(2, *base).be32(3, *offset).be32(4, *length);
            }
            Self::Meta { key, to } => {
                out.be32(2, *key).be32(1, *to);
            }
            Self::Ct { key, direction, to } => {
                out.be32(2, *key).be32(1, *to);
                if let Some(direction) = direction {
                    out.u8(3, *direction);
                }
            }
            Self::Fib { result, flags, to } => {
                out.be32(3, *flags).be32(2, *result).be32(1, *to);
            }
            Self::Numgen { modulus, kind, offset, to } => {
                out.be32(1, *to).be32(2, *modulus).be32(3, *kind).be32(4, *offset);
            }
            Self::Bitwise { from, to, length, mask, xor, operation } => {
                out.be32(1, *from).be32(2, *to).be32(6, *operation).be32(3, *length);
                value(out, 4, mask);
                value(out, 5, xor);
            }
            Self::ToNetworkOrder { register, size, length } => {
                out.be32(1, *register).be32(2, *register).be32(3, TO_NETWORK);
                out.be32(4, *length).be32(5, *size);
            }
            Self::Compare { from, operation, value: with } => {
                out.be32(1, *from).be32(2, *operation);
                value(out, 3, with);
            }
            Self::Lookup { set, from, to, flags } => write_lookup(out, set, *from, *to, *flags),
            Self::Dynset { set, operation, from } => {
                out.be32(4, *from).be32(3, *operation).text(1, set);
            }
            Self::Value { to, bytes } => {
                out.be32(1, *to);
                value(out, 2, bytes);
            }
            Self::Verdict(of) => {
                out.be32(1, 0).nested(2, |out| verdict::write(out, of));
            }
            Self::Nat { kind, family, address, port, flags } => {
                out.be32(1, *kind).be32(2, *family).be32(3, *address).be32(5, *port);
                out.be32(7, flags | NAT_PORT_GIVEN);
            }
            Self::Masquerade { flags } => {
                out.be32(1, *flags);
            }
            Self::Reject { kind, code } => {
                out.be32(1, *kind).u8(2, *code);
            }
        }
    }

    /// The instruction in an item of a rule's list; nothing if it is none of ours.
    pub(super) fn read(item: &Attributes<'_>) -> Result<Option<Self>, Malformed> {
        let (Some(name), Some(attributes)) = (item.find(1)?, item.find(2)?) else { return Ok(None) };
        let given = Given(attributes.nested());
        let read = match name.text()? {
            "payload" => Self::read_payload(&given),
            "meta" => given
                .only(&[1, 2])
                .and_then(|()| Ok(Self::Meta { key: given.number(2)?, to: given.number(1)? })),
            "ct" => Self::read_ct(&given),
            "fib" => {
                Ok(Self::Fib { result: given.number(2)?, flags: given.number(3)?, to: given.number(1)? })
            }
            "numgen" => Ok(Self::Numgen {
                modulus: given.number(2)?,
                kind: given.number(3)?,
                offset: given.number_or(4, 0)?,
                to: given.number(1)?,
            }),
            "bitwise" => Self::read_bitwise(&given),
            "byteorder" => Self::read_byteorder(&given),
            "cmp" => Ok(Self::Compare {
                from: given.number(1)?,
                operation: given.number(2)?,
                value: given.bytes(3)?,
            }),
            "lookup" => Ok(Self::Lookup {
                set: given.text(1)?,
                from: given.number(2)?,
                to: given.0.find(3)?.map(|to| to.be32()).transpose()?,
                flags: given.number_or(5, 0)?,
            }),
            "dynset" => Self::read_dynset(&given),
            "immediate" => Self::read_immediate(&given),
            "nat" => Self::read_nat(&given),
            "masq" => given.only(&[1]).and_then(|()| Ok(Self::Masquerade { flags: given.number_or(1, 0)? })),
            "reject" => Ok(Self::Reject { kind: given.number(1)?, code: given.attribute(2)?.u8()? }),
            _ => return Ok(None),
        };
        match read {
            Ok(expression) => Ok(Some(expression)),
            // An attribute that ours always have is not there: somebody else's.
            Err(Malformed::Missing { .. } | Malformed::Size { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn read_payload(given: &Given<'_>) -> Result<Self, Malformed> {
        given.only(&[1, 2, 3, 4])?;
        Ok(Self::Payload {
            base: given.number(2)?,
            offset: given.number(3)?,
            length: given.number(4)?,
            to: given.number(1)?,
        })
    }

    fn read_ct(given: &Given<'_>) -> Result<Self, Malformed> {
        given.only(&[1, 2, 3])?;
        let direction = given.0.find(3)?.map(|direction| direction.u8()).transpose()?;
        Ok(Self::Ct { key: given.number(2)?, direction, to: given.number(1)? })
    }

    fn read_bitwise(given: &Given<'_>) -> Result<Self, Malformed> {
        Ok(Self::Bitwise {
            from: given.number(1)?,
            to: given.number(2)?,
            length: given.number(3)?,
            mask: given.bytes(4)?,
            xor: given.bytes(5)?,
            operation: given.number_or(6, 0)?,
        })
    }

    fn read_byteorder(given: &Given<'_>) -> Result<Self, Malformed> {
        let register = given.number(1)?;
        if given.number(2)? != register || given.number(3)? != TO_NETWORK {
            return Err(Malformed::Missing { kind: 3 });
        }
        Ok(Self::ToNetworkOrder { register, length: given.number(4)?, size: given.number(5)? })
    }

    fn read_dynset(given: &Given<'_>) -> Result<Self, Malformed> {
        const TIMEOUT: u16 = 6; // the kernel repeats that of the set
        const FLAGS: u16 = 9;
        const PADDING: u16 = 8;
        given.only(&[1, 3, 4, TIMEOUT, PADDING, FLAGS])?;
        if given.number_or(FLAGS, 0)? != 0 {
            return Err(Malformed::Missing { kind: FLAGS });
        }
        Ok(Self::Dynset { set: given.text(1)?, operation: given.number(3)?, from: given.number(4)? })
    }

    fn read_immediate(given: &Given<'_>) -> Result<Self, Malformed> {
        let content = given.attribute(2)?.nested();
        match content.find(data::VERDICT)? {
            Some(found) => verdict::read(&found.nested()).map(Self::Verdict),
            None => Ok(Self::Value { to: given.number(1)?, bytes: given.bytes(2)? }),
        }
    }

    fn read_nat(given: &Given<'_>) -> Result<Self, Malformed> {
        Ok(Self::Nat {
            kind: given.number(1)?,
            family: given.number(2)?,
            address: given.number(3)?,
            port: given.number(5)?,
            flags: given.number_or(7, 0)? & !NAT_RANGE_FLAGS,
        })
    }
}

/// The attributes of one instruction.
struct Given<'a>(Attributes<'a>);

impl<'a> Given<'a> {
    /// Fails if there is any other attribute, since it could say anything.
    fn only(&self, kinds: &[u16]) -> Result<(), Malformed> {
        for attribute in self.0.clone() {
            let kind = attribute?.kind;
            if !kinds.contains(&kind) {
                return Err(Malformed::Missing { kind });
            }
        }
        Ok(())
    }

    fn attribute(&self, kind: u16) -> Result<crate::netlink::Attribute<'a>, Malformed> {
        self.0.find(kind)?.ok_or(Malformed::Missing { kind })
    }

    fn number(&self, kind: u16) -> Result<u32, Malformed> {
        self.attribute(kind)?.be32()
    }

    fn number_or(&self, kind: u16, otherwise: u32) -> Result<u32, Malformed> {
        self.0.find(kind)?.map_or(Ok(otherwise), |attribute| attribute.be32())
    }

    fn text(&self, kind: u16) -> Result<String, Malformed> {
        Ok(self.attribute(kind)?.text()?.to_owned())
    }

    fn bytes(&self, kind: u16) -> Result<Vec<u8>, Malformed> {
        let content = self.attribute(kind)?.nested();
        let value = content.find(data::VALUE)?.ok_or(Malformed::Missing { kind: data::VALUE })?;
        Ok(value.payload.to_vec())
    }
}

fn write_lookup(out: &mut Message, set: &str, from: Register, to: Option<Register>, flags: u32) {
    out.be32(2, from);
    if let Some(to) = to {
        out.be32(3, to);
    }
    out.text(1, set);
    if flags != 0 {
        out.be32(5, flags);
    }
}

fn value(out: &mut Message, kind: u16, bytes: &[u8]) {
    out.nested(kind, |out| {
        out.attribute(data::VALUE, bytes);
    });
}

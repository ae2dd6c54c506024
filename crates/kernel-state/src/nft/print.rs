//! How the objects of a table read: as nft prints and reads them.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write};

use super::{
    Chain, ChainKind, Command, Data, DataType, Family, Field, Hook, HookPoint, Key, KeyType, NftState,
    Object, Protocol, Rule, Sense, SetSpec, Statement, Step, TABLE, Tuple, Value, Verdict,
};

/// One object as commands.
pub(super) fn object(key: &Key, value: &Value, out: &mut dyn Write) -> fmt::Result {
    let step = |command| Step { family: key.family, command };
    match (&key.object, value) {
        (Object::Table, Value::Table(comment)) => writeln!(out, "{}", step(Command::AddTable(comment))),
        (Object::Set(name), Value::Set(spec)) => writeln!(out, "{}", step(Command::AddSet(name, spec))),
        (Object::Chain(name), Value::Chain(chain)) => {
            writeln!(out, "{}", step(Command::AddChain(name, chain)))?;
            chain.rules.iter().try_for_each(|rule| writeln!(out, "{}", step(Command::AddRule(name, rule))))
        }
        (Object::Element(set, tuple), Value::Element(data)) => {
            writeln!(out, "{}", step(Command::AddElement(set, tuple, data)))
        }
        (Object::Table | Object::Set(_) | Object::Chain(_) | Object::Element(..), _) => Ok(()),
    }
}

/// A whole table, as `nft list table` prints it, one element a line.
pub(super) fn state(state: &NftState, out: &mut dyn Write) -> fmt::Result {
    let mut elements: BTreeMap<&str, Vec<(&Tuple, &Data)>> = BTreeMap::new();
    for (key, value) in state.iter() {
        if let (Object::Element(set, tuple), Value::Element(data)) = (&key.object, value) {
            elements.entry(set).or_default().push((tuple, data));
        }
    }
    let Some((Key { family, .. }, _)) = state.iter().next() else { return Ok(()) };
    writeln!(out, "table {} {TABLE} {{", family.name())?;
    for (key, value) in state.iter() {
        match (&key.object, value) {
            (Object::Table, Value::Table(comment)) => writeln!(out, "\tcomment \"{comment}\"")?,
            (Object::Set(name), Value::Set(spec)) => {
                let elements = elements.get(&**name).map_or(&[][..], Vec::as_slice);
                set_block(*family, name, spec, elements, out)?;
            }
            (Object::Chain(name), Value::Chain(chain)) => chain_block(*family, name, chain, out)?,
            (Object::Table | Object::Set(_) | Object::Chain(_) | Object::Element(..), _) => {}
        }
    }
    writeln!(out, "}}")
}

fn set_block(
    family: Family,
    name: &str,
    spec: &SetSpec,
    elements: &[(&Tuple, &Data)],
    out: &mut dyn Write,
) -> fmt::Result {
    writeln!(out, "\n\t{} {name} {{", set_word(spec))?;
    for line in set_lines(family, spec) {
        writeln!(out, "\t\t{line}")?;
    }
    let mut before = "\t\telements = { ";
    for (tuple, data) in elements {
        write!(out, "{before}{tuple}{data}")?;
        before = ",\n\t\t\t     ";
    }
    if !elements.is_empty() {
        writeln!(out, " }}")?;
    }
    writeln!(out, "\t}}")
}

fn chain_block(family: Family, name: &str, chain: &Chain, out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "\n\tchain {name} {{")?;
    if let Some(hook) = chain.hook {
        writeln!(out, "\t\t{hook}")?;
    }
    chain.rules.iter().try_for_each(|rule| writeln!(out, "\t\t{}", InFamily(family, rule)))?;
    writeln!(out, "\t}}")
}

fn set_word(spec: &SetSpec) -> &'static str {
    match spec {
        SetSpec::Written(_, DataType::Verdict | DataType::Endpoint) => "map",
        SetSpec::Written(_, DataType::Nothing) | SetSpec::Remembered { .. } | SetSpec::Foreign => "set",
    }
}

fn set_lines(family: Family, spec: &SetSpec) -> Vec<String> {
    match spec {
        SetSpec::Written(key, DataType::Endpoint) => {
            let data = InFamily(family, &[Field::Destination, Field::Port][..]);
            vec![format!("typeof {} : {data}", InFamily(family, &typeof_fields(*key)[..]))]
        }
        SetSpec::Written(key, DataType::Verdict) => {
            vec![format!("type {} : verdict", type_names(family, *key))]
        }
        SetSpec::Written(key @ KeyType::SocketRange, DataType::Nothing) => {
            vec![format!("type {}", type_names(family, *key)), "flags interval".to_owned()]
        }
        SetSpec::Written(key, DataType::Nothing) => vec![format!("type {}", type_names(family, *key))],
        SetSpec::Remembered { timeout } => vec![
            format!("type {}", type_names(family, KeyType::Address)),
            "flags dynamic,timeout".to_owned(),
            format!("timeout {timeout}s"),
        ],
        SetSpec::Foreign => vec!["# not ours".to_owned()],
    }
}

/// The expression whose type the key has; numbers have no type name of their own in nft.
fn typeof_fields(key: KeyType) -> Vec<Field> {
    match key {
        KeyType::Address => vec![Field::Destination],
        KeyType::Pair => vec![Field::Source, Field::Destination],
        KeyType::Port => vec![Field::Protocol, Field::Port],
        KeyType::PortSlot => vec![Field::Protocol, Field::Port, Field::Slot(2)],
        KeyType::Socket => vec![Field::Destination, Field::Protocol, Field::Port],
        KeyType::SocketSlot => vec![Field::Destination, Field::Protocol, Field::Port, Field::Slot(2)],
        KeyType::SocketRange => vec![Field::Destination, Field::Protocol, Field::Port, Field::Source],
    }
}

fn type_names(family: Family, key: KeyType) -> String {
    let address = match family {
        Family::Ip => "ipv4_addr",
        Family::Ip6 => "ipv6_addr",
    };
    let name = |field: &Field| match field {
        Field::Source | Field::Destination | Field::OriginalDestination => address,
        Field::Protocol => "inet_proto",
        Field::Port | Field::OriginalPort => "inet_service",
        Field::Slot(_) => "integer",
    };
    typeof_fields(key).iter().map(name).collect::<Vec<_>>().join(" . ")
}

/// Something that reads differently by the family of its table.
struct InFamily<'a, T: ?Sized>(Family, &'a T);

impl Display for Step<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let family = self.family;
        let table = format_args!("{} {TABLE}", family.name()).to_string();
        match self.command {
            Command::AddTable(comment) => write!(out, "add table {table} {{ comment \"{comment}\"; }}"),
            Command::DeleteTable => write!(out, "delete table {table}"),
            Command::AddSet(name, spec) => {
                write!(out, "add {} {table} {name} {{", set_word(spec))?;
                set_lines(family, spec).iter().try_for_each(|line| write!(out, " {line};"))?;
                write!(out, " }}")
            }
            Command::DeleteSet(name) => write!(out, "delete set {table} {name}"),
            Command::AddChain(name, chain) => match chain.hook {
                Some(hook) => write!(out, "add chain {table} {name} {{ {hook} }}"),
                None => write!(out, "add chain {table} {name}"),
            },
            Command::FlushChain(name) => write!(out, "flush chain {table} {name}"),
            Command::DeleteChain(name) => write!(out, "delete chain {table} {name}"),
            Command::AddRule(name, rule) => write!(out, "add rule {table} {name} {}", InFamily(family, rule)),
            Command::AddElement(set, tuple, data) => {
                write!(out, "add element {table} {set} {{ {tuple}{data} }}")
            }
            Command::DeleteElement(set, tuple) => write!(out, "delete element {table} {set} {{ {tuple} }}"),
        }
    }
}

impl Display for InFamily<'_, Rule> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self(family, rule) = self;
        for (place, statement) in rule.statements.iter().enumerate() {
            let blank = if place == 0 { "" } else { " " };
            write!(out, "{blank}{}", InFamily(*family, statement))?;
        }
        match &rule.comment {
            Some(comment) => write!(out, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl Display for InFamily<'_, Statement> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self(family, statement) = self;
        let ip = family.name();
        let fields = |fields| InFamily(*family, fields);
        match statement {
            Statement::Within(field, sense, range) => {
                write!(out, "{} {sense}{}", InFamily(*family, field), Range(range))
            }
            Statement::InInterface(sense, name) => write!(out, "iifname {sense}\"{name}\""),
            Statement::New => out.write_str("ct state new"),
            Statement::Translated => out.write_str("ct status dnat"),
            Statement::Protocol(protocol) => write!(out, "meta l4proto {protocol}"),
            Statement::SourceIsLocal => out.write_str("fib saddr type local"),
            Statement::DestinationIsLocal => out.write_str("fib daddr type local"),
            Statement::OnceIn(number) => write!(out, "numgen random mod {number} 0"),
            Statement::In(of, sense, set) => write!(out, "{} {sense}@{set}", fields(&**of)),
            Statement::Vmap(of, map) => write!(out, "{} vmap @{map}", fields(&**of)),
            Statement::DnatByMap(of, map) => write!(out, "dnat {ip} to {} map @{map}", fields(&**of)),
            Statement::Dnat(address, port) => {
                write!(out, "dnat to {}", std::net::SocketAddr::new(*address, *port))
            }
            Statement::Masquerade => out.write_str("masquerade fully-random"),
            Statement::Remember(set) => write!(out, "update @{set} {{ {ip} saddr }}"),
            Statement::End(verdict) => verdict.fmt(out),
            Statement::Reject => out.write_str("reject"),
            Statement::Foreign => out.write_str("# not ours"),
        }
    }
}

impl Display for InFamily<'_, [Field]> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (place, field) in self.1.iter().enumerate() {
            let dot = if place == 0 { "" } else { " . " };
            write!(out, "{dot}{}", InFamily(self.0, field))?;
        }
        Ok(())
    }
}

impl Display for InFamily<'_, Field> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let ip = self.0.name();
        match self.1 {
            Field::Source => write!(out, "{ip} saddr"),
            Field::Destination => write!(out, "{ip} daddr"),
            Field::OriginalDestination => write!(out, "ct original {ip} daddr"),
            Field::Protocol => out.write_str("meta l4proto"),
            Field::Port => out.write_str("th dport"),
            Field::OriginalPort => out.write_str("ct original proto-dst"),
            Field::Slot(number) => write!(out, "numgen random mod {number}"),
        }
    }
}

/// A range as nft prints it: a single address without a length.
struct Range<'a>(&'a ipnet::IpNet);

impl Display for Range<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self(range) = self;
        if range.prefix_len() == range.max_prefix_len() { range.addr().fmt(out) } else { range.fmt(out) }
    }
}

impl Display for Tuple {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(out),
            Self::Pair(one, other) => write!(out, "{one} . {other}"),
            Self::Port(protocol, port) => write!(out, "{protocol} . {port}"),
            Self::PortSlot(protocol, port, slot) => write!(out, "{protocol} . {port} . {slot}"),
            Self::Socket(address, protocol, port) => write!(out, "{address} . {protocol} . {port}"),
            Self::SocketSlot(address, protocol, port, slot) => {
                write!(out, "{address} . {protocol} . {port} . {slot}")
            }
            Self::SocketRange(address, protocol, port, range) => {
                write!(out, "{address} . {protocol} . {port} . {}", Range(range))
            }
        }
    }
}

/// What follows the key of an element.
impl Display for Data {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Verdict(verdict) => write!(out, " : {verdict}"),
            Self::Endpoint(address, port) => write!(out, " : {address} . {port}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => out.write_str("accept"),
            Self::Drop => out.write_str("drop"),
            Self::Jump(chain) => write!(out, "jump {chain}"),
            Self::Goto(chain) => write!(out, "goto {chain}"),
            Self::Return => out.write_str("return"),
        }
    }
}

impl Display for Protocol {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => out.write_str("tcp"),
            Self::UDP => out.write_str("udp"),
            Self::SCTP => out.write_str("sctp"),
            Self(number) => number.fmt(out),
        }
    }
}

impl Display for Hook {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        let at = match self.at {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
        };
        write!(out, "type {kind} hook {at} priority {}; policy accept;", self.priority)
    }
}

impl Display for Sense {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is => Ok(()),
            Self::Not => out.write_str("!= "),
        }
    }
}

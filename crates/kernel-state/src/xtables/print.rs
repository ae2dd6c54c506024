//! How xtables objects read: as `iptables-save` prints them.

use std::fmt::{self, Display, Formatter, Write};

use super::{
    ConnectionStates, Direction, Key, Match, Part, Probability, Protocol, RejectWith, Rule, Rules, Sense,
    SourcePorts, Table, Target, XtablesState,
};

pub(super) fn object(key: &Key, rules: &Rules, out: &mut dyn Write) -> fmt::Result {
    if key.part == Part::Chain {
        writeln!(out, ":{} - [0:0]", key.chain)?;
    }
    run(key, rules, out)
}

/// A state as iptables-save would print it: by table, chains first.
pub(super) fn state(state: &XtablesState, out: &mut dyn Write) -> fmt::Result {
    for table in Table::ALL {
        let objects = || state.iter().filter(|(key, _)| key.table == table);
        if objects().next().is_none() {
            continue;
        }
        writeln!(out, "*{}", table.name())?;
        for (key, _) in objects().filter(|(key, _)| key.part == Part::Chain) {
            writeln!(out, ":{} - [0:0]", key.chain)?;
        }
        objects().try_for_each(|(key, rules)| run(key, rules, out))?;
        writeln!(out, "COMMIT")?;
    }
    Ok(())
}

fn run(key: &Key, rules: &Rules, out: &mut dyn Write) -> fmt::Result {
    rules.iter().try_for_each(|rule| writeln!(out, "-A {}{rule}", key.chain))
}

/// A rule without its chain: a blank before each part.
impl Display for Rule {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for condition in self.matches() {
            write!(out, " {condition}")?;
        }
        match &self.target {
            Some(target) => write!(out, " -j {target}"),
            None => Ok(()),
        }
    }
}

impl Display for Match {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(sense, range) => write!(out, "{sense}-s {range}"),
            Self::Destination(sense, range) => write!(out, "{sense}-d {range}"),
            Self::InInterface(sense, name) => write!(out, "{sense}-i {name}"),
            Self::Protocol(protocol) => write!(out, "-p {}", protocol.name()),
            Self::Comment(text) => comment(text, out),
            Self::Transport(protocol, None) => write!(out, "-m {}", protocol.name()),
            Self::Transport(protocol, Some(port)) => transport(*protocol, *port, out),
            Self::Mark(sense, value, mask) => write!(out, "-m mark {sense}--mark {value:#x}/{mask:#x}"),
            Self::ConnectionState(sense, states) => write!(out, "-m conntrack {sense}--ctstate {states}"),
            Self::SourceIsLocal => out.write_str("-m addrtype --src-type LOCAL"),
            Self::DestinationIsLocal => out.write_str("-m addrtype --dst-type LOCAL"),
            Self::TransparentSocket => out.write_str("-m socket --transparent"),
            Self::Probability(probability) => {
                write!(out, "-m statistic --mode random --probability {probability}")
            }
            Self::RecentlySeen(list, seconds) => {
                write!(out, "-m recent --rcheck --seconds {seconds} --reap --name {list} --rsource")
            }
            Self::SetSeen(list) => write!(out, "-m recent --set --name {list} --rsource"),
            Self::Listener(key) => write!(out, "-m {} --to {key}", key.transport),
            Self::Set(name, directions) => {
                let directions: Vec<&str> = directions.iter().map(|direction| direction.name()).collect();
                write!(out, "-m set --match-set {name} {}", directions.join(","))
            }
            Self::Other(text) => out.write_str(text),
        }
    }
}

impl Direction {
    /// As it follows the name of a set.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Source => "src",
            Self::Destination => "dst",
        }
    }
}

impl Display for Target {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jump(chain) => chain.fmt(out),
            Self::Accept => out.write_str("ACCEPT"),
            Self::Drop => out.write_str("DROP"),
            Self::Return => out.write_str("RETURN"),
            Self::Reject(RejectWith::IcmpPortUnreachable) => {
                out.write_str("REJECT --reject-with icmp-port-unreachable")
            }
            Self::Reject(RejectWith::Icmp6PortUnreachable) => {
                out.write_str("REJECT --reject-with icmp6-port-unreachable")
            }
            Self::Dnat(to) => write!(out, "DNAT --to-destination {to}"),
            Self::Listener(key) => write!(out, "DNAT --to-destination {key}"),
            Self::Masquerade(SourcePorts::Kept) => out.write_str("MASQUERADE"),
            Self::Masquerade(SourcePorts::FullyRandom) => out.write_str("MASQUERADE --random-fully"),
            Self::OrMark(mark) => write!(out, "MARK --set-xmark {mark:#x}/{mark:#x}"),
            Self::XorMark(mark) => write!(out, "MARK --set-xmark {mark:#x}/0x0"),
            Self::Other(text) => out.write_str(text),
        }
    }
}

impl Display for Sense {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is => Ok(()),
            Self::Not => out.write_str("! "),
        }
    }
}

impl Display for ConnectionStates {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, state) in ConnectionStates::NAMES {
            if self.contains(state) {
                write!(out, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl Display for Probability {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{:.11}", self.as_fraction())
    }
}

impl ConnectionStates {
    /// In the order in which iptables-save prints them.
    pub(super) const NAMES: [(&str, Self); 5] = [
        ("INVALID", Self::INVALID),
        ("NEW", Self::NEW),
        ("RELATED", Self::RELATED),
        ("ESTABLISHED", Self::ESTABLISHED),
        ("DNAT", Self::DNAT),
    ];
}

fn transport(protocol: Protocol, port: u16, out: &mut Formatter<'_>) -> fmt::Result {
    write!(out, "-m {} --dport {port}", protocol.name())
}

fn comment(text: &str, out: &mut Formatter<'_>) -> fmt::Result {
    out.write_str("-m comment --comment ")?;
    word(text, out)
}

/// A word, quoted where iptables-save quotes it (`xtables_save_string` in libxtables/xtables.c).
pub(super) fn word(text: &str, out: &mut dyn Write) -> fmt::Result {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !text.is_empty() && text.bytes().all(harmless) {
        return out.write_str(text);
    }
    out.write_char('"')?;
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '\'') {
            out.write_char('\\')?;
        }
        out.write_char(character)?;
    }
    out.write_char('"')
}

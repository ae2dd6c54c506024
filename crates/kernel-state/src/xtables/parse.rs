//! What `iptables-save` printed, as rules.
//!
//! Never fails on a rule: what this vocabulary has no word for is kept in iptables' own, so that foreign rules
//! can be told from ours and removed from where they do not belong.

use std::collections::BTreeSet;
use std::mem;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use thiserror::Error;

use super::print::word;
use super::{
    ChainName, ConnectionStates, Direction, Match, Probability, Protocol, RejectWith, Rule, Sense,
    SourcePorts, Table, Target,
};
use crate::ipset::SetName;

/// The output of iptables-save is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("iptables-save printed something else than rules in line {line}: {text}")]
pub struct SaveError {
    /// The line, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

/// Takes in what `iptables-save` prints, line by line, and tells each chain when all of its rules have come: a large
/// output is never whole in memory. Tables other than ours are passed over.
#[derive(Debug, Default)]
pub struct SaveReader {
    /// How many lines have come.
    lines: usize,
    table: Option<Table>,
    /// Chains of the table that no rule has come of.
    declared: BTreeSet<ChainName>,
    /// The chain whose rules come.
    chain: Option<(ChainName, Vec<Rule>)>,
}

/// Who is told of a chain with its rules.
pub type TellChain<'a> = &'a mut dyn FnMut(Table, ChainName, Vec<Rule>);

impl SaveReader {
    /// The next line, without its end.
    pub fn line(&mut self, line: &str, tell: TellChain<'_>) -> Result<(), SaveError> {
        self.lines += 1;
        let error = |reader: &Self| SaveError { line: reader.lines, text: line.to_owned() };
        if let Some(name) = line.strip_prefix('*') {
            self.end(tell);
            self.table = Table::ALL.into_iter().find(|table| table.name() == name);
        } else if self.table.is_none() {
            // What is said of other tables.
        } else if let Some(rest) = line.strip_prefix(':') {
            let name = rest.split(' ').next().and_then(ChainName::new).ok_or_else(|| error(self))?;
            self.declared.insert(name);
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            let name = ChainName::new(name).ok_or_else(|| error(self))?;
            if self.chain.as_ref().is_none_or(|(chain, _)| *chain != name) {
                self.end_chain(tell);
                if !self.declared.remove(&name) {
                    return Err(error(self));
                }
            }
            self.chain.get_or_insert_with(|| (name, Vec::new())).1.push(parse_rule(rule));
        } else if !(line.is_empty() || line.starts_with('#') || line == "COMMIT") {
            return Err(error(self));
        }
        Ok(())
    }

    /// No line of the table comes any more.
    pub fn end(&mut self, tell: TellChain<'_>) {
        self.end_chain(tell);
        let empty = mem::take(&mut self.declared);
        if let Some(table) = self.table {
            for chain in empty {
                tell(table, chain, Vec::new());
            }
        }
    }

    fn end_chain(&mut self, tell: TellChain<'_>) {
        if let (Some(table), Some((chain, rules))) = (self.table, self.chain.take()) {
            tell(table, chain, rules);
        }
    }
}

/// All chains with their rules, as `iptables-save` printed them.
pub fn parse_save(text: &str) -> Result<Vec<(Table, ChainName, Vec<Rule>)>, SaveError> {
    let mut chains = Vec::new();
    let mut tell = |table, chain, rules| chains.push((table, chain, rules));
    let mut reader = SaveReader::default();
    text.lines().try_for_each(|line| reader.line(line, &mut tell))?;
    reader.end(&mut tell);
    Ok(chains)
}

/// A rule, as it follows `-A CHAIN`.
pub(super) fn parse_rule(text: &str) -> Rule {
    let mut matches = Vec::new();
    let mut target = None;
    for group in groups(&words(text)) {
        match group.split_first() {
            Some((flag, rest)) if flag == "-j" => {
                target = Some(parse_target(rest).unwrap_or_else(|| Target::Other(join(rest).into())));
            }
            // Also `-g`, so that it is printed with its flag again.
            Some(_) => matches.push(parse_match(group).unwrap_or_else(|| Match::Other(join(group).into()))),
            None => {}
        }
    }
    Rule::new(matches, target)
}

/// Splits a line into words, as iptables-restore does.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(first) = characters.find(|character| !character.is_whitespace()) {
        let mut word = String::new();
        if first == '"' {
            while let Some(character) = characters.next().filter(|character| *character != '"') {
                word.extend(if character == '\\' { characters.next() } else { Some(character) });
            }
        } else {
            word.push(first);
            while let Some(character) = characters.next_if(|character| !character.is_whitespace()) {
                word.push(character);
            }
        }
        words.push(word);
    }
    words
}

/// Options whose value is free text, so that it may look like the beginning of a match.
const FREE_TEXT: [&str; 5] = ["--comment", "--log-prefix", "--nflog-prefix", "--string", "--name"];

/// Cuts the words where a match or the target begins.
fn groups(words: &[String]) -> Vec<&[String]> {
    let begins = |index: usize| {
        let is_flag = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.len() == 2;
        let negated = |index: usize| words.get(index).is_some_and(|word| word == "!");
        let value_of_option = |index: usize| index > 0 && FREE_TEXT.contains(&words[index - 1].as_str());
        if negated(index) {
            words.get(index + 1).is_some_and(is_flag)
        } else {
            is_flag(&words[index]) && !value_of_option(index) && !(index > 0 && negated(index - 1))
        }
    };
    let mut starts: Vec<usize> = (0..words.len()).filter(|index| begins(*index)).collect();
    if starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    starts.push(words.len());
    starts.windows(2).map(|bounds| &words[bounds[0]..bounds[1]]).filter(|group| !group.is_empty()).collect()
}

fn parse_match(group: &[String]) -> Option<Match> {
    let (sense, rest) = sense(group);
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    let positive = sense == Sense::Is;
    match *words.as_slice() {
        ["-s", range] => Some(Match::Source(sense, parse_range(range)?)),
        ["-d", range] => Some(Match::Destination(sense, parse_range(range)?)),
        ["-i", name] => Some(Match::InInterface(sense, name.into())),
        ["-p", name] if positive => Some(Match::Protocol(parse_protocol(name)?)),
        ["-m", "comment", "--comment", text] if positive => Some(Match::Comment(text.into())),
        ["-m", "addrtype", "--src-type", "LOCAL"] => Some(Match::SourceIsLocal),
        ["-m", "addrtype", "--dst-type", "LOCAL"] => Some(Match::DestinationIsLocal),
        ["-m", "socket", "--transparent"] => Some(Match::TransparentSocket),
        ["-m", "statistic", "--mode", "random", "--probability", fraction] => {
            Some(Match::Probability(Probability::from_text(fraction)?))
        }
        ["-m", "mark", "--mark", mark] => parse_mark(Sense::Is, mark),
        ["-m", "mark", "!", "--mark", mark] => parse_mark(Sense::Not, mark),
        ["-m", "conntrack", "--ctstate", states] => {
            Some(Match::ConnectionState(Sense::Is, parse_states(states)?))
        }
        ["-m", "conntrack", "!", "--ctstate", states] => {
            Some(Match::ConnectionState(Sense::Not, parse_states(states)?))
        }
        ["-m", "recent", ref options @ ..] => parse_recent(options),
        ["-m", "set", "--match-set", name, directions] => {
            Some(Match::Set(SetName::new(name)?, parse_directions(directions)?))
        }
        ["-m", name] => Some(Match::Transport(parse_protocol(name)?, None)),
        ["-m", name, "--dport", port] => {
            Some(Match::Transport(parse_protocol(name)?, Some(port.parse().ok()?)))
        }
        _ => None,
    }
}

fn parse_target(words: &[String]) -> Option<Target> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["ACCEPT"] => Some(Target::Accept),
        ["DROP"] => Some(Target::Drop),
        ["RETURN"] => Some(Target::Return),
        ["REJECT", "--reject-with", "icmp-port-unreachable"] => {
            Some(Target::Reject(RejectWith::IcmpPortUnreachable))
        }
        ["REJECT", "--reject-with", "icmp6-port-unreachable"] => {
            Some(Target::Reject(RejectWith::Icmp6PortUnreachable))
        }
        ["DNAT", "--to-destination", to] => Some(Target::Dnat(parse_socket_address(to)?)),
        ["MASQUERADE"] => Some(Target::Masquerade(SourcePorts::Kept)),
        ["MASQUERADE", "--random-fully"] => Some(Target::Masquerade(SourcePorts::FullyRandom)),
        ["MARK", "--set-xmark", mark] => match parse_numbers(mark)? {
            (value, 0) => Some(Target::XorMark(value)),
            (value, mask) if value == mask => Some(Target::OrMark(value)),
            _ => None,
        },
        [name] if !IN_KERNEL_TARGETS.contains(&name) => Some(Target::Jump(ChainName::new(name)?)),
        _ => None,
    }
}

/// Targets that need no option and are no chains.
const IN_KERNEL_TARGETS: [&str; 6] = ["LOG", "QUEUE", "NFQUEUE", "TRACE", "CHECKSUM", "REDIRECT"];

/// `--rcheck --seconds N --reap --name LIST [--mask M] --rsource`, or `--set` in place of the first three.
fn parse_recent(options: &[&str]) -> Option<Match> {
    let unmasked: Vec<&str> = match options {
        [before @ .., "--mask", "255.255.255.255" | "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", last] => {
            before.iter().chain([last]).copied().collect()
        }
        _ => options.to_vec(),
    };
    match *unmasked.as_slice() {
        ["--rcheck", "--seconds", seconds, "--reap", "--name", list, "--rsource"] => {
            Some(Match::RecentlySeen(Box::new(ChainName::new(list)?), seconds.parse().ok()?))
        }
        ["--set", "--name", list, "--rsource"] => Some(Match::SetSeen(Box::new(ChainName::new(list)?))),
        _ => None,
    }
}

fn parse_directions(text: &str) -> Option<Box<[Direction]>> {
    text.split(',')
        .map(|word| {
            [Direction::Source, Direction::Destination].into_iter().find(|known| known.name() == word)
        })
        .collect()
}

fn sense(group: &[String]) -> (Sense, &[String]) {
    match group.split_first() {
        Some((first, rest)) if first == "!" => (Sense::Not, rest),
        Some(_) | None => (Sense::Is, group),
    }
}

fn parse_range(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn parse_socket_address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

fn parse_protocol(name: &str) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| protocol.name() == name)
}

fn parse_states(text: &str) -> Option<ConnectionStates> {
    text.split(',').try_fold(ConnectionStates::default(), |states, name| {
        let (_, state) = ConnectionStates::NAMES.into_iter().find(|(known, _)| *known == name)?;
        Some(states.or(state))
    })
}

fn parse_mark(sense: Sense, text: &str) -> Option<Match> {
    let (value, mask) = parse_numbers(text)?;
    Some(Match::Mark(sense, value, mask))
}

/// `0x4000/0x4000`; without a mask all bits count.
fn parse_numbers(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

fn join(words: &[String]) -> String {
    let mut text = String::new();
    for (position, each) in words.iter().enumerate() {
        if position > 0 {
            text.push(' ');
        }
        if each.contains(|character: char| character.is_whitespace() || "\"\\'".contains(character))
            || each.is_empty()
        {
            word(each, &mut text).expect("writing to a String cannot fail");
        } else {
            text.push_str(each);
        }
    }
    text
}

//! What the kernel says, damaged in any way: no reader may panic, whatever it makes of it.
//!
//! `cargo xtask fuzz` goes on for as long as it is told, from the seed that it is told. A finding is shrunk and printed.

use std::time::{Duration, Instant};

use proptest::prop_oneof;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::netlink::{Messages, Protocol};
use crate::nft::watch::{KnownSets, Seen};

/// For how many seconds, and where chance begins.
const SECONDS: &str = "FAIRLEAD_FUZZ_SECONDS";
const SEED: &str = "FAIRLEAD_FUZZ_SEED";

/// So many cases are one round.
const ROUND: u32 = 4096;

/// A damage.
#[derive(Clone, Debug)]
enum Damage {
    /// A byte is another.
    Byte(Index, u8),
    /// Two bytes where a length or a kind stands are others.
    Word(Index, u16),
    /// The rest is lost.
    Cut(Index),
    /// A part is lost.
    Lost(Index, u8),
    /// A part is there twice.
    Twice(Index, u8),
    /// From here on it is another message.
    Crossed(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let small = prop_oneof![0..48_u16, any::<u16>()];
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        6 => (any::<Index>(), small).prop_map(|(at, word)| Damage::Word(at, word)),
        1 => any::<Index>().prop_map(Damage::Cut),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, words)| Damage::Lost(at, words)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, words)| Damage::Twice(at, words)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(at, other)| Damage::Crossed(at, other)),
    ]
}

impl Damage {
    fn done_to(&self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        // Everything in a message begins at a multiple of two, and all but kinds at one of four.
        let place = |at: &Index| if bytes.is_empty() { 0 } else { at.index(bytes.len()) & !1 };
        let part = |at: &Index, words: u8| {
            let start = place(at) & !3;
            start..(start + 4 * usize::from(words)).min(bytes.len())
        };
        match self {
            Self::Byte(at, byte) => {
                let at = place(at) | usize::from(byte & 1);
                bytes.get_mut(at).into_iter().for_each(|old| *old = *byte);
            }
            Self::Word(at, word) => {
                let at = place(at);
                bytes.iter_mut().skip(at).zip(word.to_ne_bytes()).for_each(|(old, new)| *old = new);
            }
            Self::Cut(at) => bytes.truncate(place(at)),
            Self::Lost(at, words) => {
                let part = part(at, *words);
                bytes.drain(part);
            }
            Self::Twice(at, words) => {
                let part = part(at, *words);
                let again = bytes[part.clone()].to_vec();
                bytes.splice(part.end..part.end, again);
            }
            Self::Crossed(at, other) => {
                let at = place(at);
                let other = &corpus[other.index(corpus.len())];
                bytes.truncate(at);
                bytes.extend(other.iter().skip(at));
            }
        }
    }
}

/// What the kernel answers about a table that has everything, message by message.
fn corpus() -> Vec<Vec<u8>> {
    const KINDS: [u16; 4] = [kind::GET_TABLE, kind::GET_SET, kind::GET_CHAIN, kind::GET_RULE];
    let netns = Netns::new().expect("a network namespace");
    let mut corpus = Vec::new();
    let mut collect = |family: Family| {
        let mut target = Nft::open(family, LAYOUT).expect("the kernel has nf_tables");
        target.write(&puts(&state(family))).expect("the kernel takes it");
        let mut socket = Socket::open(Protocol::Netfilter).expect("a socket");
        let mut requests: Vec<Message> = KINDS.iter().map(|kind| batch::new(*kind, 0, family)).collect();
        requests.extend(SETS.iter().map(|(name, ..)| {
            let mut request = batch::new(kind::GET_ELEMENT, 0, family);
            request.text(wire::element::TABLE, nft::TABLE).text(wire::element::SET, name);
            request
        }));
        for mut request in requests {
            let dumped = socket.dump(&mut request, |reply| {
                let mut message = Message::new(reply.kind, reply.flags);
                message.header(reply.payload);
                corpus.push(message.as_bytes().to_vec());
                Ok(())
            });
            dumped.expect("a list");
        }
    };
    netns.run(|| [Family::Ip, Family::Ip6].into_iter().for_each(&mut collect)).expect("entered");
    corpus
}

/// Reads bytes as a datagram of answers, and of notifications.
fn read_messages(bytes: &[u8], known: &KnownSets) {
    for reply in Messages::new(bytes).flatten() {
        for family in [Family::Ip, Family::Ip6] {
            // Whatever is heard, it must be heard to the end.
            let _heard = Seen::default().note(&reply, family, known);
        }
        read_all(reply.payload.get(4..).unwrap_or_default());
    }
    read_all(bytes);
}

fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn no_damage_to_what_the_kernel_says_makes_a_reader_panic() {
    let corpus = corpus();
    assert!(corpus.len() > 60, "{} messages", corpus.len());
    let known: KnownSets = SETS.iter().map(|(name, key, data)| (*name, (*key, *data))).collect();
    let seed = asked(SEED).unwrap_or(1);
    let end = asked(SECONDS).map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let strategy = (any::<Index>(), prop::collection::vec(damage(), 1..6));
    let mut rounds = 0;
    loop {
        let mut whole_seed = [0; 32];
        whole_seed[..8].copy_from_slice(&seed.to_le_bytes());
        whole_seed[8..16].copy_from_slice(&u64::to_le_bytes(rounds));
        let config = Config { cases: ROUND, failure_persistence: None, ..Config::default() };
        let mut runner =
            TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &whole_seed));
        let ran = runner.run(&strategy, |(which, damages)| {
            let mut bytes = corpus[which.index(corpus.len())].clone();
            for damage in &damages {
                damage.done_to(&mut bytes, &corpus);
            }
            read_messages(&bytes, &known);
            Ok(())
        });
        if let Err(finding) = ran {
            panic!("seed {seed}, round {rounds}: {finding}");
        }
        rounds += 1;
        if end.is_none_or(|end| end <= Instant::now()) {
            break;
        }
    }
    eprintln!("{} damaged messages from seed {seed}, none with a finding", rounds * u64::from(ROUND));
}

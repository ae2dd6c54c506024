//! Whether what is seen of a packet is what should become of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use packet_trace::{Next, Outcome, Packet, SeenAs};

use super::probe::Seen;
use crate::Expectation;

/// One expectation, and what was seen of it so far.
pub(super) struct Judge<'a> {
    expectation: &'a Expectation,
    sent: usize,
    reached: BTreeSet<SocketAddr>,
    doubted: BTreeSet<SocketAddr>,
    wrong: Option<String>,
}

/// How long to wait for a packet that should not come back, and for one that should.
const SILENCE: Duration = Duration::from_millis(400);
const ANSWER: Duration = Duration::from_secs(5);

impl<'a> Judge<'a> {
    pub(super) fn new(expectation: &'a Expectation) -> Self {
        Self { expectation, sent: 0, reached: BTreeSet::new(), doubted: BTreeSet::new(), wrong: None }
    }

    pub(super) fn expectation(&self) -> &'a Expectation {
        self.expectation
    }

    pub(super) fn packet(&self) -> Packet {
        self.expectation.packet
    }

    pub(super) fn patience(&self) -> Duration {
        if self.expectation.outcome == Outcome::Dropped { SILENCE } else { ANSWER }
    }

    /// How many more packets must be sent to be sure.
    pub(super) fn packets_wanted(&self) -> usize {
        if self.wrong.is_some() {
            return 0;
        }
        match (&self.expectation.outcome, self.sent) {
            (Outcome::Forwarded { next: Next::Same, .. }, 0) => 1,
            (Outcome::Forwarded { next: Next::Same, .. }, 1) => 8,
            (Outcome::Forwarded { to, next: Next::Anywhere }, sent)
                if self.reached.len() < to.len() && sent < most_packets(to) =>
            {
                4 * to.len()
            }
            (Outcome::Dropped | Outcome::Rejected | Outcome::Untouched, 0) => 2,
            _ => 0,
        }
    }

    pub(super) fn take(&mut self, seen: Seen) {
        self.sent += 1;
        if let Err(message) = self.compared(seen) {
            self.wrong.get_or_insert(message);
        }
    }

    /// What is wrong, when no more packets are wanted.
    pub(super) fn verdict(&self) -> Result<(), String> {
        if let Some(message) = &self.wrong {
            return Err(message.clone());
        }
        let Outcome::Forwarded { to, next } = &self.expectation.outcome else { return Ok(()) };
        let missed: Vec<String> =
            to.keys().filter(|at| !self.reached.contains(at)).map(ToString::to_string).collect();
        match next {
            Next::Anywhere if !missed.is_empty() => {
                Err(format!("{} packets, and none reached {}", self.sent, missed.join(" ")))
            }
            Next::Same if self.reached.len() > 1 => Err(format!("not kept: reached {:?}", self.reached)),
            Next::Anywhere | Next::Same => Ok(()),
        }
    }

    fn compared(&mut self, seen: Seen) -> Result<(), String> {
        match (&self.expectation.outcome, seen) {
            (Outcome::Dropped, Seen::Silence) | (Outcome::Rejected, Seen::Refused) => Ok(()),
            (Outcome::Untouched, Seen::Answer { from, server, peer })
                if server == self.expectation.packet.to && peer == from =>
            {
                Ok(())
            }
            (Outcome::Forwarded { to, .. }, Seen::Answer { from, server, peer }) => {
                // Source ports are chosen anew by masquerade, which shows it where both addresses are the node's.
                let seen_as = if peer == from { SeenAs::Itself } else { SeenAs::Node };
                let is_masqueraded = to.get(&server) == Some(&SeenAs::Node);
                if is_masqueraded && seen_as == SeenAs::Itself && self.doubted.insert(server) {
                    // Once in 64,512 times the new one is the old one. The next packet tells.
                    return Ok(());
                }
                self.reached.insert(server);
                match to.get(&server) {
                    Some(expected) if *expected == seen_as => Ok(()),
                    Some(_) | None => Err(told(seen)),
                }
            }
            (
                Outcome::Dropped | Outcome::Rejected | Outcome::Untouched | Outcome::Forwarded { .. },
                Seen::Answer { .. } | Seen::Refused | Seen::Silence | Seen::Odd(_),
            ) => Err(told(seen)),
        }
    }
}

/// Enough packets that an endpoint which gets its share is missed less than once in 10^9 times.
fn most_packets(to: &BTreeMap<SocketAddr, SeenAs>) -> usize {
    // n (1 - 1/n)^k < 10^-9 for k = n (21 + ln n); ln n < 6 for pools of up to 400
    27 * to.len()
}

fn told(seen: Seen) -> String {
    match seen {
        Seen::Answer { from, server, peer } if from == peer => format!("in the lab {server} answered it"),
        Seen::Answer { server, peer, .. } => format!("in the lab {server} answered it, which saw {peer}"),
        Seen::Refused => "in the lab it was refused".to_owned(),
        Seen::Silence => "in the lab nothing came back".to_owned(),
        Seen::Odd(error) => format!("in the lab it failed: {error}"),
    }
}

#[cfg(test)]
mod tests;

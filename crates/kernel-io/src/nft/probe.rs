//! What this kernel can do: a batch that is judged whole and then thrown away, since its last message asks for what
//! cannot be.

use kernel_state::nft::{
    ChainKind, DataType, Family, Field, Hook, HookPoint, KeyType, Rule, Sense, SetSpec, Statement,
};
use rustix::io::Errno;

use super::batch;
use super::wire::{self, kind};
use super::{OpenError, chain, rule, set};
use crate::netlink::{BatchError, Message, Refusal, Socket, flags};

/// What not every kernel has that has `nf_tables`, and what there is another way for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Sets whose keys end in a range, since Linux 5.6.
    pub ranges: Ability,
    /// Comments of tables, since Linux 5.10.
    pub comments: Ability,
}

/// Whether a kernel has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// It does.
    There,
    /// It does not.
    Missing,
}

/// Nobody else may be called so.
const TABLE: &str = "fairlead-probe";
/// No packet comes to a table that sleeps.
const DORMANT: u32 = 1;
/// More than a comment may have; a kernel that knows no comments does not look.
const TOO_LONG: usize = 300;

/// A message, and what it asks about.
struct Question(Message, About);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// Nothing can be done without it; what it is called where a kernel is configured.
    Needed(&'static str),
    Ranges,
    Comments,
    /// What cannot be.
    End,
}

/// Asks. Nothing is written, and nobody is told.
pub(super) fn abilities(socket: &mut Socket, family: Family) -> Result<Abilities, OpenError> {
    let (mut messages, about): (Vec<Message>, Vec<About>) =
        questions(family).into_iter().map(|Question(message, about)| (message, about)).unzip();
    messages.insert(0, batch::begin());
    messages.push(batch::end());
    match socket.batch(&mut messages) {
        Err(BatchError::Refused { refusals }) => {
            // The first message is the begin.
            let about_of = |place: usize| place.checked_sub(1).and_then(|place| about.get(place)).copied();
            let told = refusals.into_iter().map(|(place, refusal)| (about_of(place), refusal));
            judged(family, told.collect())
        }
        Err(BatchError::Failed(error)) => Err(error.into()),
        // A table that cannot be there was removed.
        Ok(()) => Err(OpenError::Unjudged),
    }
}

/// What follows from the refusals, each with what it is about: nothing, if it is the batch itself.
fn judged(family: Family, mut refusals: Vec<(Option<About>, Refusal)>) -> Result<Abilities, OpenError> {
    let is_needed = |(about, _): &(Option<About>, Refusal)| matches!(about, Some(About::Needed(_)) | None);
    if let Some(place) = refusals.iter().position(is_needed) {
        return Err(match refusals.swap_remove(place) {
            (_, refusal) if refusal.errno == Errno::PERM => OpenError::Permission,
            (Some(About::Needed(option)), source) => OpenError::Lacking { option, source },
            _ => OpenError::Missing(family),
        });
    }
    let is_refused = |about| refusals.iter().any(|(of, _)| *of == Some(about));
    // Who knows comments refuses one that is too long.
    let comments = if is_refused(About::Comments) { Ability::There } else { Ability::Missing };
    let ranges = if is_refused(About::Ranges) { Ability::Missing } else { Ability::There };
    Ok(Abilities { ranges, comments })
}

/// A message of each kind that a mode needs, with all its instructions.
fn questions(family: Family) -> Vec<Question> {
    let nat = About::Needed("CONFIG_NFT_NAT");
    let mut table = batch::new(kind::NEW_TABLE, flags::CREATE, family);
    table.text(wire::table::NAME, TABLE).be32(wire::table::FLAGS, DORMANT);
    let mut commented = batch::new(kind::NEW_TABLE, flags::CREATE, family);
    commented.text(wire::table::NAME, "fairlead-comment").be32(wire::table::FLAGS, DORMANT);
    commented.attribute(wire::table::USERDATA, &[0; TOO_LONG]);
    let tables = About::Needed("CONFIG_NF_TABLES_IPV4 and CONFIG_NF_TABLES_IPV6");
    let mut questions = vec![Question(table, tables), Question(commented, About::Comments)];
    let sets = [
        ("services", SetSpec::Written(KeyType::Socket, DataType::Verdict), About::Needed("CONFIG_NF_TABLES")),
        (
            "endpoints",
            SetSpec::Written(KeyType::SocketSlot, DataType::Endpoint),
            About::Needed("CONFIG_NF_TABLES"),
        ),
        ("sockets", SetSpec::Written(KeyType::Socket, DataType::Nothing), About::Needed("CONFIG_NF_TABLES")),
        ("clients", SetSpec::Remembered { timeout: 10 }, About::Needed("CONFIG_NF_TABLES")),
        ("ranges", SetSpec::Written(KeyType::SocketRange, DataType::Nothing), About::Ranges),
    ];
    for (id, (name, spec, about)) in (1..).zip(sets) {
        questions.push(Question(new_set(family, name, &spec, id), about));
    }
    let hooks = [
        ("prerouting", ChainKind::Nat, HookPoint::Prerouting),
        ("postrouting", ChainKind::Nat, HookPoint::Postrouting),
        ("forward", ChainKind::Filter, HookPoint::Forward),
    ];
    for (name, kind, at) in hooks {
        questions.push(Question(new_chain(family, name, Hook { kind, at, priority: 0 }), nat));
    }
    for (name, option, statements) in rules() {
        questions.push(Question(new_rule(family, name, &Rule::new(statements)), About::Needed(option)));
    }
    let mut end = batch::new(kind::DELETE_TABLE, flags::ACK, family);
    end.text(wire::table::NAME, "fairlead-nowhere");
    questions.push(Question(end, About::End));
    questions
}

/// In which chain, by which option of the kernel, and what.
fn rules() -> Vec<(&'static str, &'static str, Vec<Statement>)> {
    let socket = [Field::Destination, Field::Protocol, Field::Port];
    let original = [Field::OriginalDestination, Field::Protocol, Field::OriginalPort];
    let slot = [&socket[..], &[Field::Slot(2)]].concat();
    let tcp = Statement::Protocol(kernel_state::nft::Protocol::TCP);
    vec![
        ("prerouting", "CONFIG_NF_TABLES", vec![Statement::Vmap(socket.into(), "services".into())]),
        (
            "prerouting",
            "CONFIG_NFT_NUMGEN and CONFIG_NFT_NAT",
            vec![Statement::DnatByMap(slot.into(), "endpoints".into())],
        ),
        ("prerouting", "CONFIG_NFT_FIB_IPV4 and CONFIG_NFT_FIB_IPV6", vec![Statement::DestinationIsLocal]),
        ("prerouting", "CONFIG_NF_TABLES", vec![Statement::Remember("clients".into())]),
        ("postrouting", "CONFIG_NFT_MASQ", vec![Statement::Masquerade]),
        (
            "postrouting",
            "CONFIG_NFT_CT",
            vec![tcp, Statement::In(original.into(), Sense::Is, "sockets".into())],
        ),
        ("forward", "CONFIG_NFT_REJECT", vec![Statement::New, Statement::Reject]),
    ]
}

fn new_set(family: Family, name: &str, spec: &SetSpec, id: u32) -> Message {
    let mut message = batch::new(kind::NEW_SET, flags::CREATE, family);
    message.text(wire::set::TABLE, TABLE).text(wire::set::NAME, name);
    set::write(&mut message, family, spec, id);
    message
}

fn new_chain(family: Family, name: &str, hook: Hook) -> Message {
    let mut message = batch::new(kind::NEW_CHAIN, flags::CREATE, family);
    message.text(wire::chain::TABLE, TABLE).text(wire::chain::NAME, name);
    chain::write(&mut message, hook);
    message
}

fn new_rule(family: Family, chain: &str, of: &Rule) -> Message {
    let mut message = batch::new(kind::NEW_RULE, flags::CREATE | flags::APPEND, family);
    message.text(wire::rule::TABLE, TABLE).text(wire::rule::CHAIN, chain);
    rule::write(&mut message, family, of);
    message
}

#[cfg(test)]
mod tests;

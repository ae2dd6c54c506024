//! Reads the whole table, as it was at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kernel_state::nft::{
    Chain, Data, Family, Key, Name, Object, Rule, SetSpec, Statement, TABLE, Tuple, Value,
};
use rustix::io::Errno;

use super::chain::Hooked;
use super::wire::{self, kind};
use super::{Ability, Nft, OwnSet, batch, chain, rule, set, userdata};
use crate::netlink::{Attribute, Attributes, Malformed, NetlinkError, Reply, Socket};

/// How often a listing is begun again because the tables changed under it.
const READ_TRIES: usize = 8;

/// How long the kernel is left alone when it was met spreading a set over a larger table: some milliseconds' work.
const REORDER: Duration = Duration::from_millis(5);

/// The number of the last change of any table of the network namespace that the socket was opened in.
pub(crate) fn generation(socket: &mut Socket) -> Result<u32, NetlinkError> {
    let mut message = batch::new(kind::GET_GENERATION, 0, Family::Ip);
    let mut generation = 0;
    socket.query(&mut message, |reply| {
        let (_, attributes) = reply.split::<4>()?;
        if let Some(id) = attributes.find(wire::GENERATION_ID)? {
            generation = id.be32()?;
        }
        Ok(())
    })?;
    Ok(generation)
}

impl Nft {
    /// The number of the tables' last change, whoever made it.
    pub(super) fn generation(&mut self) -> Result<u32, NetlinkError> {
        generation(&mut self.socket)
    }

    /// All objects of the table, as they were at one moment.
    pub(super) fn objects(&mut self) -> Result<Vec<(Key, Value)>, NetlinkError> {
        self.watches.lock()[self.place].begin()?;
        for _ in 0..READ_TRIES {
            let before = self.generation()?;
            match self.objects_now() {
                Ok(objects) if self.generation()? == before => return Ok(objects),
                // What was there a moment ago is gone: somebody is at it.
                Ok(_) | Err(NetlinkError::Interrupted) => {}
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(NetlinkError::Interrupted)
    }

    fn objects_now(&mut self) -> Result<Vec<(Key, Value)>, NetlinkError> {
        let Some(comment) = self.comment()? else { return Ok(Vec::new()) };
        let is_lost = comment.is_empty() && self.layout.comments == Ability::Missing;
        let comment = if is_lost { self.layout.comment.into() } else { comment };
        let mut objects = vec![(self.key(Object::Table), Value::Table(comment.clone()))];
        if *comment != *self.layout.comment {
            return Ok(objects);
        }
        let sets = self.sets()?;
        for (name, spec) in &sets {
            let Some(own) = self.layout.own_set(name) else { continue };
            if *spec != SetSpec::Written(own.1, own.2) {
                // While rules refer to it, it cannot be replaced. With its table it can, and all at once.
                let comment = format!("its set {name} is of another kind");
                return Ok(vec![(self.key(Object::Table), Value::Table(comment.into()))]);
            }
            self.watches.lock()[self.place].know(own);
            self.elements(own, &mut objects)?;
        }
        for (name, spec) in sets {
            objects.push((self.key(Object::Set(name)), Value::Set(spec)));
        }
        self.chains(&mut objects)?;
        Ok(objects)
    }

    /// The table's comment, empty without one; nothing if there is no table.
    fn comment(&mut self) -> Result<Option<Arc<str>>, NetlinkError> {
        let mut message = batch::new(kind::GET_TABLE, 0, self.family);
        message.text(wire::table::NAME, TABLE);
        let mut comment: Arc<str> = "".into();
        let answer = self.socket.query(&mut message, |reply| {
            let (_, attributes) = reply.split::<4>()?;
            let found = attributes.find(wire::table::USERDATA)?;
            comment = found.and_then(|found| userdata::read_comment(found.payload)).unwrap_or_default();
            Ok(())
        });
        match answer {
            Ok(()) => Ok(Some(comment)),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sets(&mut self) -> Result<Vec<(Name, SetSpec)>, NetlinkError> {
        let family = self.family;
        let mut message = batch::new(kind::GET_SET, 0, family);
        message.text(wire::set::TABLE, TABLE);
        self.socket.dump_all(&mut message, |reply| {
            let Some(attributes) = in_our_table(&reply, wire::set::TABLE)? else { return Ok(None) };
            let Some(name) = attributes.find(wire::set::NAME)? else { return Ok(None) };
            Ok(Some((name.text()?.into(), set::read(family, &attributes)?)))
        })
    }

    /// A set's elements.
    ///
    /// The kernel spreads a set that grew over a larger table in the background, and changes no generation by it. A
    /// listing goes on by the count of elements that it told already, so when their order changes meanwhile it tells
    /// some again, and as many never. Those that are told twice give it away.
    fn elements(&mut self, own: OwnSet, objects: &mut Vec<(Key, Value)>) -> Result<(), NetlinkError> {
        for _ in 0..READ_TRIES {
            let mut told = self.elements_told(own)?;
            told.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            if told.array_windows().all(|[(one, _), (other, _)]| one != other) {
                let element = |tuple| Key { family: self.family, object: Object::Element(own.0, tuple) };
                objects.extend(told.into_iter().map(|(tuple, data)| (element(tuple), Value::Element(data))));
                return Ok(());
            }
            std::thread::sleep(REORDER);
        }
        Err(NetlinkError::Interrupted)
    }

    fn elements_told(&mut self, (name, key, data): OwnSet) -> Result<Vec<(Tuple, Data)>, NetlinkError> {
        let family = self.family;
        let mut message = batch::new(kind::GET_ELEMENT, 0, family);
        message.text(wire::element::TABLE, TABLE).text(wire::element::SET, name);
        let parts = self.socket.dump_all(&mut message, |reply| {
            let (_, attributes) = reply.split::<4>()?;
            let mut part = Vec::new();
            for item in attributes.find(wire::element::LIST)?.iter().flat_map(Attribute::nested) {
                part.extend(set::read_element(family, (key, data), &item?.nested())?);
            }
            Ok(Some(part))
        })?;
        Ok(parts.into_iter().flatten().collect())
    }

    fn chains(&mut self, objects: &mut Vec<(Key, Value)>) -> Result<(), NetlinkError> {
        let mut rules = self.rules(None)?;
        let mut message = batch::new(kind::GET_CHAIN, 0, self.family);
        message.text(wire::chain::TABLE, TABLE);
        let chains = self.socket.dump_all(&mut message, |reply| {
            let Some(attributes) = in_our_table(&reply, wire::chain::TABLE)? else { return Ok(None) };
            let Some(name) = attributes.find(wire::chain::NAME)? else { return Ok(None) };
            Ok(Some((Name::from(name.text()?), chain::read(&attributes)?)))
        })?;
        for (name, hooked) in chains {
            let rules = rules.remove(&name).unwrap_or_default();
            objects.push((self.key(Object::Chain(name)), whole_chain(hooked, rules)));
        }
        Ok(())
    }

    /// One chain as it is now; nothing if it is gone.
    pub(super) fn chain(&mut self, name: &Name) -> Result<Option<Value>, NetlinkError> {
        let mut message = batch::new(kind::GET_CHAIN, 0, self.family);
        message.text(wire::chain::TABLE, TABLE).text(wire::chain::NAME, name);
        let mut hooked = Hooked::Nowhere;
        let answer = self.socket.query(&mut message, |reply| {
            let (_, attributes) = reply.split::<4>()?;
            hooked = chain::read(&attributes)?;
            Ok(())
        });
        match answer {
            Ok(()) => {
                let rules = self.rules(Some(name))?.remove(name).unwrap_or_default();
                Ok(Some(whole_chain(hooked, rules)))
            }
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The rules of all chains, or of one.
    fn rules(&mut self, chain: Option<&str>) -> Result<BTreeMap<Name, Vec<Rule>>, NetlinkError> {
        let family = self.family;
        let mut message = batch::new(kind::GET_RULE, 0, family);
        message.text(wire::rule::TABLE, TABLE);
        if let Some(chain) = chain {
            message.text(wire::rule::CHAIN, chain);
        }
        let found = self.socket.dump_all(&mut message, |reply| {
            let Some(attributes) = in_our_table(&reply, wire::rule::TABLE)? else { return Ok(None) };
            let Some(chain) = attributes.find(wire::rule::CHAIN)? else { return Ok(None) };
            Ok(Some((Name::from(chain.text()?), rule::read(family, &attributes)?)))
        })?;
        let mut rules: BTreeMap<Name, Vec<Rule>> = BTreeMap::new();
        for (chain, rule) in found {
            rules.entry(chain).or_default().push(rule);
        }
        Ok(rules)
    }

    fn key(&self, object: Object) -> Key {
        Key { family: self.family, object }
    }
}

fn whole_chain(hooked: Hooked, mut rules: Vec<Rule>) -> Value {
    let hook = match hooked {
        Hooked::Nowhere => None,
        Hooked::At(hook) => Some(hook),
        Hooked::Strangely => {
            rules.push(Rule::new([Statement::Foreign]));
            None
        }
    };
    Value::Chain(Arc::new(Chain { hook, rules: rules.into() }))
}

/// A reply's attributes, if it is about our table: older kernels list all tables, whatever they are asked for.
fn in_our_table<'a>(reply: &Reply<'a>, table: u16) -> Result<Option<Attributes<'a>>, Malformed> {
    let (_, attributes) = reply.split::<4>()?;
    let ours = attributes.find(table)?.map(|name| name.text()).transpose()? == Some(TABLE);
    Ok(ours.then_some(attributes))
}

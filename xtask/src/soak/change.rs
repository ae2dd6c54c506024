//! The changes: one file at a time, at random, at a steady rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::world::{Affinity, Endpoint, Health, Policy, Service, World};

/// What is done to a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Grow,
    Shrink,
    Replace,
    FlipReady,
    Renew,
    FlipPolicy,
    FlipAffinity,
    Delete,
}

/// Each with its share of a hundred.
const DEEDS: [(Deed, usize); 8] = [
    (Deed::Grow, 20),
    (Deed::Shrink, 20),
    (Deed::Replace, 22),
    (Deed::FlipReady, 12),
    (Deed::Renew, 5),
    (Deed::FlipPolicy, 12),
    (Deed::FlipAffinity, 4),
    (Deed::Delete, 5),
];

/// Makes so many changes a second until told to stop.
pub(super) fn keep_changing(world: &Mutex<World>, rate: u32, stop: &AtomicBool) -> Result<()> {
    let pause = Duration::from_secs(1) / rate.max(1);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        world.lock().unwrap_or_else(PoisonError::into_inner).change_one()?;
        due += pause;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

impl World {
    fn change_one(&mut self) -> Result<()> {
        let slot = self.random.below(self.slots.len());
        match (self.slots[slot].service.is_some(), self.slots[slot].endpoints.is_some()) {
            (true, true) => self.deed(slot),
            // Of a Service that comes or goes, either file may be the first.
            (true, false) | (false, true) if self.random.percent(20) => self.go_on_deleting(slot),
            (false, true) => self.create_service(slot),
            (false, false) if self.random.percent(50) => self.create_service(slot),
            (true | false, false) => self.create_slice(slot),
        }
    }

    fn deed(&mut self, slot: usize) -> Result<()> {
        let mut dice = self.random.below(100);
        let deed = DEEDS.into_iter().find(|(_, share)| {
            let is_it = dice < *share;
            dice = dice.saturating_sub(*share);
            is_it
        });
        let deed = deed.map_or(Deed::Replace, |(deed, _)| deed);
        match deed {
            Deed::Delete => return self.delete_one_file(slot),
            Deed::FlipPolicy | Deed::FlipAffinity => {
                if let Some(service) = &mut self.slots[slot].service {
                    if deed == Deed::FlipAffinity {
                        service.affinity = service.affinity.other();
                    } else if self.random.percent(50) {
                        service.internal = Policy::random(&mut self.random);
                    } else {
                        service.external = Policy::random(&mut self.random);
                    }
                }
                return self.write_service(slot);
            }
            Deed::Grow | Deed::Shrink | Deed::Replace | Deed::FlipReady | Deed::Renew => {}
        }
        let random = &mut self.random;
        if let Some(pool) = &mut self.slots[slot].endpoints {
            change_pool(deed, pool, random);
        }
        self.write_slice(slot)
    }

    fn delete_one_file(&mut self, slot: usize) -> Result<()> {
        if self.random.percent(50) {
            self.slots[slot].service = None;
            self.write_service(slot)
        } else {
            self.slots[slot].endpoints = None;
            self.write_slice(slot)
        }
    }

    fn go_on_deleting(&mut self, slot: usize) -> Result<()> {
        let place = &mut self.slots[slot];
        if place.service.take().is_some() { self.write_service(slot) } else { self.drop_slice(slot) }
    }

    fn drop_slice(&mut self, slot: usize) -> Result<()> {
        self.slots[slot].endpoints = None;
        self.write_slice(slot)
    }

    fn create_service(&mut self, slot: usize) -> Result<()> {
        let number = u16::try_from(slot)?;
        self.slots[slot].service = Some(Service::random(&mut self.random, number));
        self.write_service(slot)
    }

    fn create_slice(&mut self, slot: usize) -> Result<()> {
        self.slots[slot].endpoints = Some(Endpoint::random_pool(&mut self.random));
        self.write_slice(slot)
    }
}

fn change_pool(deed: Deed, pool: &mut Vec<Endpoint>, random: &mut super::random::Random) {
    let place = random.below(pool.len());
    let fresh = Endpoint::random(random);
    let is_new = pool.iter().all(|endpoint| endpoint.ip != fresh.ip);
    match deed {
        Deed::Renew => *pool = Endpoint::random_pool(random),
        Deed::Shrink if !pool.is_empty() => drop(pool.remove(place)),
        Deed::Replace if !pool.is_empty() && is_new => pool[place] = fresh,
        Deed::FlipReady if !pool.is_empty() => {
            let endpoint = &mut pool[place];
            endpoint.health = match endpoint.health {
                Health::Ready => Health::Unready,
                Health::Unready => Health::Ready,
            };
        }
        Deed::Grow if is_new && pool.len() < 20 => pool.insert(place, fresh),
        Deed::Grow
        | Deed::Shrink
        | Deed::Replace
        | Deed::FlipReady
        | Deed::FlipPolicy
        | Deed::FlipAffinity
        | Deed::Delete => {}
    }
}

impl Affinity {
    fn other(self) -> Self {
        match self {
            Self::None => Self::Client,
            Self::Client => Self::None,
        }
    }
}

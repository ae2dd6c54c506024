//! Things by number. A number that is used again is told from before by its generation.

/// The number of a thing in a [`Slab`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

pub(crate) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// The number of the next thing that is put in.
    pub(crate) fn next(&mut self) -> Ticket {
        let index = if let Some(index) = self.free.last() {
            *index
        } else {
            let index = u32::try_from(self.places.len()).expect("there are fewer descriptors than that");
            self.places.push((0, None));
            self.free.push(index);
            index
        };
        Ticket { index, generation: self.places[at(index)].0 }
    }

    pub(crate) fn insert(&mut self, thing: T) -> Ticket {
        let ticket = self.next();
        self.free.pop();
        self.places[at(ticket.index)].1 = Some(thing);
        ticket
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        let (generation, thing) = self.places.get_mut(at(ticket.index))?;
        thing.as_mut().filter(|_| *generation == ticket.generation)
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        self.get_mut(ticket)?;
        let place = &mut self.places[at(ticket.index)];
        // A token has room for 30 bits.
        place.0 = (place.0 + 1) & 0x3fff_ffff;
        self.free.push(ticket.index);
        place.1.take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ticket, &T)> {
        let numbered = (0..).zip(&self.places);
        numbered.filter_map(|(index, (generation, thing))| {
            Some((Ticket { index, generation: *generation }, thing.as_ref()?))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn at(index: u32) -> usize {
    usize::try_from(index).expect("an index fits into memory")
}

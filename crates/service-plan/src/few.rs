//! A map that has one entry nearly always, of which there are as many as Services: a `BTreeMap` would take room for
//! eleven each time.

/// Entries by their keys, sorted.
#[derive(Debug)]
pub(crate) struct Few<K, V>(Vec<(K, V)>);

impl<K: Ord, V> Few<K, V> {
    /// Puts an entry in. Answers what was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.place(key).ok().map(|at| self.0.remove(at).1)
    }

    /// The first key.
    pub(crate) fn first(&self) -> Option<&K> {
        self.keys().next()
    }

    /// All keys, sorted.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// All values, by their keys.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::Few;

    #[test]
    fn entries_are_sorted_replaced_and_removed() {
        let mut few = Few::default();
        for (key, value) in [(3, 'c'), (1, 'a'), (2, 'b')] {
            assert_eq!(few.insert(key, value), None);
        }
        assert_eq!(few.insert(2, 'B'), Some('b'));
        assert_eq!(few.first(), Some(&1));
        assert_eq!(few.values().collect::<String>(), "aBc");
        assert_eq!((few.remove(&1), few.remove(&1)), (Some('a'), None));
        assert_eq!(few.keys().copied().collect::<Vec<_>>(), [2, 3]);
        few.remove(&2);
        few.remove(&3);
        assert!(few.is_empty());
    }
}

//! A map in the order of its keys: a list of short sorted lists.
//!
//! It takes the place of the standard library's trees and hash tables, whose code is made anew for
//! every pair of types: an app downloads this one many times smaller. A search halves the lists,
//! then one list; an insertion moves at most [`CHUNK_MAX`] entries. What is put at the end, as
//! numbers and imported records are, fills the lists to the brim.

use std::borrow::Borrow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::Bound;

/// Entries in one list: few enough to be moved for nothing, many enough for few lists.
const CHUNK_MAX: usize = 128;

/// The number of a list, and a place in it. The end is one list further, at 0.
type Place = (usize, usize);

/// Where a key would go that is not there: it need not be looked for again to be put there.
#[derive(Debug)]
pub struct Gap(Place);

/// Keys and values, in the order of the keys.
#[derive(Debug, Clone)]
pub struct Ordered<K, V> {
    /// None of them empty.
    chunks: Vec<Vec<(K, V)>>,
    len: usize,
    /// Where something was found last. The same key is mostly asked for several times, and then the next.
    finger: Cell<Place>,
}

/// Numbers (of mutations, of segments) and what is counted for each of them.
pub type Numbers = Ordered<u64, usize>;

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
            finger: Cell::default(),
        }
    }
}

impl<K: Ord, V> Ordered<K, V> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place of the first entry at or behind `key`; only behind it if `beyond`.
    fn place<Q: Ord + ?Sized>(&self, key: &Q, beyond: bool) -> Place
    where
        K: Borrow<Q>,
    {
        let before = |entry: &(K, V)| match entry.0.borrow().cmp(key) {
            Ordering::Less => true,
            Ordering::Equal => beyond,
            Ordering::Greater => false,
        };
        let ends_before = |chunk: &Vec<(K, V)>| chunk.last().is_some_and(before);
        // What is new mostly comes behind everything.
        if self.chunks.last().is_none_or(ends_before) {
            return (self.chunks.len(), 0);
        }
        let c = self.chunks.partition_point(ends_before);
        let chunk = self.chunks.get(c);
        (c, chunk.map_or(0, |chunk| chunk.partition_point(before)))
    }

    fn found<Q: Ord + ?Sized>(&self, key: &Q) -> Result<Place, Place>
    where
        K: Borrow<Q>,
    {
        let is_at = |(c, i): Place| {
            let entry = self.chunks.get(c).and_then(|chunk| chunk.get(i));
            entry.is_some_and(|entry| entry.0.borrow() == key)
        };
        let (c, i) = self.finger.get();
        let near = [(c, i), (c, i + 1)].into_iter().find(|place| is_at(*place));
        let place = near.unwrap_or_else(|| self.place(key, false));
        if near.is_none() && !is_at(place) {
            return Err(place);
        }
        self.finger.set(place);
        Ok(place)
    }

    /// The value at a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (c, i) = self.found(key).ok()?;
        Some(&self.chunks[c][i].1)
    }

    /// The same, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (c, i) = self.found(key).ok()?;
        Some(&mut self.chunks[c][i].1)
    }

    /// Whether there is such a key.
    #[must_use]
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.found(key).is_ok()
    }

    /// Where a key would go; none where it is there.
    pub fn gap<Q: Ord + ?Sized>(&self, key: &Q) -> Option<Gap>
    where
        K: Borrow<Q>,
    {
        self.found(key).err().map(Gap)
    }

    /// Puts a value at a key; answers what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.found(&key) {
            Ok((c, i)) => Some(std::mem::replace(&mut self.chunks[c][i].1, value)),
            Err(place) => {
                self.fill(Gap(place), key, value);
                None
            }
        }
    }

    /// Puts a value at a key where that one goes; nothing has changed since that was asked.
    pub fn fill(&mut self, Gap((mut c, mut i)): Gap, key: K, value: V) {
        self.len += 1;
        if c == self.chunks.len() {
            // Behind everything: the last list is filled before there is another one.
            match self.chunks.last() {
                Some(last) if last.len() < CHUNK_MAX => {
                    c -= 1;
                    i = last.len();
                }
                // One list more will be filled like those before it.
                Some(_) => self.chunks.push(Vec::with_capacity(CHUNK_MAX)),
                None => self.chunks.push(Vec::new()),
            }
        } else if self.chunks[c].len() >= CHUNK_MAX {
            let half = CHUNK_MAX / 2;
            let rest = self.chunks[c].split_off(half);
            self.chunks.insert(c + 1, rest);
            if i > half {
                (c, i) = (c + 1, i - half);
            }
        }
        self.chunks[c].insert(i, (key, value));
        self.finger.set((c, i));
    }

    /// Takes a key and its value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (c, i) = self.found(key).ok()?;
        self.len -= 1;
        let (_, value) = self.chunks[c].remove(i);
        let left = self.chunks[c].len();
        if left == 0 {
            self.chunks.remove(c);
        } else if let Some(next) = self.chunks.get(c + 1)
            && left + next.len() <= CHUNK_MAX / 2
        {
            let mut next = self.chunks.remove(c + 1);
            self.chunks[c].append(&mut next);
        }
        Some(value)
    }

    /// Everything.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter {
            chunks: &self.chunks,
            from: (0, 0),
            to: (self.chunks.len(), 0),
        }
    }

    /// What is between two bounds.
    #[must_use]
    pub fn range<Q: Ord + ?Sized>(&self, low: Bound<&Q>, high: Bound<&Q>) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let mut iter = self.iter();
        match low {
            Bound::Included(low) => iter.from = self.place(low, false),
            Bound::Excluded(low) => iter.from = self.place(low, true),
            Bound::Unbounded => {}
        }
        match high {
            Bound::Included(high) => iter.to = self.place(high, true),
            Bound::Excluded(high) => iter.to = self.place(high, false),
            Bound::Unbounded => {}
        }
        iter
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a Ordered<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Entries of an [`Ordered`], from both ends.
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    chunks: &'a [Vec<(K, V)>],
    from: Place,
    /// Behind the last one.
    to: Place,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.from >= self.to {
            return None;
        }
        let (c, i) = self.from;
        let chunk = &self.chunks[c];
        self.from = if i + 1 < chunk.len() {
            (c, i + 1)
        } else {
            (c + 1, 0)
        };
        let (key, value) = &chunk[i];
        Some((key, value))
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.from >= self.to {
            return None;
        }
        let (c, i) = self.to;
        let (c, i) = if i > 0 {
            (c, i - 1)
        } else {
            (c - 1, self.chunks[c - 1].len() - 1)
        };
        self.to = (c, i);
        let (key, value) = &self.chunks[c][i];
        Some((key, value))
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::{CHUNK_MAX, Ordered};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::ops::Bound;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u16, u8),
        Remove(u16),
        /// Takes everything from here to there out, one by one.
        Clear(u16, u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..1_000_u16;
        prop_oneof![
            8 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Step::Insert(k, v)),
            2 => key.clone().prop_map(Step::Remove),
            1 => (key.clone(), key).prop_map(|(a, b)| Step::Clear(a.min(b), a.max(b))),
        ]
    }

    fn bound() -> impl Strategy<Value = Bound<u16>> {
        prop_oneof![
            (0..1_000_u16).prop_map(Bound::Included),
            (0..1_000_u16).prop_map(Bound::Excluded),
            Just(Bound::Unbounded),
        ]
    }

    fn is_a_range(low: Bound<u16>, high: Bound<u16>) -> bool {
        match (low, high) {
            (Bound::Excluded(low), Bound::Excluded(high)) => low < high,
            (
                Bound::Included(low) | Bound::Excluded(low),
                Bound::Included(high) | Bound::Excluded(high),
            ) => low <= high,
            _ => true,
        }
    }

    fn is_sound(map: &Ordered<u16, u8>) {
        assert!(
            map.chunks
                .iter()
                .all(|c| !c.is_empty() && c.len() <= CHUNK_MAX)
        );
        assert_eq!(map.len(), map.iter().count());
    }

    proptest! {
        #[test]
        fn does_what_the_standard_map_does(
            start in 0..2_000_u16,
            steps in prop::collection::vec(step(), 0..300),
            (low, high) in (bound(), bound()),
        ) {
            let (mut ours, mut theirs) = (Ordered::default(), BTreeMap::new());
            for key in 0..start {
                prop_assert_eq!(ours.insert(key, 0), theirs.insert(key, 0));
            }
            for step in steps {
                match step {
                    Step::Insert(k, v) => prop_assert_eq!(ours.insert(k, v), theirs.insert(k, v)),
                    Step::Remove(k) => prop_assert_eq!(ours.remove(&k), theirs.remove(&k)),
                    Step::Clear(from, to) => {
                        for k in from..to {
                            prop_assert_eq!(ours.remove(&k), theirs.remove(&k));
                        }
                    }
                }
                is_sound(&ours);
            }
            prop_assert!(ours.iter().eq(theirs.iter()));
            prop_assert!(ours.iter().rev().eq(theirs.iter().rev()));
            for key in 0..2_000 {
                prop_assert_eq!(ours.get(&key), theirs.get(&key));
            }
            let mut found = ours.range(low.as_ref(), high.as_ref());
            if is_a_range(low, high) {
                prop_assert!(found.eq(theirs.range((low, high))));
                let found = ours.range(low.as_ref(), high.as_ref());
                prop_assert!(found.rev().eq(theirs.range((low, high)).rev()));
            } else {
                prop_assert_eq!(found.next(), None);
                prop_assert_eq!(found.next_back(), None);
            }
        }
    }

    #[test]
    fn meets_in_the_middle_from_both_ends() {
        let mut map = Ordered::default();
        for key in 0..500_u32 {
            map.insert(key, key);
        }
        let mut iter = map.iter();
        let mut seen = 0;
        while let Some((first, _)) = iter.next() {
            seen += 1;
            if let Some((last, _)) = iter.next_back() {
                assert!(first < last);
                seen += 1;
            }
        }
        assert_eq!(seen, 500);
    }

    #[test]
    fn what_comes_in_order_fills_its_lists() {
        let mut map = Ordered::default();
        for key in 0..10 * CHUNK_MAX {
            map.insert(key, ());
        }
        assert_eq!(map.chunks.len(), 10);
    }
}

//! A map in the order of its keys: a list of short sorted lists.
//!
//! It takes the place of the standard library's trees and hash tables, whose code is made anew for
//! every pair of types: an app downloads this one many times smaller. A search halves the lists,
//! then one list; an insertion moves at most [`CHUNK_MAX`] entries. What is put at the end, as
//! numbers and imported records are, fills the lists to the brim.

mod lists;
#[cfg(all(test, not(target_family = "wasm")))]
mod tests;

use std::any::Any;
use std::borrow::Borrow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ops::{Bound, Range};
use std::rc::Rc;

pub use lists::{Lazy, List};

/// Entries in one list: few enough to be moved for nothing, many enough for few lists.
const CHUNK_MAX: usize = 128;

/// The number of a list, and a place in it. The end is one list further, at 0.
type Place = (usize, usize);

/// Where a key would go that is not there: it need not be looked for again to be put there.
#[derive(Debug)]
pub struct Gap(Place);

/// Keys and values, in the order of the keys.
#[derive(Debug, Clone)]
pub struct Ordered<K, V, L = Vec<(K, V)>> {
    /// None of them empty.
    chunks: Vec<L>,
    len: usize,
    /// Where something was found last. The same key is mostly asked for several times, and then the next.
    finger: Cell<Place>,
    of: PhantomData<(K, V)>,
}

/// The same, of entries that may be made when somebody looks at them.
pub type LazilyOrdered<K, V> = Ordered<K, V, Lazy<K, V>>;

/// Numbers (of mutations, of segments) and what is counted for each of them.
pub type Numbers = Ordered<u64, usize>;

impl<K, V, L> Default for Ordered<K, V, L> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
            finger: Cell::default(),
            of: PhantomData,
        }
    }
}

impl<K: Ord, V, L: List<K, V>> Ordered<K, V, L> {
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
        let before = |at: &K| match at.borrow().cmp(key) {
            Ordering::Less => true,
            Ordering::Equal => beyond,
            Ordering::Greater => false,
        };
        let ends_before = |chunk: &L| chunk.last().is_some_and(before);
        // What is new mostly comes behind everything.
        if self.chunks.last().is_none_or(ends_before) {
            return (self.chunks.len(), 0);
        }
        let c = self.chunks.partition_point(ends_before);
        let inside = self.chunks.get(c).filter(|chunk| {
            // Nothing is made to find that it comes later.
            chunk.first().is_some_and(before)
        });
        let i = inside.map_or(0, |chunk| chunk.entries().partition_point(|e| before(&e.0)));
        (c, i)
    }

    fn found<Q: Ord + ?Sized>(&self, key: &Q) -> Result<Place, Place>
    where
        K: Borrow<Q>,
    {
        let at = |(c, i): Place| self.chunks.get(c)?.made()?.get(i);
        let is_near = |place: Place| at(place).is_some_and(|entry| entry.0.borrow() == key);
        let (c, i) = self.finger.get();
        let near = [(c, i), (c, i + 1)]
            .into_iter()
            .find(|place| is_near(*place));
        let place = near.unwrap_or_else(|| self.place(key, false));
        if near.is_none() && !self.is_at(place, key) {
            return Err(place);
        }
        self.finger.set(place);
        Ok(place)
    }

    fn is_at<Q: Ord + ?Sized>(&self, (c, i): Place, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let Some(chunk) = self.chunks.get(c) else {
            return false;
        };
        let found = match i {
            0 => chunk.first(),
            i => chunk.entries().get(i).map(|entry| &entry.0),
        };
        found.is_some_and(|found| found.borrow() == key)
    }

    /// The value at a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (c, i) = self.found(key).ok()?;
        Some(&self.chunks[c].entries()[i].1)
    }

    /// The same, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (c, i) = self.found(key).ok()?;
        Some(&mut self.chunks[c].entries_mut()[i].1)
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
            Ok((c, i)) => {
                let there = &mut self.chunks[c].entries_mut()[i].1;
                Some(std::mem::replace(there, value))
            }
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
                Some(last) if last.count() < CHUNK_MAX => {
                    c -= 1;
                    i = last.count();
                }
                // One list more will be filled like those before it.
                Some(_) => self.chunks.push(Vec::with_capacity(CHUNK_MAX).into()),
                None => self.chunks.push(Vec::new().into()),
            }
        } else if self.chunks[c].count() >= CHUNK_MAX {
            let half = CHUNK_MAX / 2;
            let rest = self.chunks[c].entries_mut().split_off(half);
            self.chunks.insert(c + 1, rest.into());
            if i > half {
                (c, i) = (c + 1, i - half);
            }
        }
        self.chunks[c].entries_mut().insert(i, (key, value));
        self.finger.set((c, i));
    }

    /// Takes a key and its value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (c, i) = self.found(key).ok()?;
        self.len -= 1;
        let (_, value) = self.chunks[c].entries_mut().remove(i);
        let left = self.chunks[c].count();
        if left == 0 {
            self.chunks.remove(c);
        } else if let Some(next) = self.chunks.get(c + 1)
            && left + next.count() <= CHUNK_MAX / 2
        {
            let mut next = self.chunks.remove(c + 1);
            self.chunks[c].entries_mut().append(next.entries_mut());
        }
        Some(value)
    }

    /// Everything.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V, L> {
        Iter {
            chunks: &self.chunks,
            from: (0, 0),
            to: (self.chunks.len(), 0),
            of: PhantomData,
        }
    }

    /// What is between two bounds.
    #[must_use]
    pub fn range<Q: Ord + ?Sized>(&self, low: Bound<&Q>, high: Bound<&Q>) -> Iter<'_, K, V, L>
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

impl<K: Ord + 'static, V: 'static> LazilyOrdered<K, V> {
    /// Whether what is between these keys, they included, goes between two lists.
    pub fn has_room(&self, first: &K, last: &K) -> bool {
        let next = self.chunks.get(self.list_of(first));
        next.and_then(|next| next.first())
            .is_none_or(|next| next > last)
    }

    /// What a key's entry would be made of, with the part of it in which the key must be, if it is
    /// there at all and was not made yet.
    pub fn unmade<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&dyn Any, Range<usize>)>
    where
        K: Borrow<Q>,
    {
        self.chunks.get(self.list_of(key))?.unmade()
    }

    /// All lists in order: what their entries would be made of, or the entries.
    #[allow(clippy::type_complexity, reason = "one use")]
    pub fn lists(&self) -> impl Iterator<Item = Result<&[(K, V)], (&dyn Any, Range<usize>)>> {
        self.chunks.iter().map(|chunk| match chunk.unmade() {
            Some(unmade) => Err(unmade),
            None => Ok(chunk.entries().as_slice()),
        })
    }

    /// All lists in order as they are.
    pub fn chunks(&self) -> impl Iterator<Item = &Lazy<K, V>> {
        self.chunks.iter()
    }

    /// The list in which a key must be, if it is there at all.
    pub fn chunk<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Lazy<K, V>>
    where
        K: Borrow<Q>,
    {
        self.chunks.get(self.list_of(key))
    }

    fn list_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let ends_before = |chunk: &Lazy<K, V>| chunk.last().is_some_and(|k| k.borrow() < key);
        self.chunks.partition_point(ends_before)
    }

    /// Adds `len` entries between two lists where there is room for them, out of something that has them
    /// in another form. `key` tells the key of one of them; `make` makes one when somebody looks at it,
    /// or at one near it.
    pub fn add_lazily(
        &mut self,
        of: &Rc<dyn Any>,
        len: usize,
        key: impl Fn(usize) -> K,
        make: impl Fn(usize) -> (K, V) + 'static,
    ) {
        if len == 0 {
            return;
        }
        let make = Rc::new(make);
        let starts = (0..len).step_by(CHUNK_MAX);
        let chunks = starts.map(|from| {
            let to = (from + CHUNK_MAX).min(len);
            let ends = (key(from), key(to - 1));
            Lazy::new(of.clone(), from..to, ends, make.clone())
        });
        let at = self.list_of(&key(0));
        self.chunks.splice(at..at, chunks);
        self.len += len;
    }
}

impl<'a, K: Ord, V, L: List<K, V>> IntoIterator for &'a Ordered<K, V, L> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V, L>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Entries of an [`Ordered`], from both ends.
#[derive(Debug)]
pub struct Iter<'a, K, V, L = Vec<(K, V)>> {
    chunks: &'a [L],
    from: Place,
    /// Behind the last one.
    to: Place,
    of: PhantomData<(K, V)>,
}

impl<'a, K: 'a, V: 'a, L: List<K, V>> Iterator for Iter<'a, K, V, L> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.from >= self.to {
            return None;
        }
        let (c, i) = self.from;
        let chunk = self.chunks[c].entries();
        self.from = if i + 1 < chunk.len() {
            (c, i + 1)
        } else {
            (c + 1, 0)
        };
        let (key, value) = &chunk[i];
        Some((key, value))
    }
}

impl<'a, K: 'a, V: 'a, L: List<K, V>> DoubleEndedIterator for Iter<'a, K, V, L> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.from >= self.to {
            return None;
        }
        let (c, i) = self.to;
        let (c, i) = if i > 0 {
            (c, i - 1)
        } else {
            (c - 1, self.chunks[c - 1].count() - 1)
        };
        self.to = (c, i);
        let (key, value) = &self.chunks[c].entries()[i];
        Some((key, value))
    }
}

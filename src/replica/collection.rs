//! The records of one collection, in the order of their keys, with their indexes.

use super::index::{Index, Query};
use super::runs::{self, OrPart, Part, Placed};
use crate::error::{Code, Error, Result};
use crate::model::{Key, MutationNo, Version};
use crate::options::CollectionSpec;
use crate::ordered::{Gap, LazilyOrdered, Ordered};
use crate::store::SegmentId;
use crate::value::Value;
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

/// A record and what landfall knows about it.
#[derive(Debug, Clone)]
pub struct Record<V> {
    /// What the app sees; none for a deleted record.
    pub value: Option<V>,
    /// The backend's version; 0 where it has never seen the record.
    pub version: Version,
    /// Queued changes of this record.
    pub pending: Option<Box<Pending<V>>>,
    /// Set where the record is local-only; it has no queued changes then.
    pub local: Option<Box<Aside<V>>>,
    /// The segment that says all this; 0 where it is in the log.
    pub home: SegmentId,
}

/// What a local-only record hides.
#[derive(Debug, Clone)]
pub struct Aside<V> {
    /// What the backend has.
    pub shadow: Option<V>,
}

impl<V> Record<V> {
    /// What the backend has, whatever shows.
    #[must_use]
    pub fn remote(&self) -> Option<&V> {
        match (&self.pending, &self.local) {
            (Some(pending), _) => pending.shadow.as_ref(),
            (None, Some(aside)) => aside.shadow.as_ref(),
            (None, None) => self.value.as_ref(),
        }
    }

    /// Whether nothing at all is known.
    pub(super) fn is_blank(&self) -> bool {
        self.value.is_none()
            && self.version == Version(0)
            && self.pending.is_none()
            && self.local.is_none()
    }
}

impl<V> Default for Record<V> {
    fn default() -> Self {
        Self {
            value: None,
            version: Version(0),
            pending: None,
            local: None,
            home: 0,
        }
    }
}

/// The queued changes of one record: never more than one that may be in flight, and one behind it.
#[derive(Debug, Clone)]
pub struct Pending<V> {
    /// What the backend has.
    pub shadow: Option<V>,
    /// The first mutation.
    pub head: MutationNo,
    /// The one behind it.
    pub tail: Option<MutationNo>,
}

/// One collection. A deleted record stays as a version without a value, so that a page pulled
/// before the deletion cannot bring it back.
#[derive(Debug)]
pub struct Collection<V> {
    /// What the app declared.
    pub spec: CollectionSpec,
    /// Whether it did; otherwise it is kept for a version of the app that does.
    pub declared: bool,
    records: LazilyOrdered<Key, Record<V>>,
    visible: usize,
    /// Keys that stand for others: see [`super::rekey`].
    pub(super) aliases: Ordered<Key, Key>,
    indexes: RefCell<Vec<Option<Index>>>,
}

impl<V: Value> Collection<V> {
    /// An empty collection.
    #[must_use]
    pub fn new(spec: CollectionSpec, declared: bool) -> Self {
        let indexes = RefCell::new(spec.indexes.iter().map(|_| None).collect());
        Self {
            spec,
            declared,
            records: LazilyOrdered::default(),
            visible: 0,
            aliases: Ordered::default(),
            indexes,
        }
    }

    /// Records that the app can see.
    #[must_use]
    pub fn count(&self) -> usize {
        self.visible
    }

    /// What is known of a key.
    #[must_use]
    pub fn record(&self, key: &str) -> Option<&Record<V>> {
        self.records.get(key)
    }

    /// What the app sees at a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&V> {
        // Looking at a record is not enough to make it.
        if let Some((of, part)) = self.records.unmade(key)
            && let Some(Placed { run, .. }) = of.downcast_ref()
        {
            return run.values[run.keys.find(key, part)?].as_ref();
        }
        self.records.get(key)?.value.as_ref()
    }

    /// Whether somebody has looked at a record closely enough to make it.
    #[cfg(all(test, not(target_family = "wasm")))]
    pub(super) fn is_made(&self, key: &str) -> bool {
        self.records.unmade(key).is_none()
    }

    /// Contents of all that the app sees, in the order of the keys.
    pub fn each(&self, visit: &mut dyn FnMut(&V)) {
        for list in self.records.lists() {
            match list {
                Ok(made) => made
                    .iter()
                    .for_each(|(_, r)| r.value.iter().for_each(&mut *visit)),
                Err((of, part)) => {
                    let of = of.downcast_ref::<Placed<V>>();
                    let values = of.map(|of| &of.run.values[part]);
                    let values = values.unwrap_or_default().iter();
                    values.flatten().for_each(&mut *visit);
                }
            }
        }
    }

    /// Moves a record to a segment, if `unchanged` says so: its content stays what it is.
    pub(super) fn rehome(
        &mut self,
        key: &str,
        segment: SegmentId,
        unchanged: impl FnOnce(&mut Record<V>) -> bool,
    ) {
        if let Some(record) = self.records.get_mut(key)
            && unchanged(record)
        {
            record.home = segment;
        }
    }

    /// Everything the app sees, in the order of the keys.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = (&Key, &V)> {
        self.records
            .iter()
            .filter_map(|(k, r)| Some((k, r.value.as_ref()?)))
    }

    /// Everything that is known, visible or not, in the order of the keys.
    pub fn records(&self) -> impl Iterator<Item = (&Key, &Record<V>)> {
        self.records.iter()
    }

    /// The same by lists: of those that came in a run and have not changed, the run and which part of it.
    pub(super) fn lists(&self) -> impl Iterator<Item = OrPart<'_, Key, Record<V>, V>> {
        self.records.chunks().map(runs::changed_or_part)
    }

    /// Whether exactly these records came together, and have not changed.
    pub(super) fn has_part(&self, part: &Part<'_, V>) -> bool {
        let first = part.placed.run.keys.get(part.range.start);
        let there = first.and_then(|key| self.records.chunk(key));
        there.is_some_and(|there| Part::of(there).is_some_and(|there| there.is(part)))
    }

    /// Replaces what is known of a key; answers what was known.
    pub(super) fn set(&mut self, key: &Key, record: Option<Record<V>>) -> Option<Record<V>> {
        let had = self.records.get(key).is_some_and(|r| r.value.is_some());
        let value = record.as_ref().and_then(|r| r.value.as_ref());
        self.visible = self.visible - usize::from(had) + usize::from(value.is_some());
        for index in self.indexes.get_mut().iter_mut().flatten() {
            index.remove(key);
        }
        if let Some(value) = value {
            self.index(key, value);
        }
        match record.filter(|r| !r.is_blank()) {
            Some(record) => self.records.insert(key.clone(), record),
            None => self.records.remove(key),
        }
    }

    /// Where a record of this key would go, if nothing is known of it.
    pub(super) fn gap(&self, key: &str) -> Option<Gap> {
        self.records.gap(key)
    }

    /// Adds what is known of a key that nothing was known of.
    pub(super) fn add(&mut self, gap: Gap, key: &Key, record: Record<V>) {
        if let Some(value) = &record.value {
            self.visible += 1;
            self.index(key, value);
        }
        self.records.fill(gap, key.clone(), record);
    }

    /// Whether nothing is known of any key between these, they included.
    pub(super) fn has_room(&self, first: &Key, last: &Key) -> bool {
        self.records.has_room(first, last)
    }

    /// Adds what a run says of records that there is room for; `make` makes one of them.
    pub(super) fn add_run(
        &mut self,
        placed: &Rc<Placed<V>>,
        make: impl Fn(usize) -> (Key, Record<V>) + 'static,
    ) {
        let run = placed.run.clone();
        self.visible += run.values.iter().flatten().count();
        // Built again when they are asked for.
        self.indexes
            .get_mut()
            .iter_mut()
            .for_each(|slot| *slot = None);
        let of: Rc<dyn Any> = placed.clone();
        let key = |at| run.key(at);
        self.records.add_lazily(&of, run.values.len(), key, make);
    }

    fn index(&mut self, key: &Key, value: &V) {
        for (slot, fields) in self.indexes.get_mut().iter_mut().zip(&self.spec.indexes) {
            match slot {
                Some(index) if value.is_resident() => index.insert(fields, key, value),
                // Built again when it is asked for.
                slot => *slot = None,
            }
        }
    }

    /// Contents that have to be in memory before a query on this index can be answered.
    #[must_use]
    pub fn missing_for(&self, index: Option<&Vec<Rc<str>>>) -> Vec<V> {
        let at = self.spec.indexes.iter().position(|i| Some(i) == index);
        let built = at.is_none_or(|at| self.indexes.borrow()[at].is_some());
        if built {
            return Vec::new();
        }
        let mut missing = Vec::new();
        self.each(&mut |value| missing.extend((!value.is_resident()).then(|| value.clone())));
        missing
    }

    /// The keys a query selects, in its order.
    ///
    /// # Errors
    /// `unknown-index` where the index was not declared.
    pub fn find(&self, query: &Query) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        self.visit(query, &mut |key| keys.push(key.clone()))?;
        Ok(keys)
    }

    /// How many records a query selects.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn count_of(&self, query: &Query) -> Result<usize> {
        let mut count = 0;
        self.visit(query, &mut |_| count += 1)?;
        Ok(count)
    }

    fn visit(&self, query: &Query, visit: &mut dyn FnMut(&Key)) -> Result<()> {
        let Some(fields) = &query.index else {
            self.scan(query, visit);
            return Ok(());
        };
        let found = self.spec.indexes.iter().position(|i| i == fields);
        let at = found.ok_or_else(|| {
            let (name, index) = (&self.spec.name, fields.join(", "));
            Error::new(
                Code::UnknownIndex,
                format!("{name} has no index on {index}"),
            )
        })?;
        let mut indexes = self.indexes.borrow_mut();
        let index = indexes[at].get_or_insert_with(|| {
            // Built on first use: an app that never asks pays nothing.
            let mut index = Index::default();
            for (key, value) in self.all() {
                index.insert(fields, key, value);
            }
            index
        });
        index.select(query, visit);
        Ok(())
    }

    fn scan(&self, query: &Query, visit: &mut dyn FnMut(&Key)) {
        let (low, high) = query.key_range();
        let (low, high) = (low.as_ref(), high.as_ref());
        let hits = self
            .records
            .range(low.map(|(_, key)| key), high.map(|(_, key)| key))
            .filter(|(_, r)| r.value.is_some())
            .map(|(k, _)| k);
        query.cut(&mut { hits }, visit);
    }
}

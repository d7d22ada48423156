//! Facts of one kind that were stored together: one thing in memory until somebody looks at a part of it.

use super::Fact;
use crate::model::{Action, Key, MutationNo, Name, Version};
use crate::shown::{Names, Shown};
use std::cmp::Ordering;
use std::ops::Range;
use std::rc::Rc;

/// Keys of many records in one text.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    joined: Box<str>,
    /// Where each of them ends in the text; a U+0000 follows.
    ends: Vec<u32>,
}

impl Keys {
    /// Of a text in which a U+0000 follows each key.
    #[must_use]
    pub fn new(joined: &str) -> Self {
        let bytes = joined.bytes().zip(0..);
        let ends = bytes.filter(|(byte, _)| *byte == 0).map(|(_, at)| at);
        Self {
            ends: ends.collect(),
            joined: joined.into(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)?;
        let start = match at {
            0 => 0,
            at => self.ends[at - 1] + 1,
        };
        self.joined.get(start as usize..end as usize)
    }

    /// Where a key is in a part of them that is in order.
    #[must_use]
    pub fn find(&self, key: &str, part: Range<usize>) -> Option<usize> {
        let (mut low, mut high) = (part.start, part.end);
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle)?.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

/// What a run says of its records.
#[derive(Debug, Clone)]
pub enum Said {
    /// As [`Fact::Queued`]: a mutation for each, with numbers that follow each other.
    Queued {
        /// The first one's number.
        first: MutationNo,
        /// What each of them does.
        action: Action,
        /// Fields changed by updates.
        changed: Option<Names>,
    },
    /// As [`Fact::Remote`]: the backend's version of each.
    Remote(Vec<Version>),
}

/// Many facts of one kind about records of one collection.
#[derive(Debug)]
pub struct Run<V> {
    /// The collection.
    pub collection: Name,
    /// The records' keys.
    pub keys: Rc<Keys>,
    /// The records: as many as there are keys. None is a tombstone, and never queued.
    pub values: Vec<Option<V>>,
    /// What is said of them.
    pub said: Said,
}

impl<V: Clone> Run<V> {
    /// A record's key.
    #[must_use]
    pub fn key(&self, at: usize) -> Key {
        self.keys.get(at).unwrap_or_default().into()
    }

    /// What it says of one record.
    #[must_use]
    pub fn fact(&self, at: usize) -> Fact<V> {
        let (collection, key) = (self.collection.clone(), self.key(at));
        let value = self.values.get(at).cloned().flatten();
        match &self.said {
            Said::Queued {
                first,
                action,
                changed,
            } => Fact::Queued {
                no: first + at as u64,
                replaces: None,
                collection,
                key,
                action: *action,
                value,
                shows: Shown::Own,
                changed: changed.clone(),
                group: None,
                origin: None,
            },
            Said::Remote(versions) => Fact::Remote {
                collection,
                key,
                value,
                version: versions.get(at).copied().unwrap_or_default(),
            },
        }
    }
}

/// Facts, one by one.
#[must_use]
pub fn singles<V: Clone>(facts: &[Fact<V>]) -> Vec<Fact<V>> {
    let mut all = Vec::with_capacity(facts.len());
    for fact in facts {
        match fact {
            Fact::Run(run) => all.extend((0..run.values.len()).map(|at| run.fact(at))),
            single => all.push(single.clone()),
        }
    }
    all
}

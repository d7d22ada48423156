//! Facts of one kind that were stored together: one thing in memory until somebody looks at a part of it.

use super::Fact;
use crate::hlc::Hlc;
use crate::model::{Action, Held, Key, Mutation, MutationNo, MutationState, Name, Version};
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
    /// A mutation for each.
    Queued(Queued),
    /// As [`Fact::Remote`]: the backend's version of each.
    Remote(Vec<Version>),
}

/// Mutations that do the same.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Which they are.
    pub made: Made,
    /// What each of them does.
    pub action: Action,
    /// Fields changed by updates.
    pub changed: Option<Names>,
    /// They may have reached the backend.
    pub sent: bool,
}

/// Numbers of mutations, and when they were made.
#[derive(Debug, Clone)]
pub enum Made {
    /// As [`Fact::Queued`]: made with their entry, numbered from this one on.
    Here(MutationNo),
    /// As [`Fact::Held`], one for each record, of records that the backend does not have as far as is known.
    Before(Rc<[MadeAt]>),
}

/// A mutation's number, and when it was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MadeAt {
    /// Its number.
    pub no: MutationNo,
    /// When the newest change in it was made.
    pub at: Hlc,
    /// When it was queued, ms since 1970.
    pub created_ms: f64,
}

impl Queued {
    /// Whether it tells of so many.
    #[must_use]
    pub fn is_of(&self, count: usize) -> bool {
        match &self.made {
            Made::Here(_) => true,
            Made::Before(all) => all.len() == count,
        }
    }

    /// A mutation's number.
    #[must_use]
    pub fn no(&self, at: usize) -> MutationNo {
        match &self.made {
            Made::Here(first) => first + at as u64,
            Made::Before(all) => all[at].no,
        }
    }

    /// A mutation's number, and when it was made; `at_ms` and `hlc` are those of the entry.
    #[must_use]
    pub fn made_at(&self, at: usize, at_ms: f64, hlc: Hlc) -> MadeAt {
        match &self.made {
            Made::Here(first) => MadeAt {
                no: first + at as u64,
                at: hlc,
                created_ms: at_ms,
            },
            Made::Before(all) => all[at],
        }
    }

    /// A mutation of a run with it, on a record of which nothing else is known; `at_ms` and `hlc` are
    /// those of the entry.
    #[must_use]
    pub fn mutation<V: Clone>(&self, run: &Run<V>, at: usize, at_ms: f64, hlc: Hlc) -> Mutation<V> {
        let MadeAt {
            no,
            at: made_at,
            created_ms,
        } = self.made_at(at, at_ms, hlc);
        Mutation {
            no,
            collection: run.collection.clone(),
            key: run.key(at),
            action: self.action,
            value: run.values[at].clone(),
            shows: Shown::Own,
            changed: self.changed.clone(),
            base_version: Version(0),
            base: None,
            priority: 0,
            behind: false,
            at: made_at,
            created_ms,
            sent: self.sent,
            state: MutationState::Pending,
            attempts: 0,
            last_attempt_ms: None,
            next_attempt_ms: None,
            error: None,
            group: None,
            origin: None,
        }
    }
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
            Said::Queued(queued) => match queued.made {
                Made::Here(_) => Fact::Queued {
                    no: queued.no(at),
                    replaces: None,
                    collection,
                    key,
                    action: queued.action,
                    value,
                    shows: Shown::Own,
                    changed: queued.changed.clone(),
                    group: None,
                    origin: None,
                },
                Made::Before(_) => Fact::Held(Box::new(Held {
                    mutation: queued.mutation(self, at, 0.0, Hlc::default()),
                    shadow: None,
                    version: Version(0),
                    confirmed: None,
                })),
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

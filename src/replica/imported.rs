//! What the backend's answers mean for mutations that came from elsewhere: from a rescue copy or a backup.
//!
//! Such a mutation keeps its id on the wire, and the database that it was made in may have rewritten and
//! sent it after the copy was made. The backend answers a repeat with the first result, so "success" says
//! that something arrived under this id, not that it was what is here. So the record keeps its version from
//! before, and the page that has the new one tells what is there. What is written in between meets a
//! conflict, which is none where it is with what was just confirmed.

use super::Replica;
use crate::model::{Key, Mutation, Name, Version};
use crate::ordered::Ordered;
use crate::store::{Fact, Gone};
use crate::value::Value;
use std::rc::Rc;

#[derive(Debug, Default)]
pub(super) struct Imported {
    /// Confirmed records whose version no page has brought yet, with the clock reading of what is here of
    /// them. The log tells of them, a compaction does not: whoever starts again after one in between meets
    /// conflicts.
    confirmed: Ordered<(Name, Key), String>,
    /// Who has made what came.
    authors: Vec<Rc<str>>,
}

impl<V: Value> Replica<V> {
    /// What follows from the success of a mutation that has nothing behind it.
    pub(super) fn answer_to_imported(&self, m: &Mutation<V>, version: Version) -> Fact<V> {
        let record = self
            .collection(&m.collection)
            .and_then(|c| c.record(&m.key));
        let known = record.map_or(Version(0), |r| r.version);
        if version > Version(0) && known >= version {
            // A page has brought what is there.
            let (no, why) = (m.no, Gone::Same);
            return Fact::Cancelled { no, why };
        }
        Fact::Acked {
            no: m.no,
            version: known.min(version),
            value: None,
        }
    }

    /// A mutation came.
    pub(super) fn note_author(&mut self, m: &Mutation<V>) {
        let author = m.author(&self.client);
        if !self.is_by_us(author) {
            self.imported.authors.push(author.into());
        }
    }

    /// Whether a clock reading is of this client, or of one that has made what came.
    pub(super) fn is_by_us(&self, at: &str) -> bool {
        let mut all = std::iter::once(&self.client).chain(&self.imported.authors);
        all.any(|author| at.ends_with(&**author))
    }

    /// A mutation was confirmed without the version that the backend has now.
    pub(super) fn note_imported(&mut self, m: &Mutation<V>) {
        let place = (m.collection.clone(), m.key.clone());
        self.imported
            .confirmed
            .insert(place, m.at_text(&self.client));
    }

    /// Whether a conflict is with what was confirmed here: then there is only a newer version.
    pub(super) fn was_imported(&self, m: &Mutation<V>, remote_at: Option<&Rc<str>>) -> bool {
        let place = (m.collection.clone(), m.key.clone());
        let here = self.imported.confirmed.get(&place);
        here.is_some_and(|at| remote_at.is_some_and(|remote| **remote == **at))
    }

    /// The backend has told what it has, and nothing is queued on what was here before.
    pub(super) fn end_import(&mut self, collection: &Name, key: &Key) {
        if !self.imported.confirmed.is_empty() {
            self.imported
                .confirmed
                .remove(&(collection.clone(), key.clone()));
        }
    }
}

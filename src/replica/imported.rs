//! What the backend's answers mean for mutations that came from elsewhere: from a rescue copy or a backup.
//!
//! Such a mutation keeps its id on the wire, and the database that it was made in may have rewritten and
//! sent it after the copy was made. The backend answers a repeat with the first result, so "success" says
//! that something arrived under this id, not that it was what is here. So the record keeps its version from
//! before, and the page that has the new one tells what is there. What is written in between meets a
//! conflict, which is none where it is with what was just confirmed. What was written before it was confirmed
//! is sent on top of it; the success of that says as little of the rest of the record, and until a page has
//! told, one of the same version is listened to.

use super::{Replica, Step};
use crate::hlc::Hlc;
use crate::model::{Confirmed, Key, Mutation, MutationNo, Name, Pulled, Version};
use crate::ordered::Ordered;
use crate::store::{Fact, Gone};
use crate::value::Value;
use std::rc::Rc;

#[derive(Debug, Default)]
pub(super) struct Imported {
    /// Confirmed records of which no page has told yet.
    confirmed: Ordered<(Name, Key), Confirmed>,
    /// Who has made what came.
    authors: Vec<Rc<str>>,
}

impl<V: Value> Replica<V> {
    /// Whether the success of a mutation does not say what the backend has now: what came from elsewhere may be
    /// a repeat, and fields may have been changed in what nobody has told.
    pub(super) fn is_unsure(&self, m: &Mutation<V>) -> bool {
        m.origin.is_some() || (m.changed.is_some() && self.is_untold_of(m))
    }

    /// Whether something was confirmed of its record of which no page has told.
    fn is_untold_of(&self, m: &Mutation<V>) -> bool {
        let confirmed = &self.imported.confirmed;
        !confirmed.is_empty() && confirmed.contains(&(m.collection.clone(), m.key.clone()))
    }

    /// What follows from such a success. What is `behind` is sent on top of that version, whatever it is.
    pub(super) fn answer_to_imported(
        &self,
        m: &Mutation<V>,
        version: Version,
        behind: bool,
    ) -> Fact<V> {
        let record = self
            .collection(&m.collection)
            .and_then(|c| c.record(&m.key));
        let known = record.map_or(Version(0), |r| r.version);
        let place = (m.collection.clone(), m.key.clone());
        let here = self.imported.confirmed.get(&place);
        let is_told = here.is_none_or(|it| it.version != known);
        if version > Version(0) && is_told && (known == version || known > version && !behind) {
            // A page has brought what is there.
            let (no, why) = (m.no, Gone::Same);
            return Fact::Cancelled { no, why };
        }
        let version = if behind { version } else { known.min(version) };
        Fact::Acked {
            no: m.no,
            version,
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

    /// A mutation was confirmed, and nobody has said what the backend has now. With one `behind` it, that has
    /// this version here, whatever it is.
    pub(super) fn note_imported(&mut self, m: &Mutation<V>, version: Version, behind: bool) {
        let place = (m.collection.clone(), m.key.clone());
        let before = self.imported.confirmed.get(&place);
        let may_tell = behind || before.is_some_and(|it| it.version == version);
        let confirmed = Confirmed {
            at: m.at_text(&self.client).into(),
            version: if may_tell { version } else { Version(0) },
        };
        self.set_confirmed(place, Some(confirmed));
    }

    /// What was confirmed of a record, if no page has told of it.
    pub(super) fn confirmed_of(&self, collection: &Name, key: &Key) -> Option<Confirmed> {
        let confirmed = &self.imported.confirmed;
        if confirmed.is_empty() {
            return None;
        }
        confirmed.get(&(collection.clone(), key.clone())).cloned()
    }

    /// The same of all records, for a compaction.
    pub(super) fn told_confirmed(&self) -> impl Iterator<Item = Fact<V>> {
        let all = self.imported.confirmed.iter();
        all.map(|((collection, key), confirmed)| Fact::Confirmed {
            collection: collection.clone(),
            key: key.clone(),
            confirmed: confirmed.clone(),
        })
    }

    pub(super) fn set_confirmed(&mut self, place: (Name, Key), confirmed: Option<Confirmed>) {
        let is_known = confirmed.is_some();
        let all = &mut self.imported.confirmed;
        let before = match confirmed {
            Some(confirmed) => all.insert(place.clone(), confirmed),
            None => all.remove(&place),
        };
        if let Some(undo) = self.undo.as_mut().filter(|_| is_known || before.is_some()) {
            undo.steps.push(Step::Confirmed(place, before));
        }
    }

    /// Whether a page tells for the first time what this version is.
    pub(super) fn is_untold(&self, change: &Pulled<V>) -> bool {
        let place = (change.collection.clone(), change.key.clone());
        let here = self.imported.confirmed.get(&place);
        here.is_some_and(|it| it.version == change.version)
    }

    /// Whether a conflict is with what was confirmed here: then there is only a newer version.
    pub(super) fn was_imported(&self, m: &Mutation<V>, remote_at: Option<&Rc<str>>) -> bool {
        let place = (m.collection.clone(), m.key.clone());
        let here = self.imported.confirmed.get(&place);
        here.is_some_and(|it| remote_at.is_some_and(|at| **at == *it.at))
    }

    /// Whether a conflict is with what this is a new try of, which came under the name of another client, and may
    /// have been written again there before it was sent.
    pub(super) fn was_tried(&self, no: MutationNo, remote_at: Option<&Rc<str>>) -> bool {
        let first = self.tries.get(&no);
        let remote = remote_at.and_then(|at| Hlc::parse(at));
        let by =
            |first: &Mutation<V>| remote.is_some_and(|(_, c)| *c == *first.author(&self.client));
        first.is_some_and(by)
    }

    /// The backend has told what it has, and nothing is queued on what was here before.
    pub(super) fn end_import(&mut self, collection: &Name, key: &Key) {
        if !self.imported.confirmed.is_empty() {
            self.set_confirmed((collection.clone(), key.clone()), None);
        }
    }
}

//! How queued mutations enter and leave a record, and what the record shows meanwhile.
//!
//! What shows is never stored by itself: [`Replica::show`] works it out from what the backend has and
//! from the one or two mutations that are queued, so that every tab and every replay agree.

use super::Replica;
use super::collection::{Aside, Pending, Record};
use crate::hlc::Hlc;
use crate::model::{Action, Held, Key, Mutation, MutationNo, MutationState, Name, Version};
use crate::store::Fact;
use crate::value::Value;

impl<V: Value> Replica<V> {
    /// Stores a record, with what it shows because of its mutations.
    pub(super) fn show(&mut self, c: usize, key: &Key, mut record: Record<V>) {
        if let Some(pending) = &record.pending {
            let shown = |no: MutationNo, before: Option<V>| match self.outbox.get(no) {
                Some(m) => m.shows.content(m.value.as_ref(), before.as_ref()),
                None => before,
            };
            let first = shown(pending.head, pending.shadow.clone());
            record.value = match pending.tail {
                Some(tail) => shown(tail, first),
                None => first,
            };
        }
        self.set_record(c, key, record);
    }

    pub(super) fn apply_queued(&mut self, fact: &Fact<V>, at_ms: f64, hlc: Hlc) {
        let Fact::Queued {
            no,
            replaces,
            collection,
            key,
            action,
            value,
            shows,
            changed,
            group,
            origin,
        } = fact
        else {
            return;
        };
        let c = self.intern(collection);
        self.next_no = self.next_no.max(no + 1);
        let new_content = |base_version| Mutation {
            no: *no,
            collection: collection.clone(),
            key: key.clone(),
            action: *action,
            value: value.clone(),
            shows: shows.clone(),
            changed: changed.clone(),
            base_version,
            base: None,
            priority: self.collections[c].spec.priority,
            behind: false,
            at: hlc,
            created_ms: at_ms,
            sent: false,
            state: MutationState::Pending,
            attempts: 0,
            last_attempt_ms: None,
            next_attempt_ms: None,
            error: None,
            group: group.clone(),
            origin: origin.clone(),
        };
        if let (None, Some(gap)) = (replaces, self.collections[c].gap(key)) {
            // Mostly nothing is known of the record: there is nothing to look for, and nothing to copy.
            let mutation = new_content(Version(0));
            let record = Record {
                value: shows.content(value.as_ref(), None),
                pending: Some(Box::new(Pending {
                    shadow: None,
                    head: *no,
                    tail: None,
                })),
                ..Record::default()
            };
            self.set_mutation(*no, Some(mutation));
            self.add_record(c, gap, key, record);
            return;
        }
        let mut record = self.collections[c].record(key).cloned().unwrap_or_default();
        let old = replaces
            .or(Some(*no))
            .and_then(|n| self.outbox.get(n))
            .cloned();
        let new_content = new_content(record.version);
        let mut mutation = match (&old, &mut record.pending) {
            (Some(old), Some(pending)) => {
                if let Some(replaced) = replaces {
                    let first = self.tries.get(replaced).cloned();
                    self.set_try(*replaced, None);
                    let creates = old.action == Action::Create && old.may_have_arrived();
                    if creates || old.origin.is_some() {
                        self.set_try(*no, Some(first.unwrap_or_else(|| old.clone())));
                    }
                    self.set_mutation(*replaced, None);
                    if pending.head == *replaced {
                        pending.head = *no;
                    } else {
                        pending.tail = Some(*no);
                    }
                }
                // A conflict goes on waiting, with what is the device's side now.
                let waits = replaces.is_none() && old.state == MutationState::Conflict;
                let state = match waits {
                    true => old.state,
                    false => MutationState::Pending,
                };
                Mutation {
                    base_version: old.base_version,
                    base: old.base.clone(),
                    created_ms: old.created_ms,
                    state,
                    last_attempt_ms: old.last_attempt_ms,
                    ..new_content
                }
            }
            (_, Some(pending)) => {
                // Behind one that is in flight; its base comes with the acknowledgement.
                pending.tail = Some(*no);
                Mutation {
                    base_version: Version(0),
                    ..new_content
                }
            }
            (_, None) => {
                // A local-only record is promoted: what it has hidden is what it goes on top of.
                let shadow = match record.local.take() {
                    Some(aside) => aside.shadow,
                    None => record.value.take(),
                };
                let base = shadow.clone();
                record.pending = Some(Box::new(Pending {
                    shadow,
                    head: *no,
                    tail: None,
                }));
                Mutation {
                    base,
                    ..new_content
                }
            }
        };
        mutation.behind = record.pending.as_ref().is_some_and(|p| p.tail == Some(*no));
        self.set_mutation(*no, Some(mutation));
        self.show(c, key, record);
    }

    /// A mutation as it stands, in place of the one with its number or at its place in the queue.
    pub(super) fn apply_held(&mut self, held: &Held<V>) {
        let (no, c) = (held.mutation.no, self.intern(&held.mutation.collection));
        let key = &held.mutation.key;
        self.next_no = self.next_no.max(no + 1);
        self.note_author(&held.mutation);
        if held.confirmed.is_some() {
            let place = (held.mutation.collection.clone(), key.clone());
            self.set_confirmed(place, held.confirmed.clone());
        }
        let mut record = self.collections[c].record(key).cloned().unwrap_or_default();
        record.version = held.version;
        record.local = None;
        let shadow = held.shadow.clone();
        let mut pending = match record.pending.take() {
            Some(mut pending) => {
                if pending.tail != Some(no) && pending.head != no && held.mutation.behind {
                    pending.tail = Some(no);
                } else if pending.tail != Some(no) && pending.head != no {
                    self.set_mutation(pending.head, None);
                    pending.head = no;
                }
                pending
            }
            None => Box::new(Pending {
                shadow: None,
                head: no,
                tail: None,
            }),
        };
        pending.shadow = shadow;
        let mutation = Mutation {
            behind: pending.tail == Some(no),
            priority: self.collections[c].spec.priority,
            ..held.mutation.clone()
        };
        record.pending = Some(pending);
        self.set_mutation(no, Some(mutation));
        self.show(c, key, record);
    }

    pub(super) fn apply_local(&mut self, collection: &Name, key: &Key, value: Option<&V>) {
        let c = self.intern(collection);
        let mut record = self.collections[c].record(key).cloned().unwrap_or_default();
        if record.pending.is_some() {
            return; // never planned: queued changes must not be hidden
        }
        let shadow = match record.local.take() {
            Some(aside) => aside.shadow,
            None => record.value.take(),
        };
        match value {
            Some(value) => {
                record.value = Some(value.clone());
                record.local = Some(Box::new(Aside { shadow }));
            }
            None => record.value = shadow,
        }
        self.set_record(c, key, record);
    }

    /// A mutation leaves: confirmed (`acked`), or given up.
    pub(super) fn apply_gone(&mut self, no: MutationNo, acked: Option<(Version, &Option<V>)>) {
        let Some(gone) = self.outbox.get(no).cloned() else {
            return;
        };
        self.set_try(no, None);
        self.set_mutation(no, None);
        let c = self.intern(&gone.collection);
        let Some(mut record) = self.collections[c].record(&gone.key).cloned() else {
            return;
        };
        let Some(mut pending) = record.pending.take() else {
            return;
        };
        // What the backend had right after it: the base of what was written on top of it. A page
        // may have brought a newer state since; then the next push meets a conflict, as it should.
        let mut base = (pending.shadow.clone(), record.version);
        if let Some((version, stored)) = acked {
            if stored.is_none() && self.is_unsure(&gone) {
                let behind = pending.tail.is_some_and(|tail| tail != no);
                self.note_imported(&gone, version, behind);
            } else {
                self.end_import(&gone.collection, &gone.key);
            }
            let value = stored.clone().or_else(|| gone.value.clone());
            base = (value.filter(|_| gone.action != Action::Delete), version);
            // Deleted elsewhere, and forgotten by the backend: no version tells of it.
            let nothing = gone.action == Action::Delete && version == Version(0);
            if version >= record.version {
                (pending.shadow, record.version) = base.clone();
            } else if nothing && record.version == gone.base_version {
                pending.shadow = None;
            }
        }
        if pending.tail == Some(no) {
            pending.tail = None;
            record.pending = Some(pending);
        } else if let Some(next) = pending.tail.take() {
            pending.head = next;
            let as_sent = matches!(acked, Some((_, None)));
            self.edit(next, |m| {
                m.behind = false;
                // Changed fields go on top of what the backend has, where that is something else
                // than what they were written on.
                if let (false, Some(names), Some(on)) = (as_sent, &m.changed, &base.0) {
                    m.value = m.value.as_ref().map(|value| on.patched(value, names));
                }
                if base.0.is_none() && m.action == Action::Update {
                    // On top of a deletion it makes the record anew.
                    m.action = Action::Create;
                    m.changed = None;
                }
                (m.base, m.base_version) = base;
            });
            record.pending = Some(pending);
        } else {
            record.value = pending.shadow.take();
            // The backend knows nothing of it any more: a segment may, so it is not forgotten here.
            let was_there = gone.base.is_some() || gone.base_version > Version(0);
            if was_there && record.value.is_none() {
                record.version = record.version.max(Version(1));
            }
        }
        self.show(c, &gone.key, record);
    }
}

//! References to records that have moved to another key ([`super::rekey`]): what is queued follows.

use super::Replica;
use super::collection::Collection;
use super::plan::{Now, Plan};
use crate::model::{Action, Held, Mutation, MutationNo, MutationState, Name};
use crate::options::CollectionSpec;
use crate::planted::{self, Bug};
use crate::shown::{Names, Shown};
use crate::store::{Fact, Gone};
use crate::value::Value;
use std::rc::Rc;

/// What making a record's references present ones comes to.
struct Repaired<V> {
    value: V,
    fields: Vec<Rc<str>>,
}

impl<V: Value> Replica<V> {
    /// A record with the present keys in its declared references; none where they are already. A reference that
    /// is the record's own key stays: this record has not moved.
    fn repaired(&self, spec: &CollectionSpec, value: &V) -> Option<Repaired<V>> {
        let mut repaired: Option<Repaired<V>> = None;
        let references = spec.references.iter();
        for (field, parent) in references.filter(|(field, _)| *field != spec.key) {
            let Some(parent) = self.collection(parent).filter(|c| c.is_rekeyed()) else {
                continue;
            };
            let Some(key) = value.text(field) else {
                continue;
            };
            let present = parent.present(&key);
            if *present != *key {
                let (so_far, mut fields) = match repaired.take() {
                    Some(it) => (it.value, it.fields),
                    None => (value.clone(), Vec::new()),
                };
                fields.push(field.clone());
                let value = so_far.with_text(field, present);
                repaired = Some(Repaired { value, fields });
            }
        }
        repaired
    }

    pub(super) fn with_present_references(&self, spec: &CollectionSpec, value: V) -> V {
        match self.repaired(spec, &value) {
            Some(repaired) => repaired.value,
            None => value,
        }
    }

    /// Rewrites what is queued and refers to records that have moved in these collections.
    pub(super) fn plan_references(&mut self, moved: &[Name], now: Now, plan: &mut Plan<V>) {
        if moved.is_empty() || planted::is(Bug::ReKeyWithoutReferences) {
            return;
        }
        let refers = |c: &&Collection<V>| {
            let mut parents = c.spec.references.iter().map(|(_, parent)| parent);
            c.declared && parents.any(|parent| moved.contains(parent))
        };
        let children = self.collections.iter().filter(refers);
        let children: Vec<CollectionSpec> = children.map(|c| c.spec.clone()).collect();
        for spec in &children {
            for no in self.queued_referrers(spec) {
                self.plan_reference(spec, no, now, plan);
            }
            self.plan_local_references(spec, now, plan);
        }
    }

    /// Mutations of a collection that may refer to what has moved. What came as a run and has not changed is not
    /// made for that.
    fn queued_referrers(&self, spec: &CollectionSpec) -> Vec<MutationNo> {
        let mut queued = Vec::new();
        for list in self.outbox.by_lists() {
            match list {
                Ok(mutations) => {
                    let of_it = mutations.iter().filter(|(_, m)| m.collection == spec.name);
                    queued.extend(of_it.map(|(no, _)| *no));
                }
                Err(part) if part.placed.run.collection == spec.name => {
                    let value = |at: &usize| part.placed.run.values[*at].as_ref();
                    let refers = |at: &usize| value(at).and_then(|v| self.repaired(spec, v));
                    let refer = part.range.clone().filter(|at| refers(at).is_some());
                    queued.extend(refer.filter_map(|at| part.placed.no(at)));
                }
                Err(_) => {}
            }
        }
        queued
    }

    fn plan_reference(
        &mut self,
        spec: &CollectionSpec,
        no: MutationNo,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let Some(held) = self.held(no) else { return };
        let m = &held.mutation;
        let repaired = m.value.as_ref().and_then(|v| self.repaired(spec, v));
        let Some(Repaired { value, fields }) = repaired else {
            return;
        };
        if !m.sent {
            let mutation = self.refer(spec, m, value, &fields);
            let held = Held { mutation, ..held };
            self.put_true(Fact::Held(Box::new(held)), now, plan);
        } else if self.tail_of(m).is_none() {
            let shows = match m.shows {
                Shown::Own => Shown::Own,
                _ => Shown::Before,
            };
            let fact = Fact::Queued {
                no: self.fresh_no(),
                replaces: None,
                collection: m.collection.clone(),
                key: m.key.clone(),
                action: Action::Update,
                value: Some(value),
                shows,
                changed: Some(fields.into()),
                group: None,
                origin: None,
            };
            self.put_true(fact, now, plan);
        }
    }

    /// A mutation that has not been sent, with other references.
    fn refer(
        &self,
        spec: &CollectionSpec,
        m: &Mutation<V>,
        value: V,
        fields: &[Rc<str>],
    ) -> Mutation<V> {
        let shows = match &m.shows {
            Shown::Record(Some(record)) => {
                Shown::Record(Some(self.with_present_references(spec, record.clone())))
            }
            Shown::Patch(patch, names) => {
                let patch = self.with_present_references(spec, patch.clone());
                Shown::Patch(patch, names.clone())
            }
            shows => shows.clone(),
        };
        // The backend has the old reference in what it goes on top of.
        let changed = m.changed.as_ref().map(|names| united(names, fields));
        Mutation {
            value: Some(value),
            shows,
            changed,
            ..m.clone()
        }
    }

    fn plan_local_references(&mut self, spec: &CollectionSpec, now: Now, plan: &mut Plan<V>) {
        let Some(collection) = self.collection(&spec.name) else {
            return;
        };
        let mut facts = Vec::new();
        // None is among those that came as a run and have not changed.
        let records = collection.lists().filter_map(Result::ok).flatten();
        for (key, record) in records.filter(|(_, r)| r.local.is_some()) {
            let value = record.value.as_ref();
            if let Some(repaired) = value.and_then(|v| self.repaired(spec, v)) {
                facts.push(Fact::Local {
                    collection: spec.name.clone(),
                    key: key.clone(),
                    value: Some(repaired.value),
                });
            }
        }
        for fact in facts {
            self.put_true(fact, now, plan);
        }
    }

    /// Drops the update that [`Self::plan_reference`] has queued behind a mutation, where the backend has
    /// resolved the reference by itself.
    pub(super) fn drop_if_stored(
        &mut self,
        tail: Option<Mutation<V>>,
        stored: Option<&V>,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let Some(tail) = tail.filter(|t| t.state == MutationState::Pending) else {
            return;
        };
        let (Some(stored), Some(value), Some(names)) = (stored, &tail.value, &tail.changed) else {
            return;
        };
        if names.iter().all(|name| value.same_field(stored, name)) {
            let (no, why) = (tail.no, Gone::Same);
            self.put_true(Fact::Cancelled { no, why }, now, plan);
        }
    }
}

fn united(names: &Names, more: &[Rc<str>]) -> Names {
    let fresh = more.iter().filter(|name| !names.contains(name));
    names.iter().chain(fresh).cloned().collect()
}

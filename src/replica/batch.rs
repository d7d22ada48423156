//! Which mutations can be pushed next, and what is sent of them.

use super::Replica;
use crate::model::{Action, Change, Mutation, MutationNo};
use crate::value::Value;
use std::collections::HashSet;

impl<V: Value> Replica<V> {
    /// The next mutations to push, in order: heads that are not in flight, not put off, and whose
    /// parents are confirmed or earlier in the same batch.
    #[must_use]
    pub fn next_batch(
        &self,
        now_ms: f64,
        in_flight: &HashSet<MutationNo>,
        max: usize,
        bytes_max: usize,
    ) -> Vec<MutationNo> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for m in self.outbox.ready() {
            if in_flight.contains(&m.no) || m.next_attempt_ms.is_some_and(|at| at > now_ms) {
                continue;
            }
            if self
                .waits_for(m)
                .is_some_and(|parent| !batch.contains(&parent))
            {
                continue;
            }
            if bytes_max != usize::MAX {
                bytes += m.value.as_ref().map_or(0, Value::weight_bytes);
                if bytes > bytes_max && !batch.is_empty() {
                    break;
                }
            }
            batch.push(m.no);
            if batch.len() == max {
                break;
            }
        }
        batch
    }

    /// The mutation that has to be confirmed before this one can be sent: the one before it on the
    /// same record, or the creation of a record that it refers to in a declared field.
    #[must_use]
    pub fn waits_for(&self, m: &Mutation<V>) -> Option<MutationNo> {
        let collection = self.collection(&m.collection)?;
        if m.behind {
            return Some(collection.record(&m.key)?.pending.as_ref()?.head);
        }
        let value = m.value.as_ref()?;
        collection
            .spec
            .references
            .iter()
            .find_map(|(field, parent)| {
                let key = value.text(field)?;
                let head = self
                    .collection(parent)?
                    .record(&key)?
                    .pending
                    .as_ref()?
                    .head;
                let creates = self.outbox.get(head)?.action == Action::Create;
                (creates && head != m.no).then_some(head)
            })
    }

    /// A mutation as it travels.
    #[must_use]
    pub fn change(&self, no: MutationNo) -> Option<Change<V>> {
        let m = self.outbox.get(no)?;
        let partial = m.changed.as_ref().filter(|_| m.action == Action::Update);
        let data = match (&m.value, partial) {
            (Some(value), Some(names)) => Some(value.picked(names)),
            (value, _) => value.clone(),
        };
        Some(Change {
            id: m.wire_id(&self.client),
            no,
            collection: m.collection.clone(),
            action: m.action,
            key: m.key.clone(),
            version: m.base_version,
            data,
            changed: partial.cloned(),
            at: m.at_text(&self.client),
            group: m.group.clone(),
        })
    }
}

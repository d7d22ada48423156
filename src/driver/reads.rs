//! What the app can ask: records, queue, conflict log, status.

use super::{Backend, Clock, Manager};
use crate::conflict::Conflict;
use crate::engine::{Lane, Network, Phase};
use crate::error::{Code, Error, Result};
use crate::model::{Held, Key, Mutation, MutationNo, MutationState, Name};
use crate::replica::collection::Collection;
use crate::replica::index::Query;
use crate::replica::plan::Intent;
use crate::store::{Older, Store};
use crate::value::Value;
use std::borrow::Cow;
use std::rc::Rc;

/// Which entries of the outbox to list.
#[derive(Debug, Clone, Default)]
pub struct OutboxFilter {
    /// In this state (`pending`, `syncing`, `conflict`, `failed`).
    pub state: Option<Rc<str>>,
    /// Of this collection.
    pub collection: Option<Name>,
    /// At most so many; 0: all.
    pub limit: usize,
}

/// One entry of the outbox, as the app sees it.
#[derive(Debug, Clone)]
pub struct OutboxView<V> {
    /// Its id.
    pub id: String,
    /// The mutation.
    pub mutation: Mutation<V>,
    /// `pending`, `syncing`, `conflict` or `failed`.
    pub state: &'static str,
    /// The id of the mutation it waits for.
    pub waits_for: Option<String>,
    /// The id of the parked mutation that keeps it from being sent, through others or directly.
    pub blocked_by: Option<String>,
}

/// One collection in the status.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionStatus {
    /// Its name.
    pub name: Name,
    /// Whether its first pull, or its loading, is not over yet.
    pub loading: bool,
    /// When the newest page was stored.
    pub pulled_ms: Option<f64>,
    /// Records that can be seen.
    pub count: usize,
}

/// The status, but for what only the browser knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// What it is at.
    pub phase: Phase,
    /// The network.
    pub network: Network,
    /// Whether this tab syncs.
    pub leader: bool,
    /// Waiting to be pushed, without those in flight.
    pub pending: usize,
    /// In flight.
    pub syncing: usize,
    /// Waiting for the app.
    pub conflict: usize,
    /// Parked.
    pub failed: usize,
    /// Direction, done, total.
    pub progress: Option<(Lane, usize, Option<usize>)>,
    /// Each declared collection.
    pub collections: Vec<CollectionStatus>,
    /// When the last cycle ended well.
    pub synced_ms: Option<f64>,
    /// When that cycle had begun.
    pub synced_through_ms: Option<f64>,
    /// When the next one is due.
    pub next_ms: Option<f64>,
    /// The last error, and when.
    pub error: Option<(Error, f64)>,
}

impl<V: Value, S: Store<V>, B: Backend<V>, C: Clock> Manager<V, S, B, C> {
    fn with<R>(&self, name: &str, read: impl FnOnce(&Collection<V>) -> R) -> Result<R> {
        let replica = self.0.replica.borrow();
        let collection = replica.collection(name).ok_or_else(|| {
            Error::new(
                Code::UnknownCollection,
                format!("there is no collection \"{name}\""),
            )
        })?;
        Ok(read(collection))
    }

    /// The record at a key.
    ///
    /// # Errors
    /// `unknown-collection`.
    pub fn get(&self, name: &str, key: &str) -> Result<Option<V>> {
        self.with(name, |c| c.get(c.present(key)).cloned())
    }

    /// Something stored of this collection is damaged: says so, and does what can be done about it.
    pub fn heal(&self, name: &str) -> Error {
        let error = crate::replica::damaged(name);
        if self.is_open() {
            self.note(&error);
            self.submit(Intent::Heal(name.into()), Box::new(|_| {}));
        }
        error
    }

    /// The key under which a record is that this key stands for: itself, unless the backend has given
    /// it another.
    #[must_use]
    pub fn present_key(&self, name: &str, key: &str) -> Key {
        self.0.replica.borrow().present_key(name, key)
    }

    /// Every record, in the order of the keys.
    ///
    /// # Errors
    /// `unknown-collection`.
    pub fn each(&self, name: &str, mut visit: impl FnMut(&V)) -> Result<()> {
        self.with(name, |c| c.each(&mut visit))
    }

    /// The records that a query selects, in its order.
    ///
    /// # Errors
    /// `unknown-collection`, `unknown-index`.
    pub fn find(&self, name: &str, query: &Query, mut visit: impl FnMut(&V)) -> Result<()> {
        let query = self.present_query(name, query);
        self.with(name, |c| {
            for key in c.find(&query)? {
                if let Some(value) = c.get(&key) {
                    visit(value);
                }
            }
            Ok(())
        })?
    }

    fn present_query<'a>(&self, name: &str, query: &'a Query) -> Cow<'a, Query> {
        self.0.replica.borrow().present_query(name, query)
    }

    /// What has to be fetched before this query can be answered.
    #[must_use]
    pub fn missing_for_query(&self, name: &str, query: &Query) -> Vec<V> {
        self.with(name, |c| c.missing_for(query.index.as_ref()))
            .unwrap_or_default()
    }

    /// How many records a query selects.
    ///
    /// # Errors
    /// `unknown-collection`, `unknown-index`.
    pub fn count(&self, name: &str, query: &Query) -> Result<usize> {
        let query = self.present_query(name, query);
        self.with(name, |c| c.count_of(&query))?
    }

    /// The field that holds the key of a collection's records.
    ///
    /// # Errors
    /// `unknown-collection`.
    pub fn key_field(&self, name: &str) -> Result<Rc<str>> {
        self.with(name, |c| c.spec.key.clone())
    }

    /// The newest content of a record: with changes that do not show yet.
    ///
    /// # Errors
    /// `unknown-collection`.
    pub fn newest(&self, name: &str, key: &str) -> Result<Option<V>> {
        self.with(name, |_| ())?;
        Ok(self.0.replica.borrow().newest(name, key).cloned())
    }

    /// The number of the queued mutation with this id on the wire.
    #[must_use]
    pub fn find_mutation(&self, id: &str) -> Option<MutationNo> {
        self.0.replica.borrow().find_mutation(id)
    }

    /// Everything that the backend has not confirmed, as it stands; the mutation at the head of a
    /// record before the one behind it, also where it was queued again under a later number.
    #[must_use]
    pub fn unsynced(&self) -> Vec<Held<V>> {
        self.0.replica.borrow().all_held()
    }

    /// The version of the data in that, and collections that are of an older one.
    #[must_use]
    pub fn data_versions(&self) -> (u32, Older) {
        self.0.replica.borrow().data_versions()
    }

    /// `synced`, `pending`, `syncing`, `conflict`, `failed` or `local`; none where there is no record.
    ///
    /// # Errors
    /// `unknown-collection`.
    pub fn state(&self, name: &str, key: &str) -> Result<Option<&'static str>> {
        let replica = self.0.replica.borrow();
        self.with(name, |c| {
            let record = c.record(c.present(key))?;
            let head = record.pending.as_ref().map(|pending| pending.head);
            match head.and_then(|no| replica.outbox.get(no)) {
                Some(head) => Some(self.state_of(head)),
                None if record.local.is_some() => Some("local"),
                None => record.value.is_some().then_some("synced"),
            }
        })
    }

    fn state_of(&self, m: &Mutation<V>) -> &'static str {
        match m.state {
            MutationState::Pending if self.0.in_flight.borrow().contains(&m.no) => "syncing",
            MutationState::Pending => "pending",
            MutationState::Conflict => "conflict",
            MutationState::Failed => "failed",
        }
    }

    /// The queue, first in, first out.
    #[must_use]
    pub fn outbox(&self, filter: &OutboxFilter) -> Vec<OutboxView<V>> {
        let replica = self.0.replica.borrow();
        let limit = if filter.limit == 0 {
            usize::MAX
        } else {
            filter.limit
        };
        let wanted = |m: &&Mutation<V>| {
            filter
                .collection
                .as_ref()
                .is_none_or(|c| *c == m.collection)
                && filter
                    .state
                    .as_ref()
                    .is_none_or(|s| **s == *self.state_of(m))
        };
        let chosen = replica.outbox.iter().filter(wanted).take(limit);
        chosen.map(|m| self.view_of(&replica, m)).collect()
    }

    /// When the oldest change in the queue was made, ms since 1970.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<f64> {
        self.0.replica.borrow().outbox.oldest_ms()
    }

    /// One entry of the queue.
    #[must_use]
    pub fn outbox_entry(&self, no: MutationNo) -> Option<OutboxView<V>> {
        let replica = self.0.replica.borrow();
        replica.outbox.get(no).map(|m| self.view_of(&replica, m))
    }

    fn view_of(&self, replica: &crate::replica::Replica<V>, m: &Mutation<V>) -> OutboxView<V> {
        let id = |no| {
            let found = replica.outbox.get(no);
            found.map(|m| m.wire_id(replica.client()))
        };
        let waits = m.state == MutationState::Pending;
        let waits_for = Some(m).filter(|_| waits).and_then(|m| {
            let own = replica.waits_for(m);
            own.or_else(|| replica.group_waits_for(m))
        });
        let blocked_by = waits_for.and_then(|_| replica.blocked_by(m));
        OutboxView {
            id: m.wire_id(replica.client()),
            mutation: m.clone(),
            state: self.state_of(m),
            waits_for: waits_for.and_then(id),
            blocked_by: blocked_by.and_then(id),
        }
    }

    /// The conflicts: those that wait for the app first, then the log, newest first.
    #[must_use]
    pub fn conflicts(&self) -> Vec<Rc<Conflict<V>>> {
        let replica = self.0.replica.borrow();
        let counts = replica.outbox.counts();
        let mut all = Vec::new();
        if counts.conflict + counts.failed > 0 {
            let open = replica
                .outbox
                .iter()
                .filter_map(|m| replica.open_conflict(m));
            all.extend(open.map(Rc::new));
            all.reverse();
        }
        all.extend(replica.conflicts().iter().rev().cloned());
        all
    }

    /// What the app is shown.
    #[must_use]
    pub fn status(&self) -> Status {
        let loaded = self.0.loaded.get();
        let replica = self.0.replica.borrow();
        let engine = self.0.engine.borrow();
        let summary = if loaded {
            replica.summary()
        } else {
            self.0.summary.borrow().clone()
        };
        // One may be on its way that a pull has confirmed, or the user given up, meanwhile.
        let in_flight = self.0.in_flight.borrow();
        let listed = |no: &MutationNo| {
            let found = replica.outbox.get(*no);
            found.is_some_and(|m| m.state == MutationState::Pending)
        };
        let syncing = in_flight.iter().filter(|(no, _)| listed(no)).count();
        let done = self.0.progress.get();
        let progress = engine.lane().map(|lane| match lane {
            Lane::Push => (lane, done.pushed, Some(done.pushed + summary.pending)),
            Lane::Pull => (lane, done.pulled, None),
        });
        let progress = progress.filter(|(_, _, total)| *total != Some(0));
        let unpulled = replica.unpulled();
        let filling = self.0.filling.borrow();
        let first_pull = |name: &Name| {
            let under_way = engine.lane().is_some();
            under_way && (filling.contains(name) || unpulled.contains(name))
        };
        let collections = replica.collections.iter().filter(|c| c.declared).map(|c| {
            let name = c.spec.name.clone();
            let count = summary
                .counts
                .iter()
                .find(|(n, _)| *n == name)
                .map_or(0, |(_, n)| *n);
            let loading = !loaded || (first_pull(&name) && !c.spec.local_only);
            CollectionStatus {
                name,
                loading,
                pulled_ms: summary.pulled_ms,
                count,
            }
        });
        let error = self.0.store_error.borrow().clone();
        let error = error.or_else(|| {
            engine
                .error()
                .map(|error| (error.clone(), self.0.error_at_ms.get()))
        });
        Status {
            phase: if self.0.outdated.get() && engine.phase() != Phase::Closed {
                Phase::Error
            } else {
                engine.phase()
            },
            network: engine.network(),
            leader: engine.leader(),
            pending: summary.pending.saturating_sub(syncing),
            syncing,
            conflict: summary.conflict,
            failed: summary.failed,
            progress,
            collections: collections.collect(),
            synced_ms: engine.synced_ms(),
            synced_through_ms: engine.synced_through_ms(),
            next_ms: engine.next_ms(),
            error,
        }
    }
}

//! Applying a batch.
//!
//! Each change is a transaction of its own in what it means: it takes effect as a whole or not at
//! all, and its failing leaves the others alone. All the same, a batch (in fact several, see
//! `writer`) is one SQLite transaction with a savepoint for each change: the answer is sent only
//! after the outer commit, so nobody can tell the difference, but for one fsync in place of 100.
//! Should the commit fail, nothing was applied and nothing was answered, and the client sends the
//! batch again.
//!
//! Changes that stand together are applied in the same way first. Where one is refused, all is
//! undone, and each is looked at again, by itself: what is refused then as well is a real outcome
//! and is remembered; all else is `aborted`.

use rusqlite::Connection;

use super::conflicts::{log_conflict, settle_rebased};
use super::heads::Numbering;
use super::memory::{recall, remember};
use super::records::{Key, find, purged, put};
use super::writer::execute;
use crate::access::{Access, Space};
use crate::change::{Change, Failure};
use crate::ids::UnixMillis;
use crate::ruling::{Ruling, rule};
use crate::store::{Mode, StoreError, Verdict};

/// Applies the changes in their order, inside the caller's transaction; the verdicts, and the spaces
/// that have new changes.
pub(super) fn push(
    connection: &Connection,
    access: &Access,
    changes: &[Change],
    mode: Mode,
    now: UnixMillis,
) -> Result<(Vec<Verdict>, Vec<Space>), StoreError> {
    let mut batch = Batch {
        connection,
        access,
        numbering: Numbering::default(),
        now,
    };
    let verdicts = match mode {
        Mode::Each => batch.each(changes)?,
        Mode::Together | Mode::Doomed => batch.together(changes, mode == Mode::Doomed)?,
    };
    Ok((verdicts, batch.numbering.store(connection)?))
}

struct Batch<'a> {
    connection: &'a Connection,
    access: &'a Access,
    numbering: Numbering,
    now: UnixMillis,
}

impl Batch<'_> {
    fn each(&mut self, changes: &[Change]) -> Result<Vec<Verdict>, StoreError> {
        changes
            .iter()
            .map(|change| self.guarded(|batch| batch.apply(change)))
            .collect()
    }

    fn together(&mut self, changes: &[Change], doomed: bool) -> Result<Vec<Verdict>, StoreError> {
        execute(self.connection, "SAVEPOINT batch")?;
        let first = self.each(changes)?;
        let all = first
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Success(_)));
        if all && !doomed {
            execute(self.connection, "RELEASE batch")?;
            return Ok(first);
        }
        execute(self.connection, "ROLLBACK TO batch")?;
        execute(self.connection, "RELEASE batch")?;
        self.numbering = Numbering::default();
        changes
            .iter()
            .zip(first)
            .map(|(change, first)| self.guarded(|batch| batch.refuse(change, first)))
            .collect()
    }

    /// Does one change's work in a savepoint: where the database refuses it, it fails alone.
    fn guarded(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<Verdict, StoreError>,
    ) -> Result<Verdict, StoreError> {
        execute(self.connection, "SAVEPOINT change")?;
        let verdict = match work(self) {
            Ok(verdict) => verdict,
            // SQLite has given up the whole transaction: so must the batch.
            Err(error) if self.connection.is_autocommit() => return Err(error),
            Err(error) => {
                tracing::error!(%error, "a change could not be stored");
                execute(self.connection, "ROLLBACK TO change")?;
                Verdict::Failed(Failure::internal())
            }
        };
        execute(self.connection, "RELEASE change")?;
        Ok(verdict)
    }

    fn apply(&mut self, change: &Change) -> Result<Verdict, StoreError> {
        let (connection, access, now) = (self.connection, self.access, self.now);
        if let Some(verdict) = recall(connection, access, change)? {
            return Ok(verdict);
        }
        let key = key(access, change);
        let current = find(connection, key)?;
        let verdict = match rule(access, change, current.as_ref()) {
            Ruling::Write(mut located) => {
                if current.is_none() {
                    located.begin_after(purged(connection, key)?);
                }
                let before = current.map(|current| current.space);
                put(
                    connection,
                    key,
                    &located,
                    before.as_ref(),
                    &mut self.numbering,
                    now,
                )?;
                settle_rebased(connection, access, change, located.record.version, now)?;
                Verdict::Success(located.record.version)
            }
            Ruling::Nothing(version) => {
                settle_rebased(connection, access, change, version, now)?;
                Verdict::Success(version)
            }
            Ruling::Conflict(located) => log_conflict(connection, access, change, located, now)?,
            Ruling::Fail(failure) => Verdict::Failed(failure),
        };
        remember(connection, access, change, &verdict, now)?;
        Ok(verdict)
    }

    /// A change of a batch that has no effect: `first` is what it came to on top of those before it.
    fn refuse(&mut self, change: &Change, first: Verdict) -> Result<Verdict, StoreError> {
        let (connection, access, now) = (self.connection, self.access, self.now);
        // Before this batch, or earlier in it: then it is a real outcome as well.
        if let Some(verdict) = recall(connection, access, change)? {
            return Ok(verdict);
        }
        match first {
            Verdict::Success(_) => return Ok(Verdict::Failed(Failure::aborted())),
            Verdict::Failed(failure) if failure.code.retryable() => {
                return Ok(Verdict::Failed(failure));
            }
            _ => {}
        }
        let current = find(connection, key(access, change))?;
        let verdict = match rule(access, change, current.as_ref()) {
            Ruling::Conflict(located) => log_conflict(connection, access, change, located, now)?,
            Ruling::Fail(failure) => Verdict::Failed(failure),
            // Were it `aborted` like the rest, the same batch would be sent for ever.
            Ruling::Write(_) | Ruling::Nothing(_) => Verdict::Failed(Failure::invalid(
                "it cannot take effect after the changes before it in the batch",
            )),
        };
        remember(connection, access, change, &verdict, now)?;
        Ok(verdict)
    }
}

fn key<'a>(access: &'a Access, change: &'a Change) -> Key<'a> {
    Key {
        realm: change.sharing.realm(access.user()),
        record_type: &change.record_type,
        id: &change.record,
    }
}

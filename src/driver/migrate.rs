//! The version of the app's data: migrated when the app is newer, left alone when it is older.
//!
//! A migration is one commit: everything is read, every record that the app's function changes is
//! written anew together with the new version, in one transaction. If the browser dies in between,
//! nothing has happened and the next start begins again.

use super::writer::entries;
use super::{Backend, Clock, Manager};
use crate::engine::Event;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::model::Name;
use crate::replica::plan::Now;
use crate::replica::plan_import::{Import, Left};
use crate::replica::{FIRST_VERSION, Replica};
use crate::store::{AppendError, Fact, Store};
use crate::value::Value;
use std::rc::Rc;

/// Turns a record of a collection, of an older version of the data, into one of this version.
pub type Migrate<V> = Box<dyn Fn(&Name, &V, u32) -> Result<V>>;

impl<V: Value, S: Store<V>, B: Backend<V>, C: Clock> Manager<V, S, B, C> {
    /// Loads everything and migrates it where that is needed.
    pub(super) async fn migrate(&self) -> Result<()> {
        for _ in 0..limits::APPEND_RETRIES_MAX {
            self.catch_up().await?;
            if self.0.outdated.get() {
                return Err(self.newer());
            }
            let stored = self.0.seq.get() > 0;
            if !stored || !self.0.replica.borrow().needs_migration(self.0.version) {
                return Ok(());
            }
            match self.migrate_all().await {
                Err(AppendError::Taken) => {}
                Err(AppendError::Failed(error)) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
        let message = "other tabs wrote all the time";
        Err(Error::new(Code::WriteContention, message))
    }

    /// Brings mutations from elsewhere to the app's version of its data, see [`Replica::migrate_import`].
    ///
    /// # Errors
    /// As there.
    pub fn migrate_import(&self, import: &mut Import<V>, versions: &[Option<u32>]) -> Result<Left> {
        let (replica, migrate) = (self.0.replica.borrow(), &self.0.migrate);
        replica.migrate_import(import, versions, self.0.version, migrate)
    }

    async fn migrate_all(&self) -> std::result::Result<(), AppendError> {
        let missing = self.0.replica.borrow().missing_at_all();
        self.fetch_values(missing).await?;
        let (after, commit) = {
            let mut replica = self.0.replica.borrow_mut();
            let at_ms = self.now_ms();
            replica.begin();
            let hlc = replica.next_hlc(at_ms);
            replica.set_hlc(hlc);
            let now = Now {
                at_ms,
                hlc,
                random: 0.0,
            };
            match replica.plan_migration(self.0.version, &self.0.migrate, now) {
                Ok(plan) => {
                    let summary = replica.summary();
                    let commit = entries(plan.facts, at_ms, hlc, &summary);
                    (self.0.seq.get(), (commit, plan.collections))
                }
                Err(error) => {
                    replica.rollback();
                    return Err(error.into());
                }
            }
        };
        let (entries, collections) = commit;
        let appended = match self.fetch_entries(&entries).await {
            Ok(()) => self.0.store.append(after, &entries).await,
            Err(error) => Err(error.into()),
        };
        let mut replica = self.0.replica.borrow_mut();
        if let Err(error) = appended {
            replica.rollback();
            return Err(error);
        }
        replica.commit();
        drop(replica);
        self.0.seq.set(after + entries.len() as u64);
        self.logged(entries.iter().map(|entry| entry.facts.len()));
        self.committed(&collections, &[], true);
        Ok(())
    }

    /// The fact with which a new database learns its version; data without one is of the first.
    pub(super) fn first_version(&self, replica: &mut Replica<V>, now: Now) -> Option<Fact<V>> {
        let version = self.0.version;
        let fresh = self.0.seq.get() == 0 && replica.data_version() == 0;
        if !fresh || version == FIRST_VERSION {
            return None;
        }
        let older = Rc::from([]);
        let fact = Fact::Schema { version, older };
        replica.apply(&fact, now.at_ms, now.hlc);
        Some(fact)
    }

    /// Stops for good where another tab has migrated the data beyond what this app knows. It does not lead
    /// either: the lead is for a tab that can sync.
    pub(super) fn check_version(&self) {
        let stored = self.0.replica.borrow().data_version();
        if stored > self.0.version && !self.0.outdated.replace(true) {
            self.run(Event::Leader(false));
            self.note(&self.newer());
        }
    }

    pub(super) fn newer(&self) -> Error {
        let (stored, known) = (self.0.replica.borrow().data_version(), self.0.version);
        let message = format!("the data is of version {stored}, this app knows version {known}");
        Error::new(Code::DatabaseNewer, message)
    }
}

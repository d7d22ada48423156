//! Applying a batch: lock, load, work out, store, commit. See `load` for the locks, `draft` for what
//! is worked out.
//!
//! Each change is a transaction of its own in what it means, but a batch is one transaction, for one
//! commit in place of 100; and, as long as the database takes what it is given, some ten statements.
//! Where it refuses something, the batch is done again change by change, each in a savepoint, so that
//! what is refused fails alone.
//!
//! Two batches can get in each other's way in spite of the locks: they may make the same shared
//! record in two entities. The second is done again, sees the record, and answers so. What goes on
//! colliding, or fails with the connection, is answered as worth another try: nothing was answered
//! yet, and where the commit did arrive, the same mutations find their results.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection, PgConnection, PgPool, PgTransaction};

use super::draft::{Draft, Unlocked};
use super::fault::{collided, fault, of_the_data};
use super::flush::flush;
use super::load::{found, load, lock, spaces};
use crate::access::{Access, Space};
use crate::change::{Change, Failure};
use crate::ids::UnixMillis;
use crate::limits;
use crate::store::checkpoint::Seq;
use crate::store::{Mode, StoreError, Verdict};

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database's error.
    Sql(sqlx::Error),
    /// The store's.
    Store(StoreError),
    /// One more space must be locked.
    Unlocked(Space),
    /// Some of these spaces have no row that could be locked.
    Unfounded(BTreeSet<Space>),
    /// A record is not as it was read.
    Overtaken,
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Unlocked> for Fault {
    fn from(Unlocked(space): Unlocked) -> Self {
        Self::Unlocked(space)
    }
}

impl From<Fault> for StoreError {
    fn from(error: Fault) -> Self {
        match error {
            Fault::Sql(error) => fault(error),
            Fault::Store(error) => error,
            Fault::Unlocked(_) | Fault::Unfounded(_) | Fault::Overtaken => Self::Unavailable,
        }
    }
}

/// How often, and under which locks, something was tried.
#[derive(Default)]
pub(super) struct Attempts {
    made: usize,
    /// Spaces that turned out to be needed.
    pub(super) spaces: BTreeSet<Space>,
}

impl Attempts {
    /// Sees to it that another one makes sense after this fault; else the fault is the answer.
    pub(super) async fn again(
        &mut self,
        connection: &mut PgConnection,
        fault: Fault,
    ) -> Result<(), StoreError> {
        self.made += 1;
        let passes = match &fault {
            Fault::Unlocked(space) => self.spaces.insert(space.clone()),
            Fault::Unfounded(spaces) => {
                found(connection, spaces).await?;
                true
            }
            Fault::Overtaken => true,
            Fault::Sql(error) => collided(error),
            Fault::Store(_) => false,
        };
        if passes && self.made < limits::POSTGRES_ATTEMPTS {
            tracing::debug!(?fault, "once more");
            Ok(())
        } else {
            Err(fault.into())
        }
    }
}

/// Applies the changes in their order.
pub(super) async fn push(
    pool: &PgPool,
    access: &Access,
    changes: &[Change],
    mode: Mode,
    now: UnixMillis,
) -> Result<Vec<Verdict>, StoreError> {
    let mut connection = pool.acquire().await.map_err(fault)?;
    let mut attempts = Attempts::default();
    let mut batch = Batch {
        access,
        changes,
        mode,
        now,
        careful: false,
    };
    loop {
        match batch.attempt(&mut connection, &attempts.spaces).await {
            Ok(verdicts) => return Ok(verdicts),
            Err(Fault::Sql(error)) if of_the_data(&error) && !batch.careful => {
                tracing::warn!(%error, "a batch was refused; trying its changes one by one");
                batch.careful = true;
            }
            Err(fault) => attempts.again(&mut connection, fault).await?,
        }
    }
}

/// A transaction under the locks of these spaces.
pub(super) async fn locked<'c>(
    connection: &'c mut PgConnection,
    spaces: &BTreeSet<Space>,
) -> Result<(PgTransaction<'c>, BTreeMap<Space, Seq>), Fault> {
    let mut transaction = connection.begin().await?;
    let heads = lock(&mut transaction, spaces).await?;
    if heads.len() < spaces.len() {
        return Err(Fault::Unfounded(spaces.clone()));
    }
    Ok((transaction, heads))
}

struct Batch<'a> {
    access: &'a Access,
    changes: &'a [Change],
    mode: Mode,
    now: UnixMillis,
    /// Whether each change gets a savepoint.
    careful: bool,
}

impl<'a> Batch<'a> {
    async fn attempt(
        &self,
        connection: &mut PgConnection,
        more: &BTreeSet<Space>,
    ) -> Result<Vec<Verdict>, Fault> {
        let mut spaces = spaces(connection, self.access, self.changes).await?;
        spaces.extend(more.iter().cloned());
        let (mut transaction, heads) = locked(connection, &spaces).await?;
        if self.careful {
            let first = self.one_by_one(&mut transaction, heads).await?;
            if self.stands(&first) {
                transaction.commit().await?;
                return Ok(first);
            }
            transaction.rollback().await?;
            let (mut transaction, heads) = locked(connection, &spaces).await?;
            let mut draft = self.draft(&mut transaction, self.changes, heads).await?;
            let mut verdicts = self.refuse(&mut draft, first);
            flush(&mut transaction, &draft, &mut verdicts).await?;
            transaction.commit().await?;
            return Ok(verdicts);
        }
        let mut draft = self.draft(&mut transaction, self.changes, heads).await?;
        let untouched = (self.mode != Mode::Each).then(|| draft.fork());
        let mut verdicts = self.apply(&mut draft)?;
        if let Some(untouched) = untouched.filter(|_| !self.stands(&verdicts)) {
            draft = untouched;
            verdicts = self.refuse(&mut draft, verdicts);
        }
        flush(&mut transaction, &draft, &mut verdicts).await?;
        transaction.commit().await?;
        Ok(verdicts)
    }

    /// Whether what the changes have come to is to be kept.
    fn stands(&self, verdicts: &[Verdict]) -> bool {
        let taken = |verdict: &Verdict| matches!(verdict, Verdict::Success(_));
        match self.mode {
            Mode::Each => true,
            Mode::Together => verdicts.iter().all(taken),
            Mode::Doomed => false,
        }
    }

    async fn draft(
        &self,
        connection: &mut PgConnection,
        changes: &[Change],
        heads: BTreeMap<Space, Seq>,
    ) -> Result<Draft<'a>, Fault> {
        let loaded = load(connection, self.access, changes, heads).await?;
        Ok(Draft::new(self.access, self.now, loaded))
    }

    fn apply(&self, draft: &mut Draft<'a>) -> Result<Vec<Verdict>, Fault> {
        let verdicts = self.changes.iter().map(|change| draft.apply(change));
        Ok(verdicts.collect::<Result<_, _>>()?)
    }

    fn refuse(&self, draft: &mut Draft<'a>, first: Vec<Verdict>) -> Vec<Verdict> {
        let changes = self.changes.iter().zip(first);
        changes
            .map(|(change, first)| draft.refuse(change, first))
            .collect()
    }

    async fn one_by_one(
        &self,
        transaction: &mut PgTransaction<'_>,
        mut heads: BTreeMap<Space, Seq>,
    ) -> Result<Vec<Verdict>, Fault> {
        let mut verdicts = Vec::with_capacity(self.changes.len());
        for change in self.changes {
            let mut savepoint = transaction.begin().await?;
            match self.single(&mut savepoint, change, heads.clone()).await {
                Ok((verdict, moved)) => {
                    savepoint.commit().await?;
                    heads.extend(moved);
                    verdicts.push(verdict);
                }
                Err(Fault::Sql(error)) if of_the_data(&error) => {
                    tracing::error!(%error, "a change could not be stored");
                    savepoint.rollback().await?;
                    verdicts.push(Verdict::Failed(Failure::internal()));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(verdicts)
    }

    async fn single(
        &self,
        connection: &mut PgConnection,
        change: &'a Change,
        heads: BTreeMap<Space, Seq>,
    ) -> Result<(Verdict, BTreeMap<Space, Seq>), Fault> {
        let changes = std::slice::from_ref(change);
        let mut draft = self.draft(connection, changes, heads).await?;
        let mut verdicts = [draft.apply(change)?];
        flush(connection, &draft, &mut verdicts).await?;
        let [verdict] = verdicts;
        Ok((verdict, draft.moved))
    }
}

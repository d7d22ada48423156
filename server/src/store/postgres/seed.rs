//! Importing records for a demo or a test.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, PgPool};

use super::draft::{Key, Written};
use super::fault::fault;
use super::flush::{heads, insert};
use super::push::{Attempts, Fault, locked};
use crate::access::{Sharing, Space};
use crate::data::RecordData;
use crate::decide::Record;
use crate::ids::{ClientId, RecordId, RecordType, Stamp, UnixMillis, UserId, Version};
use crate::ruling::Located;
use crate::store::{Seeded, StoreError};

/// Records in one statement.
const CHUNK: usize = 1000;

/// What is to be imported.
pub(super) struct Import {
    pub(super) user: UserId,
    pub(super) record_type: RecordType,
    pub(super) sharing: Sharing,
    pub(super) records: Vec<(RecordId, RecordData)>,
    pub(super) now: UnixMillis,
}

/// Imports the records, unless there are any of that type. Of two servers that start at once, one
/// does.
pub(super) async fn seed(pool: &PgPool, import: &Import) -> Result<Seeded, StoreError> {
    let mut connection = pool.acquire().await.map_err(fault)?;
    let mut attempts = Attempts::default();
    loop {
        match import.attempt(&mut connection).await {
            Ok(seeded) => return Ok(seeded),
            Err(fault) => attempts.again(&mut connection, fault).await?,
        }
    }
}

impl Import {
    async fn attempt(&self, connection: &mut PgConnection) -> Result<Seeded, Fault> {
        let located = self.located()?;
        let mut spaces: BTreeSet<Space> = located.iter().map(|(_, l)| l.space.clone()).collect();
        spaces.insert(Space::Own(self.user.clone()));
        let (mut transaction, mut heads_now) = locked(connection, &spaces).await?;
        let sql = "SELECT EXISTS (SELECT 1 FROM records WHERE realm = $1 AND type = $2)";
        let present: bool = sqlx::query_scalar(sql)
            .bind(self.sharing.realm(&self.user))
            .bind(self.record_type.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        if present {
            return Ok(Seeded::Present);
        }
        let mut moved = BTreeMap::new();
        let count = located.len();
        let mut written: Vec<(Key, Written)> = Vec::with_capacity(count);
        for (key, located) in located {
            let head = heads_now.get_mut(&located.space);
            let head = head.ok_or_else(|| Fault::Unlocked(located.space.clone()))?;
            *head = head.saturating_add(1);
            moved.insert(located.space.clone(), *head);
            let seq = *head;
            written.push((
                key,
                Written {
                    realm: self.sharing.realm(&self.user).to_owned(),
                    located,
                    seq,
                    replaces: None,
                },
            ));
        }
        for chunk in written.chunks(CHUNK) {
            let chunk: Vec<_> = chunk.iter().map(|(key, written)| (key, written)).collect();
            insert(&mut transaction, &chunk, self.now).await?;
        }
        heads(&mut transaction, &moved).await?;
        transaction.commit().await?;
        Ok(Seeded::Imported(count))
    }

    fn located(&self) -> Result<Vec<(Key, Located)>, StoreError> {
        let client = ClientId::new("seed").map_err(|_| StoreError::Damaged("the seed's client"))?;
        let at = Stamp::at(self.now, &client);
        let records = self.records.iter().map(|(id, data)| {
            let space = self.sharing.space(&self.user, data);
            let space = space.map_err(|_| StoreError::NoEntity(id.clone()))?;
            let record = Record {
                version: Version::NONE.next(),
                data: Some(data.clone()),
                at: at.clone(),
                client: client.clone(),
            };
            let key = (self.record_type.clone(), id.clone());
            Ok((key, Located { space, record }))
        });
        records.collect()
    }
}

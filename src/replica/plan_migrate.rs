//! Decides what a new version of the app's data changes: every record, what the backend has of it,
//! and everything that is queued, as the app's function makes them.
//!
//! Queued mutations keep their ids, their place and their state. A partial update sends, beside what
//! it changed, the fields that the migration has made different from its migrated base: a field that
//! was renamed leaves under its old name and arrives under its new one. What comes from elsewhere (a rescue
//! copy, a backup) is migrated in the same way before it is taken over.

use super::collection::{Collection, Record};
use super::plan::{Now, Plan, checked_key};
use super::plan_import::{Import, Left};
use super::{FIRST_VERSION, Replica};
use crate::conflict::{Conflict, same};
use crate::error::{Code, Error, Result};
use crate::model::{Held, Key, Mutation, Name};
use crate::shown::{Names, Shown};
use crate::store::Fact;
use crate::value::Value;
use std::rc::Rc;

/// The app's function, for one collection, with what has to be checked around it.
struct Step<'a, V> {
    name: &'a Name,
    key_field: &'a str,
    from: u32,
    migrate: &'a dyn Fn(&Name, &V, u32) -> Result<V>,
}

impl<V: Value> Step<'_, V> {
    fn one(&self, key: &Key, value: &V) -> Result<V> {
        if !value.is_sound() {
            return Ok(value.clone()); // it is told of, and must not keep the rest from being migrated
        }
        let failed = |what: &str| {
            let (name, from) = (self.name, self.from);
            let message = format!("{name}: the record \"{key}\" of version {from}: {what}");
            Error::new(Code::MigrationFailed, message)
        };
        let new = (self.migrate)(self.name, value, self.from).map_err(|e| failed(&e.message))?;
        match checked_key(self.key_field, &new) {
            Ok(same) if same == *key => Ok(new),
            Ok(_) => Err(failed("migrate has changed its key")),
            Err(error) => Err(failed(&error.message)),
        }
    }

    fn maybe(&self, key: &Key, value: Option<&V>) -> Result<Option<V>> {
        value.map(|value| self.one(key, value)).transpose()
    }
}

/// `names`, and those fields in which two records differ.
fn with_differences<V: Value>(names: &Names, a: &V, b: Option<&V>) -> Names {
    let mut all = names.to_vec();
    let mut fields = a.names();
    fields.extend(b.map(Value::names).unwrap_or_default());
    for field in fields {
        if b.is_none_or(|b| !a.same_field(b, &field)) && !all.contains(&field) {
            all.push(field);
        }
    }
    all.into()
}

impl<V: Value> Replica<V> {
    /// Whether a declared collection is of an older version than this.
    #[must_use]
    pub fn needs_migration(&self, to: u32) -> bool {
        let declared = self.collections.iter().filter(|c| c.declared);
        self.data_version.max(FIRST_VERSION) < to || { declared }
            .any(|c| self.data_version_of(&c.spec.name) < to)
    }

    /// Migrates everything of the declared collections and makes it true, within
    /// [`Replica::begin`] and [`Replica::commit`]. The others stay of the version that they are of.
    ///
    /// # Errors
    /// `migration-failed`, naming the record; the caller rolls back.
    pub fn plan_migration(
        &mut self,
        to: u32,
        migrate: &dyn Fn(&Name, &V, u32) -> Result<V>,
        now: Now,
    ) -> Result<Plan<V>> {
        let mut facts = Vec::new();
        for collection in self.collections.iter().filter(|c| c.declared) {
            let step = Step {
                name: &collection.spec.name,
                key_field: &collection.spec.key,
                from: self.data_version_of(&collection.spec.name),
                migrate,
            };
            if step.from == to {
                continue;
            }
            for (key, record) in collection.records() {
                self.migrate_record(&step, key, record, &mut facts)?;
            }
        }
        self.migrate_conflicts(to, migrate, &mut facts);
        let others = self.collections.iter().filter(|c| !c.declared);
        let of = |c: &Collection<V>| (c.spec.name.clone(), self.data_version_of(&c.spec.name));
        let older = others.map(of).filter(|(_, version)| *version < to);
        facts.push(Fact::Schema {
            version: to,
            older: older.collect(),
        });
        let mut plan = Plan::default();
        for fact in facts {
            self.put_true(fact, now, &mut plan);
        }
        Ok(plan)
    }

    /// What the conflict log has may be put back (`conflicts.resolve`). What cannot be migrated stays as it is:
    /// it is only history.
    fn migrate_conflicts(
        &self,
        to: u32,
        migrate: &dyn Fn(&Name, &V, u32) -> Result<V>,
        facts: &mut Vec<Fact<V>>,
    ) {
        let migrated = |known: &Rc<Conflict<V>>| {
            let collection = self.collection(&known.collection)?;
            let step = Step {
                name: &known.collection,
                key_field: &collection.spec.key,
                from: self.data_version_of(&known.collection),
                migrate,
            };
            let side = |value: &Option<V>| step.maybe(&known.key, value.as_ref()).ok();
            (step.from != to).then_some(())?;
            Some(Rc::new(Conflict {
                base: side(&known.base)?,
                local: side(&known.local)?,
                remote: side(&known.remote)?,
                result: side(&known.result)?,
                ..(**known).clone()
            }))
        };
        let (old, new) = (self.conflicts.iter(), self.conflicts.iter().map(migrated));
        // All of them again, so that they keep their order.
        let new: Vec<_> = old
            .zip(new)
            .map(|(old, new)| new.unwrap_or_else(|| old.clone()))
            .collect();
        if new
            .iter()
            .zip(&self.conflicts)
            .any(|(a, b)| !Rc::ptr_eq(a, b))
        {
            facts.extend(new.into_iter().map(Fact::Conflicted));
        }
    }

    /// Brings queued mutations from elsewhere to this version of the data: `versions` are what each is of,
    /// where that is known. Answers those that cannot be, for a rescue copy; the first of them refuses a backup.
    ///
    /// # Errors
    /// `database-newer`, `migration-failed`.
    #[inline(never)]
    pub fn migrate_import(
        &self,
        import: &mut Import<V>,
        versions: &[Option<u32>],
        to: u32,
        migrate: &dyn Fn(&Name, &V, u32) -> Result<V>,
    ) -> Result<Left> {
        let mut left = Left::default();
        let (mut older, mut failed) = (Vec::new(), Vec::new());
        // As they were, and as they are.
        let mut done: Vec<(Mutation<V>, Held<V>)> = Vec::new();
        let all = std::mem::take(&mut import.mutations);
        for (held, version) in all.into_iter().zip(versions) {
            let (old, from) = (held.mutation.clone(), version.unwrap_or(to));
            match self.migrated_held(held, (from, to), &done, &mut older, migrate) {
                Ok(held) => done.push((old, held)),
                Err(error) if import.late => {
                    left.nos.push(old.no);
                    left.why.get_or_insert(error);
                    failed.push((old.collection, old.key));
                }
                Err(error) => return Err(error),
            }
        }
        for (old, held) in done {
            // What stands behind one that is left must not overtake it.
            if failed
                .iter()
                .any(|(name, key)| *name == old.collection && *key == old.key)
            {
                left.nos.push(old.no);
            } else {
                import.mutations.push(held);
            }
        }
        if !older.is_empty() {
            older.extend(self.older.iter().cloned());
            let (version, older) = (to, older.into());
            import.schema = Some(Fact::Schema { version, older });
        }
        Ok(left)
    }

    fn migrated_held(
        &self,
        held: Held<V>,
        (from, to): (u32, u32),
        done: &[(Mutation<V>, Held<V>)],
        older: &mut Vec<(Name, u32)>,
        migrate: &dyn Fn(&Name, &V, u32) -> Result<V>,
    ) -> Result<Held<V>> {
        let m = &held.mutation;
        let newer = |known: u32| {
            let Mutation {
                collection, key, ..
            } = m;
            let what =
                format!("{collection}: the change of \"{key}\" is of version {from} of the data");
            Error::new(Code::DatabaseNewer, format!("{what}, not {known}"))
        };
        if from > to {
            return Err(newer(to));
        }
        let Some(collection) = self.collection(&m.collection) else {
            // It stays of its version, with all of its collection.
            let said = older.iter().find(|(name, _)| *name == m.collection);
            let here = match (said, self.position(&m.collection)) {
                (Some((_, version)), _) => *version,
                (None, Some(_)) => self.data_version_of(&m.collection),
                (None, None) => {
                    older.extend((from < to).then(|| (m.collection.clone(), from)));
                    from
                }
            };
            return if here == from {
                Ok(held)
            } else {
                Err(newer(here))
            };
        };
        if from == to {
            return Ok(held);
        }
        let step = Step {
            name: &collection.spec.name,
            key_field: &collection.spec.key,
            from,
            migrate,
        };
        let same =
            |(old, _): &&(Mutation<V>, Held<V>)| old.collection == m.collection && old.key == m.key;
        let before = m.behind.then(|| done.iter().rfind(same)).flatten();
        let before =
            before.and_then(|(old, new)| old.value.clone().zip(new.mutation.value.clone()));
        Ok(Held {
            mutation: migrated(&step, m, before.as_ref())?,
            shadow: step.maybe(&m.key, held.shadow.as_ref())?,
            version: held.version,
            confirmed: held.confirmed.clone(),
        })
    }

    fn migrate_record(
        &self,
        step: &Step<'_, V>,
        key: &Key,
        record: &Record<V>,
        facts: &mut Vec<Fact<V>>,
    ) -> Result<()> {
        let remote = step.maybe(key, record.remote())?;
        if let Some(pending) = &record.pending {
            let mut before = None;
            for no in [Some(pending.head), pending.tail].into_iter().flatten() {
                let Some(m) = self.outbox.get(no) else {
                    continue;
                };
                let mutation = migrated(step, m, before.as_ref())?;
                before = m.value.clone().zip(mutation.value.clone());
                facts.push(Fact::Held(Box::new(Held {
                    mutation,
                    shadow: remote.clone(),
                    version: record.version,
                    confirmed: self.confirmed_of(&m.collection, &m.key),
                })));
            }
            return Ok(());
        }
        let (collection, key) = (step.name.clone(), key.clone());
        if !same(remote.as_ref(), record.remote()) {
            facts.push(Fact::Remote {
                collection: collection.clone(),
                key: key.clone(),
                value: remote,
                version: record.version,
            });
        }
        if record.local.is_some() {
            let value = step.maybe(&key, record.value.as_ref())?;
            if !same(value.as_ref(), record.value.as_ref()) {
                facts.push(Fact::Local {
                    collection,
                    key,
                    value,
                });
            }
        }
        Ok(())
    }
}

/// A queued mutation in the new version. `before` is what the one before it makes of the record, in the
/// old version and in the new.
fn migrated<V: Value>(
    step: &Step<'_, V>,
    m: &Mutation<V>,
    before: Option<&(V, V)>,
) -> Result<Mutation<V>> {
    let key = &m.key;
    let value = step.maybe(key, m.value.as_ref())?;
    let base = step.maybe(key, m.base.as_ref())?;
    let on = match m.behind {
        true => before.cloned(),
        false => m.base.clone().zip(base.clone()),
    };
    let changed = match (&m.changed, &value) {
        (Some(names), Some(value)) => {
            let on = on.as_ref().map(|(_, new)| new);
            Some(with_differences(names, value, on))
        }
        (changed, _) => changed.clone(),
    };
    let shows = match &m.shows {
        Shown::Own => Shown::Own,
        Shown::Before => Shown::Before,
        Shown::Record(record) => Shown::Record(step.maybe(key, record.as_ref())?),
        Shown::Patch(patch, names) => match &on {
            // The patch is no record by itself: it is migrated on top of what it shows on.
            Some((old, new)) => {
                let patched = step.one(key, &old.patched(patch, names))?;
                let names = with_differences(names, &patched, Some(new));
                Shown::Patch(patched.picked(&names), names)
            }
            None => Shown::Patch(patch.clone(), names.clone()),
        },
    };
    Ok(Mutation {
        value,
        base,
        changed,
        shows,
        ..m.clone()
    })
}

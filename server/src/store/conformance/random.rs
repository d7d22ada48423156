//! Random stories against a plain model: users, entities, assignments that come and go, batches of
//! all kinds. After each step a verdict must be the model's, and after some steps a user who goes on
//! from their checkpoint (from the beginning where it is unknown) must hold what the model says is
//! open to them. The seed is printed with every failure.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::store::Horizons;

const STORIES: u64 = 12;
const STEPS: u64 = 150;

/// xorshift: the same story for the same seed, on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<'a>(&mut self, of: &'a [String]) -> &'a str {
        &of[self.roll(of.len())]
    }
}

/// A record of the model: `place` is a user for private ones, a site for shared ones.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    place: String,
    version: u64,
    text: Option<String>,
    changed: u64,
}

/// By the private owner, none for shared ones, and id.
type Table = BTreeMap<(Option<String>, String), Row>;

/// What the model knows. One for all stories: shared records of all are of one realm.
#[derive(Clone, Debug, Default)]
struct World {
    table: Table,
    /// When, and with which version, records have left a place: by place and id.
    left: BTreeMap<(String, String), (u64, u64)>,
    /// The newest version of the tombstones that were purged, by owner.
    purged: BTreeMap<Option<String>, u64>,
}

impl World {
    fn purge(&mut self, horizon: u64) {
        let purged = &mut self.purged;
        let mut note = |owner: &Option<String>, version: u64| {
            let newest = purged.entry(owner.clone()).or_default();
            *newest = version.max(*newest);
        };
        self.table.retain(|(owner, _), row| {
            let kept = row.text.is_some() || row.changed >= horizon;
            note(owner, if kept { 0 } else { row.version });
            kept
        });
        self.left.retain(|_, (when, version)| {
            let kept = *when >= horizon;
            note(&None, if kept { 0 } else { *version });
            kept
        });
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Success(u64),
    Conflict(u64),
    Failed(FailureCode),
}

fn told(verdict: &Verdict) -> Told {
    match verdict {
        Verdict::Success(version) => Told::Success(version.0),
        Verdict::Conflict { version, .. } => Told::Conflict(version.0),
        Verdict::Failed(failure) => Told::Failed(failure.code),
    }
}

/// One change as the story tells it; a whole record says its site, where it is shared.
#[derive(Clone, Debug)]
struct Deed<'a> {
    shared: bool,
    record: &'a str,
    base: u64,
    /// What a whole record says; none for a delete.
    site: Option<&'a str>,
    create: bool,
}

impl Deed<'_> {
    fn change(&self, mutation: &str) -> Change {
        let edit = match (self.site, self.create) {
            (None, _) => Edit::Delete,
            (Some(site), true) => Edit::Create(at(site, mutation)),
            (Some(site), false) => Edit::Replace(at(site, mutation)),
        };
        if self.shared {
            task(mutation, self.record, self.base, edit)
        } else {
            change(mutation, self.record, self.base, edit)
        }
    }

    /// The rules in other words than the server's.
    fn apply(
        &self,
        world: &mut World,
        user: &str,
        sites: &BTreeSet<&str>,
        by: &str,
        now: u64,
    ) -> Told {
        let forbidden = Told::Failed(FailureCode::Forbidden);
        let key = (
            (!self.shared).then(|| user.to_owned()),
            self.record.to_owned(),
        );
        let row = world.table.get(&key).cloned();
        if self.shared {
            let lives = row.as_ref().map(|row| row.place.as_str());
            let closed = |place: &str| !sites.contains(place);
            if self.site.is_some_and(closed) || lives.is_some_and(closed) {
                return forbidden;
            }
            if lives.is_none() && !self.create {
                return forbidden;
            }
        }
        let version = row.as_ref().map_or(0, |row| row.version);
        let live = row.as_ref().is_some_and(|row| row.text.is_some());
        let fits = match (&row, self.create, self.site.is_none()) {
            (None, true, _) => true,
            (None, _, true) => return Told::Success(0),
            (None, ..) => return Told::Failed(FailureCode::NotFound),
            // All stories are told by one client: every tombstone is its own.
            (Some(_), true, _) => !live && (self.base == 0 || self.base == version),
            (Some(_), _, true) if !live => return Told::Success(version),
            (Some(_), ..) => live && self.base == version,
        };
        if !fits {
            return Told::Conflict(version);
        }
        let old_place = row.map_or_else(|| user.to_owned(), |row| row.place);
        let place = match (self.shared, self.site) {
            (true, Some(site)) => site.to_owned(),
            _ => old_place.clone(),
        };
        let moved = u64::from(self.shared && version != 0 && place != old_place);
        let next = match version {
            0 => {
                self.base
                    .max(*world.purged.entry(key.0.clone()).or_default())
                    + 1
            }
            version => version + 1 + moved,
        };
        let text = self.site.map(|site| at(site, by).as_str().to_owned());
        if moved > 0 {
            let id = &key.1;
            world.left.remove(&(place.clone(), id.clone()));
            world.left.insert((old_place, id.clone()), (now, next - 1));
        }
        world.table.insert(
            key,
            Row {
                place,
                version: next,
                text,
                changed: now,
            },
        );
        Told::Success(next)
    }
}

/// The people and things of one story: no other story has them.
struct Cast {
    users: Vec<String>,
    sites: Vec<String>,
    records: Vec<String>,
}

impl Cast {
    fn of(seed: u64) -> Self {
        let names = |names: &[&str]| names.iter().map(|name| format!("{name}{seed}")).collect();
        Self {
            users: names(&["ann", "bob", "carl"]),
            sites: names(&["n", "s", "w"]),
            records: names(&["p", "q", "r", "t"]),
        }
    }

    fn deed(&self, dice: &mut Dice, table: &Table, user: &str) -> Deed<'_> {
        let (shared, record) = (dice.roll(4) > 0, dice.pick(&self.records));
        let key = ((!shared).then(|| user.to_owned()), record.to_owned());
        let version = table.get(&key).map_or(0, |row| row.version);
        let site = (dice.roll(5) > 0).then(|| dice.pick(&self.sites));
        Deed {
            shared,
            record,
            // Mostly right, sometimes stale.
            base: match dice.roll(5) {
                0 => version.saturating_sub(1),
                1 => 0,
                _ => version,
            },
            site,
            create: site.is_some() && dice.roll(3) == 0,
        }
    }
}

/// What one user's device holds.
#[derive(Default)]
struct Device {
    checkpoint: Option<String>,
    /// Tombstones as well, as clients keep them: only what is newer counts.
    held: BTreeMap<(String, String), (u64, Option<String>)>,
}

impl Device {
    async fn pull(&mut self, store: &impl Store, access: &Access, limit: usize) {
        // A few hundred records, one a page: more is a reader who never comes to the end.
        for _ in 0..1000 {
            let query = since(self.checkpoint.as_deref(), limit);
            let page = match store.pull(access, query).await {
                Ok(page) => page,
                Err(StoreError::CheckpointUnknown) => {
                    *self = Self::default();
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            for record in page.records {
                let key = (
                    record.record_type.as_str().to_owned(),
                    record.id.to_string(),
                );
                let (version, data) = (record.version_number.0, record.data);
                let known = self.held.get(&key).map_or(0, |(version, _)| *version);
                if version > known {
                    let text = data.map(|data| data.as_str().to_owned());
                    self.held.insert(key, (version, text));
                }
            }
            self.checkpoint = Some(page.checkpoint);
            if !page.has_more {
                return;
            }
        }
        panic!("no end");
    }
}

impl Device {
    fn live(&self) -> BTreeMap<(String, String), String> {
        let live = self.held.iter();
        live.filter_map(|(key, (_, text))| Some((key.clone(), text.clone()?)))
            .collect()
    }
}

fn open(table: &Table, user: &str, sites: &BTreeSet<&str>) -> BTreeMap<(String, String), String> {
    let visible = table.iter().filter_map(|((owner, id), row)| {
        let name = match owner {
            Some(owner) if owner == user => "sites",
            None if sites.contains(row.place.as_str()) => "tasks",
            _ => return None,
        };
        Some(((name.to_owned(), id.clone()), row.text.clone()?))
    });
    visible.collect()
}

pub(crate) async fn stories_end_as_the_model_says(store: Shared<impl Store>) {
    let mut world = World::default();
    for seed in 1..=STORIES {
        story(&*store, &mut world, seed).await;
    }
}

async fn story(store: &impl Store, world: &mut World, seed: u64) {
    let cast = Cast::of(seed);
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut assigned: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut devices: BTreeMap<&str, Device> = BTreeMap::new();
    for now in (0..STEPS).map(|step| NOW.0 + seed * STEPS + step) {
        let user = dice.pick(&cast.users);
        let sites = assigned.entry(user).or_default();
        let site = dice.pick(&cast.sites);
        if dice.roll(5) == 0 && !sites.remove(site) {
            sites.insert(site);
        }
        let sites = sites.clone();
        let access = team(user, &sites.iter().copied().collect::<Vec<_>>());

        let mut after = world.clone();
        let (mut changes, mut model, mut deeds) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..=dice.roll(3) {
            let deed = cast.deed(&mut dice, &after.table, user);
            let name = format!("m{now}-{n}");
            model.push(deed.apply(&mut after, user, &sites, &name, now));
            changes.push(deed.change(&name));
            deeds.push(deed);
        }
        let context = || format!("seed {seed}, {user} of {sites:?}: {deeds:?}");
        let atomic = dice.roll(3) == 0;
        let mode = if atomic { Mode::Together } else { Mode::Each };
        let push = |changes| store.push(&access, changes, mode, UnixMillis(now));
        let verdicts = push(changes.clone()).await.unwrap();
        if atomic && !model.iter().all(|told| matches!(told, Told::Success(_))) {
            let none = verdicts.iter().all(|v| !matches!(v, Verdict::Success(_)));
            assert!(none, "{}: {verdicts:?}", context());
        } else {
            let told: Vec<_> = verdicts.iter().map(told).collect();
            assert_eq!(told, model, "{}", context());
            *world = after;
        }
        if dice.roll(4) == 0 {
            let again = push(changes).await.unwrap();
            assert_eq!(again, verdicts, "a repeat: {}", context());
        }
        if dice.roll(15) == 0 {
            let horizon = now - dice.roll(20) as u64;
            let horizons = Horizons {
                past: UnixMillis(horizon),
                open_conflicts: UnixMillis(0),
            };
            crate::retention::purge(store, horizons).await.unwrap();
            world.purge(horizon);
        }
        if dice.roll(3) == 0 {
            let device = devices.entry(user).or_default();
            device.pull(store, &access, 1 + dice.roll(5)).await;
            assert_eq!(
                device.live(),
                open(&world.table, user, &sites),
                "{}",
                context()
            );
        }
    }
}

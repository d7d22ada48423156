//! The account of what a device may lose, and of what it owes again: another file of the oracle.
//!
//! What a record followed exactly can be after a loss is what it was at the last moment that is safe, or
//! anything it was since.

use super::oracle::{Device, End, Kind, Logged, Op, Oracle, Place, State, Whose, is_exact};
use super::world::World;
use std::collections::{BTreeMap, BTreeSet};

/// How long a change may take into the rescue copy: twice and a half the time that the driver waits.
pub(crate) const RESCUED_MS: u64 = 100;

/// The time in which a tab reads what there is and hands over what the copy lacks.
const MADE_GOOD_MS: u64 = 2 * RESCUED_MS;

/// What a record could be, from when on, and by which tab.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    pub(crate) moment: u64,
    pub(crate) tab: usize,
    pub(crate) at_ms: u64,
    pub(crate) states: BTreeSet<State>,
}

/// What else is known of tabs and devices.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// When tabs died; 0: the tab's changes go to no rescue copy.
    pub(crate) died_ms: BTreeMap<usize, u64>,
    /// The device of each tab whose rescue copy follows, and since when.
    pub(crate) kept_ms: BTreeMap<usize, (usize, u64)>,
    /// Devices that have lost something.
    pub(crate) reborn: BTreeSet<usize>,
    /// What was written right before a loss: it may have been sent and be in no copy.
    pub(crate) on_its_way: BTreeSet<Whose>,
    /// Devices whose copy comes later than what they write.
    pub(crate) late: BTreeSet<usize>,
    /// Marks that came with a backup: when, and to which device.
    pub(crate) owed: BTreeMap<u32, (u64, usize)>,
    /// Devices that a backup may have brought a mark to. They are kept when those lose it: it may come
    /// back with the rescue copy.
    pub(crate) brought: BTreeMap<u32, BTreeSet<usize>>,
    /// The version of the app in a tab.
    pub(crate) versions: BTreeMap<usize, u32>,
    /// The version of a device's data, and the tab that made it.
    pub(crate) schemas: BTreeMap<usize, (u32, usize)>,
}

impl Oracle {
    /// The moment that it is now.
    pub(crate) fn now(&self) -> u64 {
        self.moments
    }

    /// A tab opens with this version of the app.
    pub(crate) fn opens(&mut self, tab: usize, version: u32) {
        self.losses.versions.insert(tab, version);
    }

    /// This tab's changes do not get into the rescue copy.
    pub(crate) fn unkept(&mut self, client: usize, tab: usize) {
        self.losses.died_ms.insert(tab, 0);
        self.losses.late.insert(client);
    }

    /// From now on the rescue copy follows what this tab does, and has what was missing in it soon.
    pub(crate) fn kept(&mut self, client: usize, tab: usize, now_ms: u64) {
        self.losses.kept_ms.insert(tab, (client, now_ms));
    }

    /// A copy is taken in: what was made of it before, under which ids, may be lost, or was not yet written there.
    pub(crate) fn taken_in(&mut self, client: usize) {
        self.travelled.retain(|(c, ..), _| *c != client);
    }

    /// What is known of a device's disk, to be put back with it.
    pub(crate) fn device(&self, client: usize) -> Device {
        self.devices[client].clone()
    }

    fn each_exact(
        &mut self,
        client: usize,
        mut change: impl FnMut(&Place, &mut super::oracle::Exact),
    ) {
        let own = self.exact.iter_mut().filter(|((c, _), _)| *c == client);
        own.for_each(|((_, place), exact)| change(place, exact));
    }

    fn begin_anew(&mut self, client: usize) {
        self.losses.reborn.insert(client);
        self.shows.retain(|(c, _), _| *c != client);
        self.losses.owed.retain(|_, (_, c)| *c != client);
    }

    /// The database is gone. What was acknowledged is in the rescue copy: with strict durability all of
    /// it, else what a tab had the time to hand over.
    pub(crate) fn wiped(&mut self, client: usize, now_ms: u64, strict: bool) {
        self.begin_anew(client);
        // That a key stood for another is lost as well: nobody can tell that both are one record.
        let moved = std::mem::take(&mut self.devices[client].moved);
        for place in moved.keys() {
            self.loosen(client, place);
        }
        self.devices[client] = Device::default();
        self.losses.schemas.remove(&client);
        let died = self.losses.died_ms.clone();
        let until_ms = |tab: usize| died.get(&tab).copied().unwrap_or(now_ms);
        // A tab that is opened later makes good what one before it had not the time for.
        let kept = self.losses.kept_ms.clone();
        let later = |ended_ms: u64| {
            kept.iter().any(|(tab, (c, from_ms))| {
                *c == client && *from_ms >= ended_ms && until_ms(*tab) >= from_ms + MADE_GOOD_MS
            })
        };
        let in_time = |tab: usize, ended_ms: u64| {
            until_ms(tab) >= ended_ms + RESCUED_MS || (until_ms(tab) > 0 && later(ended_ms))
        };
        let safe =
            |tab: usize, ended_ms: u64| (strict && until_ms(tab) > 0) || in_time(tab, ended_ms);
        self.each_exact(client, |place, exact| {
            let local = |s: &State| s.is_some_and(|fields| fields.local);
            let local = place.1.starts_with('l') || exact.states.iter().any(local);
            if local || &*place.0 == "drafts" {
                exact.loose = true;
                exact.states = exact.ever.clone();
            }
            exact.go_back(|past| safe(past.tab, past.at_ms));
        });
        // A settled conflict that owes a write again, if what it owes was lost.
        let ops = &self.ops;
        let own = |mark: Option<u32>| mark.is_some_and(|n| ops[n as usize - 1].client == client);
        let owes = |(a, b): (Option<u32>, Option<u32>)| own(a) || own(b);
        for ((c, place), logged) in &mut self.conflicts {
            if *c == client {
                // The log has an entry before the copy has what it owes: it is strict only to whoever has
                // settled it, and was told.
                let told = |l: &Logged| {
                    let of = |op: &&Op| op.client == client && op.place == *place;
                    let mut resolved = ops.iter().filter(of).filter(|op| op.kind == Kind::Resolve);
                    resolved.any(|op| op.end == End::Acked && op.ended > l.moment)
                };
                let kept =
                    |l: &Logged| in_time(l.tab, l.at_ms) || (safe(l.tab, l.at_ms) && told(l));
                for l in logged.iter_mut().filter(|l| !kept(l)) {
                    l.result = l.result.filter(|marks| !owes(*marks));
                }
            }
        }
        // What does not show is queued before it ends: it may be what the copy has.
        let unsure = |op: &&Op| {
            op.client == client && op.hidden && op.end != End::Waiting && !safe(op.tab, op.ended_ms)
        };
        let hidden = self.ops.iter().filter(unsure);
        let hidden: Vec<Place> = hidden.map(|op| op.place.clone()).collect();
        for place in &hidden {
            self.loosen(client, place);
        }
        for op in self.ops.iter_mut().filter(|op| op.client == client) {
            let was_lost = match op.end {
                End::Acked => !safe(op.tab, op.ended_ms),
                End::Unknown => !in_time(op.tab, op.asked_ms),
                End::Waiting | End::Refused => false,
            };
            if was_lost {
                op.end = End::Unknown;
                let whose = (client, op.place.clone());
                self.losses.on_its_way.insert(whose);
            }
        }
    }

    /// A conflict was settled. Where one is followed exactly, it was with what the device itself had sent
    /// before a loss.
    pub(crate) fn met_its_past(&mut self, client: usize, place: &Place) {
        if self.losses.on_its_way.contains(&(client, place.clone())) {
            self.loosen(client, place);
        }
    }

    /// The user has given everything up that this device has.
    pub(crate) fn signed_out(&mut self, client: usize) {
        let own = self.of.keys().filter(|(c, _)| *c == client);
        let places: Vec<Place> = own.map(|(_, place)| place.clone()).collect();
        for place in &places {
            self.discarded(client, place);
        }
        self.begin_anew(client);
        self.devices[client] = Device::default();
        self.losses.schemas.remove(&client);
    }

    /// The disk is as it was at `moment`.
    pub(crate) fn power_lost(&mut self, client: usize, moment: u64, device: Device) {
        self.begin_anew(client);
        let schema = device.schema;
        self.devices[client] = device;
        match schema {
            Some(schema) => self.losses.schemas.insert(client, schema),
            None => self.losses.schemas.remove(&client),
        };
        self.each_exact(client, |_, exact| {
            exact.go_back(|past| past.moment <= moment);
        });
        for op in self.ops.iter_mut().filter(|op| op.client == client) {
            if op.end == End::Acked && op.ended > moment {
                op.end = End::Unknown;
            }
        }
        for ((c, _), logged) in &mut self.conflicts {
            if *c == client {
                logged.retain(|logged| logged.moment <= moment);
            }
        }
    }

    /// All of a backup was taken in: writes with these marks are to be found again.
    pub(crate) fn owed(&mut self, client: usize, marks: &[u32]) {
        let moment = self.moment();
        for n in marks {
            self.losses.owed.insert(*n, (moment, client));
        }
    }

    /// A backup with these marks is about to be taken in; whoever asked may not live to hear of it.
    pub(crate) fn brought(&mut self, client: usize, marks: &[u32]) {
        for n in marks {
            self.losses.brought.entry(*n).or_default().insert(client);
        }
    }

    /// The data of a device was migrated by a tab.
    pub(crate) fn migrated_by(&self, client: usize) -> Option<usize> {
        self.losses.schemas.get(&client).map(|(_, tab)| *tab)
    }
}

impl super::oracle::Exact {
    /// Back to the last moment that is safe, or anything since.
    fn go_back(&mut self, safe: impl Fn(&Past) -> bool) {
        if self.loose {
            return;
        }
        let at = self.past.iter().rposition(safe);
        if at.is_none() {
            self.states.insert(None);
        }
        for past in &self.past[at.unwrap_or(0)..] {
            self.states.extend(past.states.iter().copied());
        }
        // The next loss may lead back to what this one has left.
        let moment = at.map_or(0, |at| self.past[at].moment);
        self.past.truncate(at.map_or(0, |at| at + 1));
        self.past.push(Past {
            moment,
            tab: 0,
            at_ms: 0,
            states: self.states.clone(),
        });
    }
}

/// A device that has lost what it knew of the backend writes to a record that it does not know: what
/// comes of that is a conflict with its own past.
pub(crate) fn know_nothing(world: &World, client: usize, place: &Place) {
    let mut oracle = world.oracle.borrow_mut();
    if !oracle.losses.reborn.contains(&client) || !is_exact(&place.1) {
        return;
    }
    let user = world.clients[client].user;
    let address = (user, place.0.clone(), place.1.clone());
    let server = world.server.borrow();
    let there = server.rows.contains_key(&address);
    let late = oracle.losses.late.contains(&client);
    // What was sent right before it may arrive after it.
    let coming = oracle.losses.on_its_way.contains(&(client, place.clone()));
    if late || coming || (there && !oracle.knows(client, place)) {
        oracle.loosen(client, place);
    }
}

/// Whose writes of a record a mark is among: its device's, and that of the backup's.
pub(crate) fn whose(oracle: &Oracle, n: u32) -> (u64, Vec<Whose>) {
    let op = oracle.op(n);
    let mut all = vec![(op.client, op.place.clone())];
    match oracle.losses.owed.get(&n) {
        Some((moment, client)) => {
            if *client != op.client {
                all.push((*client, op.place.clone()));
            }
            (*moment, all)
        }
        None => (op.asked, all),
    }
}

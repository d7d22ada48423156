//! The account of what was asked for and what was promised, kept outside of the code under test.
//!
//! It knows a write by its mark, a number that the record carries; what was acknowledged by the
//! promise's end; what a disk has stored by the transactions that reached it; and what the server
//! was sent. Records that only one device touches (keys `o…` and `l…`) are followed exactly: the set
//! of states in which they can be. Of shared ones (`s…`) every acknowledged write must have left a
//! trace: an effect, a later write, a conflict, or the user's own word.

use super::keys;
use super::losses::{Losses, Past};
use super::record::Record;
use super::server::{Address, Server};
use super::world::World;
use landfall::error::Error;
use landfall::hlc::Hlc;
use landfall::model::{Action, Change, Verdict};
use landfall::store::{Entry, Fact, Gone};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// How far a clock may be ahead that the server has corrected: what others may pull it along, and
/// the noise of the correction.
const AHEAD_MAX_MS: f64 = 65_000.0;

/// Longest time between a decision and its transaction's end, about.
const DECIDED_MS: u64 = 50;

/// Collection and key.
pub(crate) type Place = (Rc<str>, Rc<str>);
pub(crate) type Whose = (usize, Place);

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Put,
    /// Of one field.
    Update(&'static str),
    Delete,
    Promote,
    /// Of a conflict. What it leaves is told by the conflict log.
    Resolve,
    /// No write: what a transaction has read, which must still be so.
    Look(Option<(u32, u32)>),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Waiting,
    Acked,
    Refused,
    /// Its tab died first.
    Unknown,
}

/// One write.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) client: usize,
    pub(crate) tab: usize,
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) local: bool,
    pub(crate) hidden: bool,
    /// The tab showed no such record when it was asked, or nobody but this device knew of it.
    pub(crate) blind: bool,
    pub(crate) end: End,
    /// When it was asked for and when it ended, in the order of all such moments.
    pub(crate) asked: u64,
    pub(crate) ended: u64,
    pub(crate) asked_ms: u64,
    pub(crate) ended_ms: u64,
}

/// A conflict that was settled: when, and the marks of what came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged {
    pub(crate) moment: u64,
    pub(crate) tab: usize,
    pub(crate) at_ms: u64,
    pub(crate) result: Option<(Option<u32>, Option<u32>)>,
}

/// What took effect on the server.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) at_ms: u64,
    pub(crate) client: usize,
    pub(crate) address: Address,
    pub(crate) action: Action,
    pub(crate) data: Option<Record>,
    pub(crate) sent: Option<Record>,
}

/// A record that only one device touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fields {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) local: bool,
}

pub(crate) type State = Option<Fields>;

/// In which states a record can be.
#[derive(Debug, Clone)]
pub(crate) struct Exact {
    pub(crate) states: BTreeSet<State>,
    pub(crate) ever: BTreeSet<State>,
    /// What it could be before.
    pub(crate) past: Vec<Past>,
    /// The user has given something up: any earlier state will do.
    pub(crate) loose: bool,
    last_tab: usize,
}

impl Default for Exact {
    fn default() -> Self {
        Self {
            states: BTreeSet::from([None]),
            ever: BTreeSet::from([None]),
            past: Vec::new(),
            loose: false,
            last_tab: 0,
        }
    }
}

/// What is known of a device's disk and clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Device {
    /// Of each mutation the record, and whether there is one after it.
    places: BTreeMap<u64, (Place, bool)>,
    /// Ids on the wire of those that came from another database.
    origins: BTreeMap<u64, Rc<str>>,
    /// The version of the app's data, and the tab that made it.
    pub(crate) schema: Option<(u32, usize)>,
    /// What it knows of the backend's records: versions, and whether there is one.
    versions: BTreeMap<Place, (u64, bool)>,
    hlc: Option<Hlc>,
    /// When mutations were marked as sent.
    sent: BTreeMap<u64, u64>,
    /// When records moved to the key that the server gave.
    pub(crate) moved: BTreeMap<Place, u64>,
    /// A wrong clock was used before the server could correct it.
    tainted: bool,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) ops: Vec<Op>,
    pub(crate) of: BTreeMap<Whose, Vec<u32>>,
    pub(crate) exact: BTreeMap<Whose, Exact>,
    pub(crate) devices: Vec<Device>,
    pub(crate) losses: Losses,
    now_ms: u64,
    /// The order of what tabs are asked and answered.
    pub(crate) moments: u64,
    pub(crate) conflicts: BTreeMap<Whose, Vec<Logged>>,
    pub(crate) discards: BTreeMap<Whose, u64>,
    /// When the server last agreed to a deletion, whether there was anything left to delete or not.
    pub(crate) deleted_ms: BTreeMap<Whose, u64>,
    /// What the app's function was asked where it has answered a record of its own.
    pub(crate) answers: BTreeMap<u32, [Option<String>; 2]>,
    /// Acknowledged, not sent yet: tab, mark and field that have to show.
    pub(crate) shows: BTreeMap<Whose, (usize, u32, &'static str)>,
    received: BTreeSet<Whose>,
    /// The id under which a clock reading of a record has travelled, on a base.
    pub(crate) travelled: BTreeMap<(usize, Place, String, u64), String>,
    newest_effect: BTreeMap<Whose, u32>,
}

/// Whether only one device touches this key.
pub(crate) fn is_exact(key: &str) -> bool {
    key.starts_with('o') || key.starts_with('l')
}

/// Both sides of a conflict, in words. A reference may move to the key that the server has given meanwhile:
/// that is no other question.
pub(crate) fn sides(local: Option<&Record>, remote: Option<&Record>) -> [Option<String>; 2] {
    [local, remote].map(|side| side.map(|side| side.words().replace(keys::GIVEN, "")))
}

fn apply(state: State, op: &Op, n: u32) -> Option<State> {
    let whole = |local| Some(Some(Fields { a: n, b: n, local }));
    match (op.kind, state) {
        (Kind::Create, None) => whole(op.local),
        (Kind::Create, Some(_)) => None,
        (Kind::Put, Some(there)) if op.local && !there.local => None,
        (Kind::Put, Some(there)) => whole(there.local),
        (Kind::Put, None) => whole(op.local),
        (Kind::Update("a"), Some(there)) => Some(Some(Fields { a: n, ..there })),
        (Kind::Update(_), Some(there)) => Some(Some(Fields { b: n, ..there })),
        (Kind::Delete, _) => Some(None),
        (Kind::Promote, Some(there)) if there.local => Some(Some(Fields {
            local: false,
            ..there
        })),
        (Kind::Update(_) | Kind::Promote, _) => None,
        (Kind::Resolve, state) => Some(state),
        (Kind::Look(seen), state) => (state.map(|f| (f.a, f.b)) == seen).then_some(state),
    }
}

impl Oracle {
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            ops: Vec::new(),
            of: BTreeMap::new(),
            exact: BTreeMap::new(),
            devices: (0..clients).map(|_| Device::default()).collect(),
            losses: Losses::default(),
            now_ms: 0,
            moments: 0,
            conflicts: BTreeMap::new(),
            discards: BTreeMap::new(),
            deleted_ms: BTreeMap::new(),
            answers: BTreeMap::new(),
            shows: BTreeMap::new(),
            received: BTreeSet::new(),
            travelled: BTreeMap::new(),
            newest_effect: BTreeMap::new(),
        }
    }

    pub(crate) fn moment(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    /// The write with this mark.
    pub(crate) fn op(&self, n: u32) -> &Op {
        &self.ops[n as usize - 1]
    }

    /// Whether a write may be asked for now: where a record is followed exactly, two tabs do not
    /// write it at the same time, since nobody could say which came first.
    pub(crate) fn may_ask(&self, client: usize, tab: usize, place: &Place) -> bool {
        let elsewhere = |n: &u32| {
            let op = self.op(*n);
            op.end == End::Waiting && op.tab != tab
        };
        let ops = self.of.get(&(client, place.clone()));
        !is_exact(&place.1) || !ops.is_some_and(|ops| ops.iter().any(elsewhere))
    }

    /// Whether a write of a record that is followed exactly has not ended.
    pub(crate) fn is_asked(&self, client: usize, place: &Place) -> bool {
        let waits = |n: &u32| self.op(*n).end == End::Waiting;
        let ops = self.of.get(&(client, place.clone()));
        is_exact(&place.1) && ops.is_some_and(|ops| ops.iter().any(waits))
    }

    /// Whether the device knows of a record that the backend has.
    pub(crate) fn knows(&self, client: usize, place: &Place) -> bool {
        let known = self.devices[client].versions.get(place);
        known.is_some_and(|(_, live)| *live)
    }

    /// A write is about to be asked for; answers its mark.
    pub(crate) fn ask(
        &mut self,
        (client, tab): (usize, usize),
        place: &Place,
        kind: Kind,
        (local, hidden, blind): (bool, bool, bool),
        asked_ms: u64,
    ) -> u32 {
        let asked = self.moment();
        self.ops.push(Op {
            client,
            tab,
            place: place.clone(),
            kind,
            local,
            hidden,
            blind,
            end: End::Waiting,
            asked,
            ended: u64::MAX,
            asked_ms,
            ended_ms: 0,
        });
        self.now_ms = asked_ms;
        let n = self.ops.len() as u32;
        let whose = (client, place.clone());
        if !matches!(kind, Kind::Look(_)) {
            self.shows.remove(&whose);
        }
        self.of.entry(whose).or_default().push(n);
        n
    }

    /// Notes what came of a write; answers whether that can be.
    pub(crate) fn end(&mut self, n: u32, end: End) -> bool {
        let moment = self.moment();
        let op = &mut self.ops[n as usize - 1];
        op.end = end;
        op.ended = moment;
        op.ended_ms = self.now_ms;
        let op = op.clone();
        let whose = (op.client, op.place.clone());
        if end == End::Refused || !is_exact(&op.place.1) {
            return true;
        }
        let exact = self.exact.entry(whose.clone()).or_default();
        let after: BTreeSet<State> = exact
            .states
            .iter()
            .filter_map(|s| apply(*s, &op, n))
            .collect();
        // A tab that has not heard of the record yet has nothing to delete.
        let stale = op.kind == Kind::Delete && exact.last_tab != op.tab;
        if !matches!(op.kind, Kind::Look(_)) {
            exact.last_tab = op.tab;
        }
        exact.ever.extend(after.iter().copied());
        // A look at what may still be on its way from before a loss tells nothing for later.
        let look = matches!(op.kind, Kind::Look(_)) && self.losses.on_its_way.contains(&whose);
        let possible = if end == End::Unknown || exact.loose || stale || look {
            exact.states.extend(after);
            true
        } else {
            let possible = !after.is_empty();
            exact.states = after;
            possible
        };
        exact.past.push(Past {
            moment,
            tab: op.tab,
            at_ms: op.ended_ms,
            states: exact.states.clone(),
        });
        possible
    }

    /// A tab is gone: what it was asked may have happened or not.
    pub(crate) fn killed(&mut self, client: usize, tab: usize, now_ms: u64) {
        self.now_ms = now_ms;
        self.losses.died_ms.entry(tab).or_insert(now_ms);
        for i in 0..self.ops.len() {
            let op = &self.ops[i];
            if op.client == client && op.tab == tab && op.end == End::Waiting {
                self.end(i as u32 + 1, End::Unknown);
            }
        }
    }

    /// The user has given up what is queued of a record.
    pub(crate) fn discarded(&mut self, client: usize, place: &Place) {
        let moment = self.moment();
        self.loosen(client, place);
        self.discards.insert((client, place.clone()), moment);
    }

    /// From now on any state in which the record ever was will do.
    pub(crate) fn loosen(&mut self, client: usize, place: &Place) {
        let whose = (client, place.clone());
        self.shows.remove(&whose);
        if is_exact(&place.1) {
            let exact = self.exact.entry(whose).or_default();
            exact.loose = true;
            exact.states = exact.ever.clone();
        }
    }

    /// What a tab has to show: place, mark, field.
    pub(crate) fn shown_by(&self, client: usize, tab: usize) -> Vec<(Place, u32, &'static str)> {
        let of_tab = self.shows.iter();
        of_tab
            .filter(|((c, _), (t, ..))| *c == client && *t == tab)
            .map(|((_, place), (_, n, field))| (place.clone(), *n, *field))
            .collect()
    }
}

/// A write has ended.
pub(crate) fn ended(world: &World, n: u32, result: &Result<usize, Error>) {
    let mut oracle = world.oracle.borrow_mut();
    oracle.now_ms = world.exec.now_ms();
    world
        .trace
        .mark(u64::from(n) << 1 | u64::from(result.is_ok()));
    world.say(|| match result {
        Ok(_) => format!("write {n} acknowledged"),
        Err(e) => format!("write {n} refused: {}", e.code.as_str()),
    });
    let end = if result.is_ok() {
        End::Acked
    } else {
        End::Refused
    };
    // What does not show was stored long before it ends.
    let end = match end {
        End::Refused if oracle.op(n).hidden => End::Unknown,
        end => end,
    };
    if !oracle.end(n, end) {
        let op = oracle.op(n).clone();
        world.violated("a write was acknowledged on what cannot be", || {
            format!("write {n}: {op:?}")
        });
    }
    let op = oracle.op(n).clone();
    let whose = (op.client, op.place.clone());
    let waits = |n: &u32| oracle.op(*n).end == End::Waiting;
    let beside = |n: &u32| oracle.op(*n).tab != op.tab && oracle.op(*n).ended > op.asked;
    let alone = !oracle.of[&whose].iter().any(|n| waits(n) || beside(n));
    let last = oracle.of[&whose].last() == Some(&n);
    let field = match op.kind {
        Kind::Create | Kind::Put => "a",
        Kind::Update(field) => field,
        Kind::Delete | Kind::Promote | Kind::Resolve | Kind::Look(_) => return,
    };
    let given_up = oracle.discards.get(&whose).is_some_and(|at| *at > op.asked);
    if end == End::Acked && !given_up && alone && last && !op.hidden && !op.local {
        let sent = oracle.travelled_since(&op);
        if !sent {
            oracle.shows.insert(whose, (op.tab, n, field));
        }
    }
}

impl Oracle {
    /// Whether the server has already been sent this write or a later one.
    fn travelled_since(&self, op: &Op) -> bool {
        let whose = (op.client, op.place.clone());
        let newest = self.newest_effect.get(&whose).copied().unwrap_or(0);
        let asked = self.of[&whose]
            .iter()
            .rev()
            .find(|n| self.op(**n).asked <= op.asked);
        asked.is_some_and(|n| newest >= *n) || self.conflicts.contains_key(&whose)
    }
}

/// A transaction has reached a disk.
pub(crate) fn stored(world: &World, client: usize, tab: usize, entries: &[Entry<Record>]) {
    let server = world.server.borrow();
    let mut oracle = world.oracle.borrow_mut();
    let moment = oracle.moment();
    let mut checkpoint = None;
    let known = oracle.losses.versions.get(&tab).copied();
    let older = |(data, _): &(u32, usize)| known.is_some_and(|known| known < *data);
    if oracle.losses.schemas.get(&client).is_some_and(older) {
        world.violated("an older app writes to newer data", || {
            format!("c{client} tab {tab} knows {known:?}")
        });
    }
    for entry in entries {
        check_clock(world, &mut oracle, client, tab, entry.hlc);
        let is_schema = |fact: &Fact<_>| matches!(fact, Fact::Schema { .. });
        let migrates = entry.facts.iter().any(is_schema);
        for fact in &entry.facts {
            let device = &mut oracle.devices[client];
            match fact {
                Fact::Queued {
                    no,
                    replaces,
                    collection,
                    key,
                    action,
                    origin,
                    ..
                } => {
                    let place = (collection.clone(), keys::plain(key));
                    let live = *action != Action::Delete;
                    device.places.insert(*no, (place, live));
                    match origin {
                        Some(origin) => device.origins.insert(*no, origin.clone()),
                        None => device.origins.remove(no),
                    };
                    // After a verdict it goes under another id, and is as old as before.
                    if let Some(old) = replaces {
                        let own = format!("{}.{old}", world.clients[client].id.borrow());
                        let old = device.origins.get(old).map_or(own, ToString::to_string);
                        oracle.travelled.retain(|_, id| *id != old);
                    }
                }
                Fact::Held(held) => {
                    let m = &held.mutation;
                    let place = (m.collection.clone(), keys::plain(&m.key));
                    if held.version.0 > 0 {
                        let known = (held.version.0, held.shadow.is_some());
                        device.versions.insert(place.clone(), known);
                    }
                    let live = m.action != Action::Delete;
                    device.places.insert(m.no, (place, live));
                    if m.sent {
                        device.sent.entry(m.no).or_insert(moment);
                    }
                    if let Some(origin) = &m.origin {
                        device.origins.insert(m.no, origin.clone());
                    }
                }
                Fact::Schema { version, .. } => {
                    device.schema = Some((*version, tab));
                    oracle.losses.schemas.insert(client, (*version, tab));
                }
                Fact::Remote {
                    collection,
                    key,
                    version,
                    value,
                } => {
                    let place = (collection.clone(), keys::plain(key));
                    let known = (version.0, value.is_some());
                    // Version 0: nothing is left under the key that the device made.
                    if version.0 > 0 {
                        device.versions.insert(place, known);
                    }
                }
                Fact::Acked { no, version, .. } => {
                    if let Some((place, live)) = device.places.get(no) {
                        let known = device.versions.entry(place.clone()).or_default();
                        if version.0 >= known.0 {
                            // Version 0: confirmed, but what is there a page has to tell.
                            *known = (version.0, *live && version.0 > 0);
                        }
                    }
                }
                Fact::Cancelled {
                    no,
                    why: Gone::Discarded,
                } => {
                    // What was written before this, and after it was asked for, is given up with it.
                    let place = device.places.get(no).map(|(place, _)| place.clone());
                    let asked =
                        |place: &Place| oracle.discards.contains_key(&(client, place.clone()));
                    if let Some(place) = place.filter(asked) {
                        oracle.discarded(client, &place);
                    }
                }
                Fact::Refused { no, attempts, .. } => {
                    let own = format!("{}.{no}", world.clients[client].id.borrow());
                    let id = device.origins.get(no).map_or(own, ToString::to_string);
                    let blamed = server.blamed.get(&id).copied().unwrap_or(0);
                    if *attempts > blamed {
                        world.violated("attempts counted without blame", || {
                            format!("{id}: {attempts} attempts, blamed {blamed} times")
                        });
                    }
                }
                Fact::Conflicted(conflict) => {
                    let place = (conflict.collection.clone(), keys::plain(&conflict.key));
                    oracle.met_its_past(client, &place);
                    let whose = (client, place);
                    oracle.shows.remove(&whose);
                    let marks = |r: &Record| (r.mark("a"), r.mark("b"));
                    let result = conflict.result.as_ref().map(marks);
                    let logged = oracle
                        .conflicts
                        .get(&whose)
                        .and_then(|logged| logged.last());
                    // Stored again in its new form; what came of it, it has brought then.
                    if migrates && logged.is_some_and(|logged| logged.result == result) {
                        continue;
                    }
                    // What the app's function has answered counts from here on.
                    let chosen = result.and_then(|(a, _)| a).filter(|n| {
                        let op = oracle.op(*n);
                        op.kind == Kind::Resolve && op.client == client
                    });
                    if let Some(n) = chosen.filter(|n| oracle.op(*n).end == End::Refused) {
                        oracle.end(n, End::Acked);
                        let asked = oracle.answers.get(&n).cloned();
                        let now = sides(conflict.local.as_ref(), conflict.remote.as_ref());
                        if asked.as_ref().is_some_and(|asked| *asked != now) {
                            world.violated("settled by the answer to another question", || {
                                format!("write {n}: asked of {asked:?}, it was {now:?}")
                            });
                        }
                    }
                    let at_ms = world.exec.now_ms();
                    let logged = Logged {
                        moment,
                        tab,
                        at_ms,
                        result,
                    };
                    oracle.conflicts.entry(whose).or_default().push(logged);
                }
                Fact::Checkpoint { checkpoint: at, .. } => checkpoint.clone_from(at),
                Fact::Sent { nos } => {
                    for no in nos {
                        device.sent.entry(*no).or_insert(moment);
                    }
                }
                Fact::Rekeyed {
                    collection, from, ..
                } => {
                    let place = (collection.clone(), from.clone());
                    device.moved.entry(place).or_insert(moment);
                }
                _ => {}
            }
        }
    }
    let Some(through) = checkpoint.and_then(|at| server.position(&at)) else {
        return;
    };
    let user = world.clients[client].user;
    for ((u, collection, key), row) in &server.rows {
        if *u != user || row.seq > through {
            continue;
        }
        let place = (collection.clone(), key.clone());
        let known = oracle.devices[client].versions.get(&place).copied();
        if known.is_none_or(|(version, _)| version < row.version) {
            world.violated("checkpoint ahead of rows", || {
                let version = row.version;
                format!("c{client}: {place:?} is at {version}, the disk has {known:?}")
            });
        }
    }
}

fn check_clock(world: &World, oracle: &mut Oracle, client: usize, tab: usize, hlc: Hlc) {
    let device = &world.clients[client];
    let known = &mut oracle.devices[client];
    // A clock that has lived in the future comes back when the time is known.
    let from_future = |last: &Hlc| last.ms > world.true_ms() + AHEAD_MAX_MS / 2.0;
    if known
        .hlc
        .filter(|last| !from_future(last))
        .is_some_and(|last| hlc < last)
    {
        let last = known.hlc;
        world.violated("the clock goes back", || {
            format!("c{client}: {last:?}, then {hlc:?}")
        });
    }
    known.hlc = Some(hlc);
    // What is stored now was decided a moment ago.
    let decided_ms = world.exec.now_ms().saturating_sub(DECIDED_MS);
    let corrected = device
        .corrected
        .borrow()
        .get(&tab)
        .is_some_and(|(set, at_ms)| *set == device.clock_set.get() && *at_ms < decided_ms);
    let odd = device.skew_ms.get() != 0.0 || device.clock_set.get() > 0;
    known.tainted |= odd && !corrected;
    let ahead_ms = hlc.ms - world.true_ms();
    if !known.tainted && ahead_ms > AHEAD_MAX_MS {
        world.violated("a wrong clock wins", || {
            format!("c{client}: {ahead_ms} ms ahead, though the server has corrected it")
        });
    }
}

/// A change reaches the server; `server` is as it was before.
pub(crate) fn arrived(
    world: &World,
    server: &Server,
    client: usize,
    change: &Change<Record>,
    batch: &[Change<Record>],
) {
    let mut oracle = world.oracle.borrow_mut();
    let place = (change.collection.clone(), change.key.clone());
    let whose = (client, place.clone());
    let promoted = |n: &u32| oracle.op(*n).kind == Kind::Promote;
    // By whatever device: a backup may have brought it here.
    let is_promoted = || {
        let of = oracle.of.iter().filter(|((_, p), _)| *p == place);
        of.flat_map(|(_, ops)| ops).any(promoted)
    };
    let private = change.key.starts_with('l') && !is_promoted();
    if private || &*change.collection == "drafts" {
        world.violated("a local-only record was pushed", || format!("{place:?}"));
    }
    let reading = (client, place.clone(), change.at.clone(), change.version.0);
    // A clock that has come back from the future may show the same reading twice.
    let tainted = oracle.devices[client].tainted;
    let id = oracle
        .travelled
        .entry(reading)
        .or_insert_with(|| change.id.clone());
    if *id != change.id && !tainted {
        let (id, now) = (id.clone(), change.id.clone());
        world.violated("sent again under another id", || {
            format!("{place:?}: first {id}, now {now}")
        });
    }
    if let Some(site) = change.data.as_ref().and_then(|d| d.0.json.get("siteId"))
        && change.action != Action::Delete
        // A request that the network had held back: the server has decided on it long ago.
        && !server.has_answered(&change.id)
    {
        let site: Rc<str> = site.as_str().unwrap_or_default().into();
        check_reference(world, &oracle, client, change, &site, batch);
        let site = keys::plain(&site);
        check_parent(world, server, &oracle, client, change, &site);
    }
    oracle.received.insert(whose);
}

/// What is sent after its parent has got another key refers to that.
fn check_reference(
    world: &World,
    oracle: &Oracle,
    client: usize,
    change: &Change<Record>,
    site: &Rc<str>,
    batch: &[Change<Record>],
) {
    let device = &oracle.devices[client];
    let Some(moved) = device.moved.get(&("sites".into(), site.clone())) else {
        return;
    };
    let came = device.origins.iter().find(|(_, id)| ***id == *change.id);
    let own = || change.id.rsplit('.').next()?.parse().ok();
    let no = came.map(|(no, _)| *no).or_else(own);
    let sent = no.and_then(|no: u64| device.sent.get(&no));
    let together = batch
        .iter()
        .any(|c| *c.collection == *"sites" && c.key == *site);
    // What was to put it right may have been given up.
    let place = (change.collection.clone(), change.key.clone());
    let given_up = oracle.discards.contains_key(&(client, place.clone()));
    let wrong = !together && !given_up && sent.is_some_and(|sent| sent > moved);
    if wrong && oracle.losses.reborn.contains(&client) {
        // It may have been sent before, so it goes as it was; what puts it right follows.
        let mut late = world.late_references.borrow_mut();
        late.insert((client, place), site.clone());
        return;
    }
    if wrong {
        world.violated("a reference to a key that has changed", || {
            format!(
                "{} ({}/{}) refers to {site}",
                change.id, change.collection, change.key
            )
        });
    }
}

fn check_parent(
    world: &World,
    server: &Server,
    oracle: &Oracle,
    client: usize,
    change: &Change<Record>,
    site: &Rc<str>,
) {
    let parent: Whose = (client, ("sites".into(), site.clone()));
    let address = (world.clients[client].user, parent.1.0.clone(), site.clone());
    let given_up = oracle.discards.contains_key(&parent);
    // What could not be taken in from the rescue copy yet shows nowhere.
    let late = oracle.losses.late.contains(&client);
    // Deleted and purged by others: the device does not know.
    let known = oracle.knows(client, &parent.1);
    if given_up
        || late
        || known
        || oracle.received.contains(&parent)
        || server.rows.contains_key(&address)
    {
        return;
    }
    let marks = change.data.iter().flat_map(|d| [d.mark("a"), d.mark("b")]);
    let Some(n) = marks.flatten().min() else {
        return;
    };
    let child = oracle.op(n);
    let before = |n: &&u32| oracle.op(**n).asked < child.asked;
    let ops = oracle.of.get(&parent).map_or(&[][..], |ops| &ops[..]);
    let deleted = ops.iter().any(|n| oracle.op(*n).kind == Kind::Delete);
    let made = |n: &u32| {
        let op = oracle.op(*n);
        let writes = !matches!(op.kind, Kind::Resolve | Kind::Look(_));
        writes && op.end == End::Acked && op.ended < child.asked && !op.local
    };
    if !deleted && ops.iter().filter(before).any(made) {
        let id = &change.id;
        world.violated("child before parent", || {
            format!("{id} ({}/{}) before {site}", change.collection, change.key)
        });
    }
}

/// The server has decided; `fresh`: it took effect now, for the first time.
pub(crate) fn answered(
    world: &World,
    client: usize,
    change: &Change<Record>,
    verdict: &Verdict<Record>,
    fresh: bool,
) {
    let mut oracle = world.oracle.borrow_mut();
    let place = (change.collection.clone(), change.key.clone());
    let whose = (client, place.clone());
    oracle.shows.remove(&whose);
    let exact = is_exact(&change.key) && !oracle.exact.get(&whose).is_some_and(|e| e.loose);
    if let Verdict::Failed { refusal, .. } = verdict
        && exact
        && &*refusal.code == "not-found"
    {
        world.violated("per-record order", || {
            format!("{} changes {place:?} before its creation", change.id)
        });
    }
    if let (Action::Delete, Verdict::Success { .. }) = (change.action, verdict) {
        oracle.deleted_ms.insert(whose.clone(), world.exec.now_ms());
    }
    let marks = change.data.iter().flat_map(|d| [d.mark("a"), d.mark("b")]);
    if let (true, Some(n)) = (fresh, marks.flatten().max()) {
        // What was lost right after it was written may have arrived, and then only clocks tell which is newer.
        let device = &world.clients[client];
        let odd = device.skew_ms.get() != 0.0 || device.clock_set.get() > 0;
        let exact = exact && !(odd && oracle.losses.on_its_way.contains(&whose));
        let newest = oracle.newest_effect.entry(whose).or_default();
        let before = *newest;
        *newest = n.max(before);
        if exact && n < before {
            world.violated("per-record order", || {
                format!("{place:?}: write {n} took effect after write {before}")
            });
        }
    }
}

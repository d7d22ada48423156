//! What an app and its user do beside writing: they settle conflicts, look after the queue, and write
//! only on top of what they have read.

use super::fleet::{Fleet, Tabs};
use super::keep;
use super::keys;
use super::losses;
use super::oracle::{self, End, Kind, Place};
use super::plan::{Do, Key};
use super::record::{Record, whole};
use super::story::{self, Asker};
use super::wide::{More, Pick};
use super::world::World;
use landfall::conflict::{Answer, Choice, Conflict, Outcome, Question};
use landfall::driver::{OutboxFilter, OutboxView};
use landfall::error::{Code, Error};
use landfall::replica::plan::{Edit, Intent, Read, Transaction};
use serde_json::json;
use std::rc::Rc;

/// Does one of the further steps.
pub(crate) fn act(fleet: &Rc<Fleet>, more: More) {
    match more {
        More::Resolve(c, t, nth, pick) => {
            if let Some((who, manager)) = settled(fleet, c, t) {
                let all = manager.conflicts();
                if let Some(conflict) = nth_of(&all, nth) {
                    resolve(&fleet.world, who, &manager, conflict, pick);
                }
            }
        }
        More::RetryOne(c, t, nth) => {
            if let Some((_, manager, entry)) = entry(fleet, c, t, nth) {
                manager.submit(Intent::Retry(Some(entry.mutation.no)), Box::new(|_| {}));
            }
        }
        More::DiscardOne(c, t, nth) => {
            if let Some((_, manager, entry)) = entry(fleet, c, t, nth) {
                fleet.give_up(c, &manager, &entry);
            }
        }
        More::Edit(c, t, nth, field) => {
            if let Some((who, manager, entry)) = entry(fleet, c, t, nth) {
                edit(&fleet.world, who, &manager, &entry, field);
            }
        }
        More::Reads(c, t, site, note, same) => reads(fleet, (c, t), site, note, same),
        More::Wipe(c) => keep::wipe(fleet, c),
        More::SignOut(c, backup) => keep::sign_out(fleet, c, backup),
        More::Export(c, t) => {
            if let Some((_, manager)) = settled(fleet, c, t) {
                keep::export(fleet, c, &manager);
            }
        }
        More::Import(c, t, nth) => keep::import(fleet, (c, t), nth),
        More::PowerLoss(c) => keep::power_loss(fleet, c),
        More::Newer(c) => keep::newer(fleet, c),
    }
}

fn nth_of<T>(all: &[T], nth: usize) -> Option<&T> {
    all.get(nth % all.len().max(1))
}

/// A tab that shows everything that was asked for: an app's user acts on what is shown.
fn settled(fleet: &Fleet, c: usize, t: usize) -> Option<(Asker, Tabs)> {
    let (tab, manager) = fleet.tab(c, t)?;
    manager.is_settled().then_some(((c, tab), manager))
}

fn entry(
    fleet: &Fleet,
    c: usize,
    t: usize,
    nth: usize,
) -> Option<(Asker, Tabs, OutboxView<Record>)> {
    let (who, manager) = settled(fleet, c, t)?;
    let list = manager.outbox(&OutboxFilter::default());
    let entry = nth_of(&list, nth)?.clone();
    Some((who, manager, entry))
}

/// A record that is neither side, of a write of its own.
fn own(world: &World, manager: &Tabs, who: Asker, place: &Place, key: &Rc<str>) -> (u32, Record) {
    let now_ms = world.exec.now_ms();
    let flags = (false, false, false);
    let mut oracle = world.oracle.borrow_mut();
    let n = oracle.ask(who, place, Kind::Resolve, flags, now_ms);
    let site = keys::known(world, manager, "sites", &place.1);
    let site = (&*place.0 == "notes").then_some(&*site);
    (n, whole(key, n, site))
}

/// Settles a conflict.
pub(crate) fn resolve(
    world: &Rc<World>,
    who: Asker,
    manager: &Tabs,
    conflict: &Conflict<Record>,
    pick: Pick,
) {
    let place: Place = (conflict.collection.clone(), keys::plain(&conflict.key));
    // Both sides may be of before what is known: any earlier state will do.
    world.oracle.borrow_mut().loosen(who.0, &place);
    let (n, record) = own(world, manager, who, &place, &conflict.key);
    let choice = match pick {
        Pick::Local => Choice::Local,
        Pick::Remote => Choice::Remote,
        Pick::Own => Choice::Record(Some(record)),
        Pick::Gone => Choice::Record(None),
    };
    world.say(|| {
        let (c, tab) = who;
        let (id, outcome) = (&conflict.id, conflict.outcome);
        format!("c{c} tab {tab}: write {n}, settles {id} ({outcome:?}) of {place:?}: {pick:?}")
    });
    let told = world.clone();
    let done = Box::new(move |result| oracle::ended(&told, n, &result));
    manager.submit(Intent::Resolve(conflict.id.clone(), choice), done);
}

/// Settles what waits for a person, where the story does not leave that for ever.
pub(crate) fn resolve_all(fleet: &Rc<Fleet>, client: usize) {
    let Some((who, manager)) = settled(fleet, client, 0) else {
        return;
    };
    let waits = |c: &&Rc<Conflict<Record>>| c.outcome == Outcome::Waiting;
    for conflict in manager.conflicts().iter().filter(waits) {
        if conflict.strategy == landfall::options::Strategy::Manual {
            let pick = Pick::draw(&fleet.world.chance);
            resolve(&fleet.world, who, &manager, conflict, pick);
        }
    }
}

/// The app's own function is asked. It may take long, fail, answer nonsense, or never answer.
pub(crate) async fn decide(
    fleet: Rc<Fleet>,
    who: Asker,
    question: Question<Record>,
) -> Result<Answer<Record>, Error> {
    let (world, chance) = (&fleet.world, &fleet.world.chance);
    let place: Place = (question.collection.clone(), keys::plain(&question.key));
    world.oracle.borrow_mut().loosen(who.0, &place);
    let roll = if fleet.healing.get() {
        chance.below(8)
    } else {
        chance.below(14)
    };
    if chance.percent(40) {
        world.exec.sleep(chance.below(2_000)).await;
    }
    world.say(|| format!("c{}: the app decides on {place:?}: {roll}", who.0));
    match roll {
        0..=1 => Ok(Answer::Record(question.local)),
        2..=3 => Ok(Answer::Record(question.remote)),
        4 => Ok(Answer::Record(None)),
        5..=8 => {
            let Some((_, manager)) = fleet.managers(who.0).into_iter().find(|m| m.0 == who.1)
            else {
                return Ok(Answer::Park);
            };
            let (n, record) = own(world, &manager, who, &place, &question.key);
            let sides = oracle::sides(question.local.as_ref(), question.remote.as_ref());
            let mut oracle = world.oracle.borrow_mut();
            // Nothing is promised of an answer until it is in the log.
            oracle.end(n, End::Refused);
            oracle.answers.insert(n, sides);
            drop(oracle);
            Ok(Answer::Record(Some(record)))
        }
        9..=10 => Ok(Answer::Park),
        11 => Err(Error::new(Code::ConflictHandler, "it has thrown")),
        12 => Ok(Answer::Record(Some(Record::new(json!({ "id": "else" }))))),
        _ => std::future::pending().await,
    }
}

/// Changes what is queued.
fn edit(
    world: &Rc<World>,
    who: Asker,
    manager: &Tabs,
    entry: &OutboxView<Record>,
    field: &'static str,
) {
    let m = &entry.mutation;
    let place: Place = (m.collection.clone(), keys::plain(&m.key));
    let oracle = world.oracle.borrow();
    // What does not show is not acknowledged yet, and its end would come after this one's.
    if !oracle.may_ask(who.0, who.1, &place) || oracle.is_asked(who.0, &place) {
        return;
    }
    drop(oracle);
    losses::know_nothing(world, who.0, &place);
    let on = manager.newest(&m.collection, &m.key).ok().flatten();
    let checked = world.chance.percent(50);
    let n = {
        let now_ms = world.exec.now_ms();
        let flags = (false, &*place.0 == "blocks", false);
        let mut oracle = world.oracle.borrow_mut();
        oracle.ask(who, &place, Kind::Update(field), flags, now_ms)
    };
    world.say(|| {
        let (c, tab) = who;
        let id = &entry.id;
        format!("c{c} tab {tab}: write {n}, edits {field} of {id} ({place:?})")
    });
    let edit = Edit {
        no: m.no,
        patch: Record::new(json!({ field: n })),
        changed: Rc::from([Rc::from(field)]),
        on: on.filter(|_| checked),
    };
    let told = world.clone();
    let done = Box::new(move |result| oracle::ended(&told, n, &result));
    manager.submit(Intent::Edit(edit), done);
}

/// A transaction on top of what a site is: of the site itself, or of a note.
fn reads(fleet: &Rc<Fleet>, (c, t): (usize, usize), site: Key, note: Key, same: bool) {
    let world = &fleet.world;
    let Some((tab, manager)) = fleet.tab(c, t) else {
        return;
    };
    let read: Place = ("sites".into(), story::name(site, c));
    let written: Vec<Place> = match same {
        true => vec![read.clone()],
        false => vec![read.clone(), ("notes".into(), story::name(note, c))],
    };
    let free = |place: &Place| world.oracle.borrow().may_ask(c, tab, place);
    if !written.iter().all(free) {
        return;
    }
    let who = (c, tab);
    losses::know_nothing(world, c, &read);
    let key = keys::known(world, &manager, &read.0, &read.1);
    // As the app sees it, which may be of before what another tab has written.
    let value = manager.get(&read.0, &key).ok().flatten();
    // What the app has is its own, whatever the tab lets go.
    let value = value.map(|r| Record::of(r.0.json.clone()));
    let seen = value.as_ref().and_then(|r| r.mark("a").zip(r.mark("b")));
    let look = {
        let (flags, now_ms) = ((false, false, false), world.exec.now_ms());
        let mut oracle = world.oracle.borrow_mut();
        oracle.ask(who, &read, Kind::Look(seen), flags, now_ms)
    };
    let mut marks = vec![look];
    let mut writes = Vec::new();
    for place in &written[usize::from(!same)..] {
        let (n, write, options) = story::prepare(world, (who, &manager), place, Do::Put, false);
        writes.push((place.0.clone(), write, options));
        marks.push(n);
    }
    world.say(|| format!("c{c} tab {tab}: transaction of {marks:?} on {read:?} as {seen:?}"));
    let (collection, newest) = (read.0, false);
    let transaction = Transaction {
        writes,
        reads: vec![Read {
            collection,
            key,
            value,
            newest,
        }],
        grouped: true,
    };
    let told = world.clone();
    let done = Box::new(move |result: Result<usize, Error>| {
        for n in marks {
            oracle::ended(&told, n, &result);
        }
    });
    manager.submit(Intent::Transaction(transaction), done);
}

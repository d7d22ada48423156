//! Promises 1 and 5 where several write: each acknowledged write has left a trace.
//!
//! A trace is an effect on the server, a later write to the same, the user's own word, a conflict whose
//! outcome is without it, or a place in the outbox that it still has. A conflict whose outcome is *with*
//! it is no excuse: from then on the write is owed again.

use super::fleet::{Fleet, Tabs};
use super::keys;
use super::losses;
use super::oracle::{Effect, End, Kind, Logged, Op, Oracle, Place, Whose, is_exact};
use super::record::Record;
use super::server::Server;
use landfall::driver::OutboxFilter;
use landfall::model::{Action, Mutation};

/// Checks every write of a shared record.
pub(crate) fn run(fleet: &Fleet) {
    let world = &fleet.world;
    let left = (0..world.clients.len()).map(|c| queued(fleet, c));
    let left: Vec<Vec<(Place, Mutation<Record>)>> = left.collect();
    let (server, oracle) = (world.server.borrow(), world.oracle.borrow());
    for (i, op) in oracle.ops.iter().enumerate() {
        let n = i as u32 + 1;
        let alive = |(id, _): &(usize, Tabs)| *id == op.tab;
        // Unless for the end of a conflict that nobody settles.
        let mut left_places = left[op.client].iter().map(|(place, _)| place);
        let never = left_places.any(|place| *place == op.place);
        if op.end == End::Waiting && !never && fleet.managers(op.client).iter().any(alive) {
            world.violated("somebody waits for ever", || format!("write {n}: {op:?}"));
        }
        let owed = oracle.losses.owed.contains_key(&n);
        if op.end == End::Acked && !op.local && (owed || !is_exact(&op.place.1)) {
            let user = world.clients[op.client].user;
            let waits = left.iter().flatten().any(|(place, m)| {
                let deletes = op.kind == Kind::Delete && m.action == Action::Delete;
                let has = m.value.iter().any(|r| carries(r, op, n));
                *place == op.place && (deletes || has)
            });
            if !waits && !is_accounted(&server, &oracle, user, n, op) {
                world.violated("an acknowledged write was dropped silently", || {
                    format!("write {n}: {op:?}")
                });
            }
        }
    }
}

/// What a device has not sent: nothing, but where conflicts are left for ever.
fn queued(fleet: &Fleet, client: usize) -> Vec<(Place, Mutation<Record>)> {
    let managers = fleet.managers(client);
    let Some((_, manager)) = managers.first() else {
        return Vec::new();
    };
    let list = manager.outbox(&OutboxFilter::default()).into_iter();
    list.map(|entry| {
        let m = entry.mutation;
        ((m.collection.clone(), keys::plain(&m.key)), m)
    })
    .collect()
}

/// The field that a write is about; none: all of them.
fn field(op: &Op) -> Option<&'static str> {
    match op.kind {
        Kind::Update(field) => Some(field),
        _ => None,
    }
}

fn has(a: Option<u32>, b: Option<u32>, op: &Op, n: u32) -> bool {
    let (in_a, in_b) = (a == Some(n), b == Some(n));
    match field(op) {
        Some("a") => in_a,
        Some(_) => in_b,
        None => in_a || in_b,
    }
}

fn carries(record: &Record, op: &Op, n: u32) -> bool {
    has(record.mark("a"), record.mark("b"), op, n)
}

fn is_accounted(server: &Server, oracle: &Oracle, user: usize, n: u32, op: &Op) -> bool {
    if matches!(op.kind, Kind::Look(_)) {
        return true;
    }
    let (asked, whose) = losses::whose(oracle, n);
    let logged = whose.iter().filter_map(|w| oracle.conflicts.get(w)?.last());
    let logged = logged.max_by_key(|logged| logged.moment);
    let logged = logged.filter(|logged| logged.moment > asked);
    let with = |logged: &&Logged| logged.result.is_some_and(|(a, b)| has(a, b, op, n));
    let owed_since = logged.filter(with).map(|logged| logged.moment);
    if logged.is_some() && owed_since.is_none() {
        return true;
    }
    let since = owed_since.unwrap_or(asked);
    let discarded = |w: &Whose| oracle.discards.get(w).is_some_and(|at| *at > since);
    if whose.iter().any(discarded) {
        return true;
    }
    let address = (user, op.place.0.clone(), op.place.1.clone());
    let effects = || server.effects.iter().filter(|e| e.address == address);
    // Lost with its device's database right after it was sent: nobody there knows of it.
    let arrived = |m: u32, other: &Op| {
        let carries = |e: &Effect| e.sent.iter().any(|r| carries(r, other, m));
        other.end == End::Unknown && other.client == op.client && effects().any(carries)
    };
    let supersedes = |m: &u32, of: &str| {
        let other = oracle.op(*m);
        // What a backup brought is in the order of the device that it is from.
        let owed = owed_since.is_none() && oracle.losses.owed.contains_key(&n);
        let together = owed && other.client == op.client;
        let ended_later = other.ended > since || together || arrived(*m, other);
        let later = ended_later && *m != n && other.end != End::Refused;
        // What was asked later, or at the same time elsewhere.
        let follows = other.asked > op.asked || other.tab != op.tab;
        let covers = match other.kind {
            Kind::Update(f) => of == f,
            Kind::Create | Kind::Put | Kind::Delete => true,
            // What a settled conflict leaves, its entry in the log tells.
            Kind::Promote | Kind::Resolve | Kind::Look(_) => false,
        };
        later && follows && covers
    };
    // Of both fields that it has written, the outcome may have kept one.
    let kept = |of: &str| {
        let result = owed_since.and(logged).and_then(|logged| logged.result);
        result.is_none_or(|(a, b)| {
            if of == "a" {
                a == Some(n)
            } else {
                b == Some(n)
            }
        })
    };
    let others = || whose.iter().filter_map(|w| oracle.of.get(w)).flatten();
    let covered = |of: &str| !kept(of) || others().any(|m| supersedes(m, of));
    if field(op).map_or(covered("a") && covered("b"), covered) {
        return true;
    }
    if op.kind == Kind::Delete {
        let row = server.rows.get(&address);
        if op.blind {
            return true; // there was nothing to delete
        }
        let gone = row.is_none_or(|r| r.data.is_none());
        let last = effects().next_back();
        let agreed = |w: &Whose| {
            oracle
                .deleted_ms
                .get(w)
                .is_some_and(|at| *at >= op.asked_ms)
        };
        return gone
            || last.is_some_and(|e| e.at_ms >= op.asked_ms && e.client != op.client)
            || row.is_some_and(|r| r.at.ends_with("-elsewhere"))
            || effects().any(|e| e.action == Action::Delete && e.at_ms >= op.asked_ms)
            || whose.iter().any(agreed);
    }
    let sent = |e: &Effect| {
        let content = e.sent.iter().chain(&e.data);
        // Two devices that have it send it under one id, and it takes effect for whoever is first.
        let brought = oracle.losses.brought.get(&n);
        let there = whose.iter().any(|(client, _)| *client == e.client)
            || brought.is_some_and(|clients| clients.contains(&e.client));
        there && content.into_iter().any(|r| carries(r, op, n))
    };
    effects().any(sent)
}

//! What happens when a record was changed on both sides: pure rules.

use crate::hlc::Hlc;
use crate::model::{Key, Name, Version};
use crate::options::Strategy;
use crate::value::Value;
use std::rc::Rc;

/// Which side a conflict went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The device's record stays, on top of the server's.
    Local,
    /// The server's record stays.
    Remote,
    /// Both sides' changes survive, or the app chose a record of its own.
    Merged,
    /// Not settled yet: it waits for the app.
    Waiting,
    /// Not settled: the app's function gave it up, or could not decide; its change is parked.
    Parked,
}

impl Outcome {
    /// The name in the conflict log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Merged => "merged",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Local, Self::Remote, Self::Merged]
            .into_iter()
            .find(|o| o.as_str() == text)
    }
}

/// One entry of the conflict log, or a conflict that waits. A missing record is a deleted one.
#[derive(Debug, Clone)]
pub struct Conflict<V> {
    /// The id of the mutation that met the conflict.
    pub id: Rc<str>,
    /// The record's collection.
    pub collection: Name,
    /// The record's key.
    pub key: Key,
    /// When it was settled, or met where it waits, ms since 1970.
    pub at_ms: f64,
    /// By which rule.
    pub strategy: Strategy,
    /// For which side.
    pub outcome: Outcome,
    /// What the local change was made on.
    pub base: Option<V>,
    /// What the device had.
    pub local: Option<V>,
    /// What the server had.
    pub remote: Option<V>,
    /// What came of it.
    pub result: Option<V>,
}

impl<V: Value> Conflict<V> {
    /// What of it is not in memory.
    pub fn missing(&self, missing: &mut Vec<V>) {
        let sides = [&self.base, &self.local, &self.remote, &self.result];
        let absent = |v: &&V| !v.is_resident();
        missing.extend(sides.into_iter().flatten().filter(absent).cloned());
    }
}

/// The two sides and what they have in common.
#[derive(Debug)]
pub struct Sides<'a, V> {
    /// What the local change was made on.
    pub base: Option<&'a V>,
    /// The device's record.
    pub local: Option<&'a V>,
    /// The server's record.
    pub remote: Option<&'a V>,
    /// The local change's clock.
    pub local_at: &'a str,
    /// The remote change's clock; without one the server's record counts as the later.
    pub remote_at: Option<&'a str>,
}

/// Settles a conflict: the side it goes to and the record that comes of it; none where the app has to
/// be asked.
#[must_use]
pub fn settle<V: Value>(strategy: Strategy, sides: &Sides<'_, V>) -> Option<(Outcome, Option<V>)> {
    let later = match sides.remote_at {
        Some(remote_at) if sides.local_at > remote_at => Outcome::Local,
        _ => Outcome::Remote,
    };
    let outcome = match strategy {
        Strategy::LastWriteWins => later,
        Strategy::ServerWins => Outcome::Remote,
        Strategy::ClientWins => Outcome::Local,
        Strategy::Merge => {
            if let (Some(local), Some(remote)) = (sides.local, sides.remote) {
                return Some((
                    Outcome::Merged,
                    Some(merge(sides.base, local, remote, later)),
                ));
            }
            later
        }
        Strategy::Function | Strategy::Manual => return None,
    };
    let result = if outcome == Outcome::Local {
        sides.local
    } else {
        sides.remote
    };
    Some((outcome, result.cloned()))
}

/// What the app makes of a conflict that waits.
#[derive(Debug, Clone)]
pub enum Choice<V> {
    /// The device's record goes on top of the server's.
    Local,
    /// The server's record stays.
    Remote,
    /// This record; none deletes it.
    Record(Option<V>),
}

impl<V: Value> Choice<V> {
    /// The side it comes to, and the record.
    #[must_use]
    pub fn outcome(self, local: Option<&V>, remote: Option<&V>) -> (Outcome, Option<V>) {
        match self {
            Self::Local => (Outcome::Local, local.cloned()),
            Self::Remote => (Outcome::Remote, remote.cloned()),
            Self::Record(record) if same(record.as_ref(), remote) => (Outcome::Remote, record),
            Self::Record(record) if same(record.as_ref(), local) => (Outcome::Local, record),
            Self::Record(record) => (Outcome::Merged, record),
        }
    }
}

/// What the app's function is asked.
#[derive(Debug, Clone)]
pub struct Question<V> {
    /// The record's collection.
    pub collection: Name,
    /// The record's key.
    pub key: Key,
    /// What the local change was made on.
    pub base: Option<V>,
    /// What the device has.
    pub local: Option<V>,
    /// What the server has.
    pub remote: Option<V>,
}

/// The sides that a question was about: when the device's was last changed, which version the server's has,
/// and whether there is one: what a pull from the beginning has not brought keeps its version.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// The device's side.
    pub at: Hlc,
    /// The server's side.
    pub version: Version,
    /// It is not deleted.
    pub there: bool,
}

/// What the app's function answers.
#[derive(Debug, Clone)]
pub enum Answer<V> {
    /// This record settles it; none deletes it.
    Record(Option<V>),
    /// A person has to look at it.
    Park,
}

/// Whether two sides are deeply equal.
#[must_use]
pub fn same<V: Value>(a: Option<&V>, b: Option<&V>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => same_content(a, b),
        _ => false,
    }
}

/// Whether two records are deeply equal.
#[must_use]
pub fn same_content<V: Value>(a: &V, b: &V) -> bool {
    let mut names = a.names();
    names.extend(b.names());
    names.iter().all(|name| a.same_field(b, name))
}

/// Field by field: what only one side changed is taken from it; the rest from the later side.
fn merge<V: Value>(base: Option<&V>, local: &V, remote: &V, later: Outcome) -> V {
    let mut names = local.names();
    names.extend(base.map(Value::names).unwrap_or_default());
    names.sort();
    names.dedup();
    let theirs = remote.names();
    names.retain(|name| {
        let local_changed = base.is_none_or(|b| !b.same_field(local, name));
        // Without a base what is missing there was not changed there.
        let remote_changed = match base {
            Some(base) => !base.same_field(remote, name),
            None => theirs.contains(name),
        };
        local_changed && (!remote_changed || later == Outcome::Local)
    });
    remote.patched(local, &names)
}

#[cfg(all(test, not(target_family = "wasm")))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Outcome, Sides, settle};
    use crate::options::Strategy;
    use serde_json::{Value as Json, json};
    use std::rc::Rc;

    type Side = Option<Rc<Json>>;

    fn run(strategy: Strategy, base: Json, local: Json, remote: Json, at: &str) -> (Outcome, Side) {
        let side = |v: Json| if v.is_null() { None } else { Some(Rc::new(v)) };
        let (base, local, remote) = (side(base), side(local), side(remote));
        settle(
            strategy,
            &Sides {
                base: base.as_ref(),
                local: local.as_ref(),
                remote: remote.as_ref(),
                local_at: at,
                remote_at: Some("0000000000005-0000-x"),
            },
        )
        .unwrap()
    }

    const EARLIER: &str = "0000000000004-0000-a";
    const LATER: &str = "0000000000006-0000-a";

    #[test]
    fn the_later_change_wins() {
        let (a, b) = (json!({"v": 1}), json!({"v": 2}));
        let lww = Strategy::LastWriteWins;
        assert_eq!(
            run(lww, Json::Null, a.clone(), b.clone(), LATER).0,
            Outcome::Local
        );
        assert_eq!(run(lww, Json::Null, a, b, EARLIER).0, Outcome::Remote);
    }

    #[test]
    fn a_later_delete_wins_over_an_update_and_the_other_way_round() {
        let lww = Strategy::LastWriteWins;
        let there = json!({"v": 2});
        assert_eq!(
            run(lww, Json::Null, Json::Null, there.clone(), LATER),
            (Outcome::Local, None)
        );
        let (outcome, result) = run(lww, Json::Null, Json::Null, there, EARLIER);
        assert_eq!((outcome, result.is_some()), (Outcome::Remote, true));
    }

    #[test]
    fn fixed_sides() {
        let (a, b) = (json!({"v": 1}), json!({"v": 2}));
        assert_eq!(
            run(
                Strategy::ServerWins,
                Json::Null,
                a.clone(),
                b.clone(),
                LATER
            )
            .0,
            Outcome::Remote
        );
        assert_eq!(
            run(Strategy::ClientWins, Json::Null, a, b, EARLIER).0,
            Outcome::Local
        );
    }

    #[test]
    fn merge_keeps_both_sides_and_falls_to_the_later_on_the_same_field() {
        let base = json!({"a": 1, "b": 1, "c": 1, "gone": 1});
        let local = json!({"a": 2, "b": 1, "c": 2});
        let remote = json!({"a": 1, "b": 3, "c": 3, "gone": 1, "new": 1});
        let merged = |at| {
            run(
                Strategy::Merge,
                base.clone(),
                local.clone(),
                remote.clone(),
                at,
            )
            .1
        };
        assert_eq!(
            *merged(EARLIER).unwrap(),
            json!({"a": 2, "b": 3, "c": 3, "new": 1})
        );
        assert_eq!(
            *merged(LATER).unwrap(),
            json!({"a": 2, "b": 3, "c": 2, "new": 1})
        );
    }
    #[test]
    fn merge_without_a_base_keeps_what_only_one_side_has() {
        let (local, remote) = (json!({"a": 1, "note": "mine"}), json!({"a": 2, "b": 2}));
        let merged = |at| {
            run(
                Strategy::Merge,
                Json::Null,
                local.clone(),
                remote.clone(),
                at,
            )
            .1
        };
        assert_eq!(
            *merged(EARLIER).unwrap(),
            json!({"a": 2, "b": 2, "note": "mine"})
        );
        assert_eq!(
            *merged(LATER).unwrap(),
            json!({"a": 1, "b": 2, "note": "mine"})
        );
    }
}

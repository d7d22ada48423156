use super::{CHUNK_MAX, LazilyOrdered, List, Ordered};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;

#[derive(Debug, Clone)]
enum Step {
    Insert(u16, u8),
    Remove(u16),
    /// Takes everything from here to there out, one by one.
    Clear(u16, u16),
    /// Adds so many from here on, each so far behind the one before, where there is room for them.
    Lazily(u16, u16, u16),
    /// Looks at one.
    Look(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..1_000_u16;
    prop_oneof![
        8 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Step::Insert(k, v)),
        2 => key.clone().prop_map(Step::Remove),
        1 => (key.clone(), key.clone()).prop_map(|(a, b)| Step::Clear(a.min(b), a.max(b))),
        1 => (0..3_000_u16, 1..400_u16, 1..4_u16).prop_map(|(a, n, by)| Step::Lazily(a, n, by)),
        2 => (0..3_000_u16).prop_map(Step::Look),
    ]
}

fn bound() -> impl Strategy<Value = Bound<u16>> {
    prop_oneof![
        (0..1_000_u16).prop_map(Bound::Included),
        (0..1_000_u16).prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

fn is_a_range(low: Bound<u16>, high: Bound<u16>) -> bool {
    match (low, high) {
        (Bound::Excluded(low), Bound::Excluded(high)) => low < high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low <= high,
        _ => true,
    }
}

fn is_sound<L: List<u16, u8>>(map: &Ordered<u16, u8, L>) {
    let mut lens = map.chunks.iter().map(List::count);
    assert!(lens.all(|len| len > 0 && len <= CHUNK_MAX));
    assert_eq!(map.len(), map.chunks.iter().map(List::count).sum::<usize>());
}

fn play<L: List<u16, u8>>(
    mut ours: Ordered<u16, u8, L>,
    lazily: impl Fn(&mut Ordered<u16, u8, L>, &[u16]) -> bool,
    (start, steps): (u16, &[Step]),
    (low, high): (Bound<u16>, Bound<u16>),
) {
    let mut theirs = BTreeMap::new();
    for key in 0..start {
        assert_eq!(ours.insert(key, 0), theirs.insert(key, 0));
    }
    for step in steps {
        match step {
            Step::Insert(k, v) => assert_eq!(ours.insert(*k, *v), theirs.insert(*k, *v)),
            Step::Remove(k) => assert_eq!(ours.remove(k), theirs.remove(k)),
            Step::Clear(from, to) => {
                for k in *from..*to {
                    assert_eq!(ours.remove(&k), theirs.remove(&k));
                }
            }
            Step::Lazily(from, count, by) => {
                let keys: Vec<u16> = (0..*count).map(|i| from + i * by).collect();
                if lazily(&mut ours, &keys) {
                    theirs.extend(keys.iter().map(|k| (*k, *k as u8)));
                }
            }
            Step::Look(k) => assert_eq!(ours.get(k), theirs.get(k)),
        }
        is_sound(&ours);
    }
    let mut found = ours.range(low.as_ref(), high.as_ref());
    if is_a_range(low, high) {
        assert!(found.eq(theirs.range((low, high))));
        let found = ours.range(low.as_ref(), high.as_ref());
        assert!(found.rev().eq(theirs.range((low, high)).rev()));
    } else {
        assert_eq!(found.next(), None);
        assert_eq!(found.next_back(), None);
    }
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().rev().eq(theirs.iter().rev()));
    assert!(ours.iter().eq(theirs.iter()));
    for key in 0..5_000 {
        assert_eq!(ours.get(&key), theirs.get(&key));
    }
}

proptest! {
    #[test]
    fn does_what_the_standard_map_does(
        start in 0..2_000_u16,
        steps in prop::collection::vec(step(), 0..300),
        (low, high) in (bound(), bound()),
    ) {
        let given = (start, &*steps);
        play(<Ordered<_, _>>::default(), |_, _| false, given, (low, high));
        let add = |ours: &mut LazilyOrdered<u16, u8>, keys: &[u16]| {
            let room = ours.has_room(&keys[0], &keys[keys.len() - 1]);
            let all = keys.to_vec();
            if room {
                let of: std::rc::Rc<dyn std::any::Any> = std::rc::Rc::new(());
                ours.add_lazily(&of, all.len(), |at| keys[at], move |at| (all[at], all[at] as u8));
            }
            room
        };
        play(LazilyOrdered::default(), add, given, (low, high));
    }
}

#[test]
fn nothing_is_made_that_nobody_looks_at() {
    let made = std::rc::Rc::new(std::cell::Cell::new(0));
    let mut map = LazilyOrdered::default();
    map.insert(5, 0);
    let count = made.clone();
    let of: std::rc::Rc<dyn std::any::Any> = std::rc::Rc::new(());
    map.add_lazily(
        &of,
        1_000,
        |at| 10 + at,
        move |at| {
            count.set(count.get() + 1);
            (10 + at, 0)
        },
    );
    assert!(map.has_room(&2_000, &3_000) && map.has_room(&6, &9));
    assert!(!map.has_room(&0, &7) && !map.has_room(&9, &10) && !map.has_room(&500, &2_000));
    assert!(map.gap(&2_000).is_some() && map.gap(&7).is_some() && map.get(&3).is_none());
    assert_eq!((map.len(), made.get()), (1_001, 0));
    assert_eq!(map.get(&(10 + 300)), Some(&0));
    assert_eq!(made.get(), CHUNK_MAX, "only what is near it");
}

#[test]
fn meets_in_the_middle_from_both_ends() {
    let mut map = <Ordered<_, _>>::default();
    for key in 0..500_u32 {
        map.insert(key, key);
    }
    let mut iter = map.iter();
    let mut seen = 0;
    while let Some((first, _)) = iter.next() {
        seen += 1;
        if let Some((last, _)) = iter.next_back() {
            assert!(first < last);
            seen += 1;
        }
    }
    assert_eq!(seen, 500);
}

#[test]
fn what_comes_in_order_fills_its_lists() {
    let mut map = <Ordered<_, _>>::default();
    for key in 0..10 * CHUNK_MAX {
        map.insert(key, ());
    }
    assert_eq!(map.chunks.len(), 10);
}

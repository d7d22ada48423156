//! Indexes in memory, and the queries that use them.

use crate::model::Key;
use crate::ordered::Ordered;
use crate::value::{Scalar, Value};
use std::ops::Bound;
use std::rc::Rc;

/// What to select, in which order, how much of it.
#[derive(Debug, Clone)]
pub struct Query {
    /// Fields of a declared index; none for the keys.
    pub index: Option<Vec<Rc<str>>>,
    /// Values of the index's first fields.
    pub equals: Vec<Scalar>,
    /// First value of the following fields that is selected.
    pub from: Option<Vec<Scalar>>,
    /// First value that is not selected any more.
    pub to: Option<Vec<Scalar>>,
    /// Only strings that begin with this, in the field after those of `equals`.
    pub prefix: Option<Rc<str>>,
    /// Only what comes after this place in the query's order: the values of the index's fields and
    /// the key of the last record of the page before. It need not exist any more.
    pub after: Option<(Vec<Scalar>, Key)>,
    /// Greatest first.
    pub descending: bool,
    /// How many to leave out.
    pub offset: usize,
    /// How many at most.
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            index: None,
            equals: Vec::new(),
            from: None,
            to: None,
            prefix: None,
            after: None,
            descending: false,
            offset: 0,
            limit: usize::MAX,
        }
    }
}

fn text_of(values: &[Scalar]) -> Option<Rc<str>> {
    match values.first() {
        Some(Scalar::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

/// The first string after all that begin with `prefix`; none where there is no such string.
fn after_prefix(prefix: &str) -> Option<Rc<str>> {
    let mut rest: Vec<char> = prefix.chars().collect();
    while let Some(last) = rest.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(last as u32 + 1),
        };
        if let Some(next) = next {
            rest.push(next);
            return Some(rest.into_iter().collect::<String>().into());
        }
    }
    None
}

/// Where a record stands in an index: by the values of its fields, then by its key. Among the keys
/// themselves it has no values.
pub(super) type Place = (Rc<[Scalar]>, Key);

/// A range of places; where it ends before it begins nothing is in it.
type Range = (Bound<Place>, Bound<Place>);

impl Query {
    /// From the later of two beginnings to the earlier of two ends, and only behind `after`.
    fn range(&self, low: Place, high: Option<Place>, after: Option<Place>) -> Range {
        let (low, high) = match after {
            Some(after) if self.descending => {
                let high = high.into_iter().chain([after]).min();
                (Bound::Included(low), high)
            }
            Some(after) if after >= low => (Bound::Excluded(after), high),
            _ => (Bound::Included(low), high),
        };
        (low, high.map_or(Bound::Unbounded, Bound::Excluded))
    }

    /// The range of keys for a query without an index.
    pub(super) fn key_range(&self) -> Range {
        let place = |key: Key| (Rc::from([]), key);
        let texts = [self.from.as_deref(), Some(&self.equals)];
        let from = texts.into_iter().flatten().filter_map(text_of);
        let low = from.chain(self.prefix.clone()).max();
        let after_equal = text_of(&self.equals).map(|key| Rc::from(format!("{key}\0")));
        let ends = [
            self.to.as_deref().and_then(text_of),
            self.prefix.as_deref().and_then(after_prefix),
            after_equal,
        ];
        let high = ends.into_iter().flatten().min();
        let after = self.after.as_ref().map(|(_, key)| place(key.clone()));
        self.range(place(low.unwrap_or_default()), high.map(place), after)
    }

    /// The range of an index's places.
    fn index_range(&self) -> Range {
        let place = |tail: &[Scalar]| {
            let mut values = self.equals.clone();
            values.extend_from_slice(tail);
            (Rc::from(values), Key::default())
        };
        let text = |text: Rc<str>| place(&[Scalar::Text(text)]);
        let low = self.from.as_deref().map(place);
        let low = low.max(self.prefix.clone().map(text));
        let prefix_end = self
            .prefix
            .as_ref()
            .map(|prefix| match after_prefix(prefix) {
                Some(end) => text(end),
                None => place(&[Scalar::End]),
            });
        let ends = [
            self.to.as_deref().map(place),
            prefix_end,
            Some(place(&[Scalar::End])),
        ];
        let high = ends.into_iter().flatten().min();
        let after = self.after.clone();
        let after = after.map(|(values, key)| (values.into(), key));
        self.range(low.unwrap_or_else(|| place(&[])), high, after)
    }
}

/// The records of a collection by the values of some fields. A record that lacks one of them is
/// not in the index, as in IndexedDB. The second part finds a record's values again: its old
/// content may not be in memory any more when it leaves.
#[derive(Debug, Default)]
pub struct Index {
    places: Ordered<Place, ()>,
    of_keys: Ordered<Key, Rc<[Scalar]>>,
}

impl Index {
    fn values<V: Value>(fields: &[Rc<str>], value: &V) -> Option<Rc<[Scalar]>> {
        let mut values = Vec::with_capacity(fields.len());
        for field in fields {
            values.push(value.scalar(field)?);
        }
        Some(values.into())
    }

    pub(super) fn insert<V: Value>(&mut self, fields: &[Rc<str>], key: &Key, value: &V) {
        if let Some(values) = Self::values(fields, value) {
            self.places.insert((values.clone(), key.clone()), ());
            self.of_keys.insert(key.clone(), values);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(values) = self.of_keys.remove(key) {
            self.places.remove(&(values, key.clone()));
        }
    }

    /// Visits the keys that a query selects, in its order, and no more than it asks for.
    pub(super) fn select(&self, query: &Query, visit: &mut dyn FnMut(&Key)) {
        let (low, high) = query.index_range();
        let hits = self.places.range(low.as_ref(), high.as_ref());
        query.cut(&mut hits.map(|((_, key), ())| key), visit);
    }
}

impl Query {
    /// Order, offset and limit.
    pub(super) fn cut<'a>(
        &self,
        hits: &mut dyn DoubleEndedIterator<Item = &'a Key>,
        visit: &mut dyn FnMut(&Key),
    ) {
        let mut offset = self.offset;
        let mut limit = self.limit;
        while limit > 0 {
            let hit = if self.descending {
                hits.next_back()
            } else {
                hits.next()
            };
            let Some(key) = hit else { return };
            if offset > 0 {
                offset -= 1;
            } else {
                visit(key);
                limit -= 1;
            }
        }
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::{Index, Query, after_prefix};
    use crate::model::Key;
    use crate::value::Scalar;
    use serde_json::json;
    use std::rc::Rc;

    fn index() -> Index {
        let mut index = Index::default();
        let fields = [Rc::from("country"), Rc::from("name")];
        for (key, country, name) in [
            ("1", "CH", "Bern"),
            ("2", "CH", "Basel"),
            ("3", "AT", "Wien"),
            ("4", "DE", "Bonn"),
        ] {
            index.insert(
                &fields,
                &key.into(),
                &Rc::new(json!({"country": country, "name": name})),
            );
        }
        index.insert(&fields, &"5".into(), &Rc::new(json!({"country": "DE"})));
        index
    }

    fn select(query: &Query) -> String {
        let mut keys: Vec<Key> = Vec::new();
        index().select(query, &mut |key| keys.push(key.clone()));
        keys.join(",")
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.into())
    }

    #[test]
    fn orders_by_all_fields_and_leaves_out_incomplete_records() {
        assert_eq!(select(&Query::default()), "3,2,1,4");
        assert_eq!(
            select(&Query {
                descending: true,
                ..Query::default()
            }),
            "4,1,2,3"
        );
    }

    #[test]
    fn equals_prefix_and_range() {
        let equals = vec![text("CH")];
        assert_eq!(
            select(&Query {
                equals: equals.clone(),
                ..Query::default()
            }),
            "2,1"
        );
        let prefix = Some(Rc::from("Be"));
        assert_eq!(
            select(&Query {
                equals,
                prefix,
                ..Query::default()
            }),
            "1"
        );
        let (from, to) = (Some(vec![text("AU")]), Some(vec![text("DE")]));
        assert_eq!(
            select(&Query {
                from,
                to,
                ..Query::default()
            }),
            "2,1"
        );
    }

    #[test]
    fn offset_and_limit_follow_the_order() {
        let query = Query {
            descending: true,
            offset: 1,
            limit: 2,
            ..Query::default()
        };
        assert_eq!(select(&query), "1,2");
    }

    #[test]
    fn a_prefix_ends_where_the_next_string_begins() {
        assert_eq!(after_prefix("ab").as_deref(), Some("ac"));
        assert_eq!(after_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(after_prefix("\u{10ffff}"), None);
        let prefix = Some(Rc::from("B"));
        let query = Query {
            equals: vec![text("CH")],
            prefix,
            descending: true,
            ..Query::default()
        };
        assert_eq!(select(&query), "1,2");
    }

    #[test]
    fn impossible_ranges_select_nothing() {
        for descending in [false, true] {
            let query = |from: &str, to: &str| Query {
                from: Some(vec![text(from)]),
                to: Some(vec![text(to)]),
                descending,
                ..Query::default()
            };
            assert_eq!(select(&query("DE", "AT")), "");
            assert_eq!(select(&query("DE", "DE")), "");
        }
    }

    /// Every query page by page gives what it gives at once, whatever goes in between.
    #[test]
    fn pages_follow_each_other() {
        let country = |key: &str| match key {
            "1" | "2" => "CH",
            "3" => "AT",
            _ => "DE",
        };
        let name = |key: &str| match key {
            "1" => "Bern",
            "2" => "Basel",
            "3" => "Wien",
            _ => "Bonn",
        };
        for descending in [false, true] {
            for equals in [Vec::new(), vec![text("CH")]] {
                for from in [None, Some(vec![text("B")])] {
                    let mut query = Query {
                        descending,
                        equals: equals.clone(),
                        from: from.clone(),
                        ..Query::default()
                    };
                    let all = select(&query);
                    query.limit = 1;
                    let mut pages = Vec::new();
                    loop {
                        let page = select(&query);
                        if page.is_empty() {
                            break;
                        }
                        let values = vec![text(country(&page)), text(name(&page))];
                        query.after = Some((values, page.as_str().into()));
                        pages.push(page);
                    }
                    assert_eq!(pages.join(","), all, "{query:?}");
                }
            }
        }
    }

    #[test]
    fn a_place_outside_the_range_leaves_all_or_nothing() {
        let place = |country: &str| Some((vec![text(country), text("")], Key::from("")));
        let query = |after: &str, descending| Query {
            equals: vec![text("CH")],
            after: place(after),
            descending,
            ..Query::default()
        };
        assert_eq!(select(&query("AA", false)), "2,1");
        assert_eq!(select(&query("ZZ", false)), "");
        assert_eq!(select(&query("AA", true)), "");
        assert_eq!(select(&query("ZZ", true)), "1,2");
    }
}

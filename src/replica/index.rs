//! Indexes in memory, and the queries that use them.

use crate::model::Key;
use crate::value::{Scalar, Value};
use std::collections::{BTreeSet, HashMap};
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

impl Query {
    /// The range of keys for a query without an index.
    pub(super) fn key_bounds(&self) -> (Bound<Rc<str>>, Bound<Rc<str>>) {
        if let Some(key) = text_of(&self.equals) {
            return (Bound::Included(key.clone()), Bound::Included(key));
        }
        let from = self
            .from
            .as_deref()
            .and_then(text_of)
            .or_else(|| self.prefix.clone());
        let to = self.to.as_deref().and_then(text_of);
        (
            from.map_or(Bound::Unbounded, Bound::Included),
            to.map_or(Bound::Unbounded, Bound::Excluded),
        )
    }
}

/// The records of a collection by the values of some fields. A record that lacks one of them is
/// not in the index, as in IndexedDB. The second part finds a record's values again: its old
/// content may not be in memory any more when it leaves.
#[derive(Debug, Clone, Default)]
pub struct Index(BTreeSet<(Vec<Scalar>, Key)>, HashMap<Key, Vec<Scalar>>);

impl Index {
    fn values<V: Value>(fields: &[Rc<str>], value: &V) -> Option<Vec<Scalar>> {
        fields.iter().map(|f| value.scalar(f)).collect()
    }

    pub(super) fn insert<V: Value>(&mut self, fields: &[Rc<str>], key: &Key, value: &V) {
        if let Some(values) = Self::values(fields, value) {
            self.0.insert((values.clone(), key.clone()));
            self.1.insert(key.clone(), values);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(values) = self.1.remove(key) {
            self.0.remove(&(values, key.clone()));
        }
    }

    pub(super) fn select(&self, query: &Query) -> Vec<Key> {
        let start = |tail: &[Scalar]| {
            let mut values = query.equals.clone();
            values.extend_from_slice(tail);
            (values, Key::from(""))
        };
        let low = match (&query.from, &query.prefix) {
            (Some(from), _) => start(from),
            (None, Some(prefix)) => start(&[Scalar::Text(prefix.clone())]),
            (None, None) => start(&[]),
        };
        let depth = query.equals.len();
        let end = query.to.as_ref().map(|to| start(to).0);
        let inside = |values: &[Scalar]| {
            values.starts_with(&query.equals)
                && end.as_ref().is_none_or(|end| values < end.as_slice())
                && query.prefix.as_ref().is_none_or(|prefix| {
                    matches!(values.get(depth), Some(Scalar::Text(t)) if t.starts_with(prefix.as_ref()))
                })
        };
        let hits = self
            .0
            .range(low..)
            .take_while(|(values, _)| inside(values))
            .map(|(_, k)| k);
        if query.descending {
            let all: Vec<&Key> = hits.collect();
            let hits = all.into_iter().rev();
            hits.skip(query.offset).take(query.limit).cloned().collect()
        } else {
            hits.skip(query.offset).take(query.limit).cloned().collect()
        }
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::{Index, Query};
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
        index().select(query).join(",")
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
}

//! What a record shows while a change of it waits for the backend.
//!
//! An optimistic change shows itself. One written with `optimistic: false` is queued and durable,
//! but the record goes on showing what it showed before, until the backend has confirmed. Both may
//! meet in one queued mutation (docs: "Coalescing" in `replica/plan.rs`), so what shows is kept
//! beside what is pushed:
//!
//! | shown | the record shows |
//! |---|---|
//! | `Own` | the mutation's own content |
//! | `Before` | what was there before it: the backend's record, or what the mutation before it shows |
//! | `Patch` | that, with some fields changed by optimistic updates |
//! | `Record` | a record put optimistically, with hidden changes queued on top; none: a deletion |
//!
//! `Before` and `Patch` are relative on purpose: a page that is pulled meanwhile, or the confirmation
//! of the mutation before, shows through.

use crate::value::Value;
use std::rc::Rc;

/// Names of changed fields.
pub type Names = Rc<[Rc<str>]>;

/// What a record shows because of one queued mutation.
#[derive(Debug, Clone, Default)]
pub enum Shown<V> {
    /// The mutation's own content.
    #[default]
    Own,
    /// What was there before it.
    Before,
    /// What was there before it, with these fields as in the patch. Nothing shows where there was
    /// nothing.
    Patch(V, Names),
    /// This record; none shows a deletion.
    Record(Option<V>),
}

impl<V: Value> Shown<V> {
    /// What shows, of a mutation with the content `own`, where `before` showed without it.
    #[must_use]
    pub fn content(&self, own: Option<&V>, before: Option<&V>) -> Option<V> {
        match self {
            Self::Own => own.cloned(),
            Self::Before => before.cloned(),
            Self::Patch(patch, names) => before.map(|record| record.patched(patch, names)),
            Self::Record(record) => record.clone(),
        }
    }

    /// The same, when hidden content replaces what the mutation had: `own`, which was a change of
    /// the fields `changed` of what was before it, or a whole record.
    #[must_use]
    pub fn frozen(&self, own: Option<&V>, changed: Option<&Names>) -> Self {
        match (self, own, changed) {
            (Self::Own, Some(record), Some(names)) => {
                Self::Patch(record.picked(names), names.clone())
            }
            (Self::Own, own, _) => Self::Record(own.cloned()),
            _ => self.clone(),
        }
    }

    /// The same, with an optimistic update on top of content that is not shown as it is.
    #[must_use]
    pub fn patched(&self, patch: &V, names: &Names) -> Self {
        match self {
            Self::Own => Self::Own,
            Self::Before => Self::Patch(patch.picked(names), names.clone()),
            Self::Patch(earlier, known) => {
                let fresh = names.iter().filter(|n| !known.contains(n)).cloned();
                let united: Names = known.iter().cloned().chain(fresh).collect();
                Self::Patch(earlier.patched(patch, names), united)
            }
            Self::Record(record) => {
                Self::Record(record.as_ref().map(|record| record.patched(patch, names)))
            }
        }
    }

    /// What one mutation shows that takes the place of two: `self` of the first, whose content was
    /// `own` and a change of `changed`, and `then` of the one behind it.
    #[must_use]
    pub fn followed_by(&self, own: Option<&V>, changed: Option<&Names>, then: &Self) -> Self {
        match then {
            Self::Own | Self::Record(_) => then.clone(),
            Self::Before => self.frozen(own, changed),
            Self::Patch(patch, names) => self.frozen(own, changed).patched(patch, names),
        }
    }

    /// Whether the mutation's own content is what shows.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own)
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::{Names, Shown};
    use serde_json::{Value as Json, json};
    use std::rc::Rc;

    type Record = Rc<Json>;

    fn record(value: Json) -> Record {
        Rc::new(value)
    }

    fn names(names: &[&str]) -> Names {
        names.iter().map(|n| Rc::from(*n)).collect()
    }

    #[test]
    fn what_was_before_shows_through() {
        let (own, before) = (record(json!({"a": 2, "b": 2})), record(json!({"a": 1})));
        let show = |shown: &Shown<Record>, before| {
            let content = shown.content(Some(&own), before);
            content.map(|r| r.to_string())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(show(&Shown::Own, Some(&before)), some(r#"{"a":2,"b":2}"#));
        assert_eq!(show(&Shown::Before, Some(&before)), some(r#"{"a":1}"#));
        let patch = Shown::Patch(record(json!({"c": 3})), names(&["c", "a"]));
        assert_eq!(show(&patch, Some(&before)), some(r#"{"c":3}"#));
        assert_eq!(show(&patch, None), None, "there is nothing to change");
        assert_eq!(show(&Shown::Record(None), Some(&before)), None);
    }

    #[test]
    fn optimistic_fields_pile_up_and_hidden_ones_do_not() {
        let hidden: Shown<Record> = Shown::Before;
        let one = hidden.patched(&record(json!({"a": 1})), &names(&["a"]));
        let two = one.patched(&record(json!({"b": 2})), &names(&["b", "a"]));
        let before = record(json!({"a": 0, "b": 0, "c": 0}));
        let shown = two.content(None, Some(&before)).map(|r| r.to_string());
        assert_eq!(shown, Some(r#"{"b":2,"c":0}"#.to_owned()));
    }

    #[test]
    fn a_hidden_change_on_top_leaves_what_showed() {
        let own = record(json!({"a": 2, "b": 2}));
        let whole = Shown::Own.frozen(Some(&own), None);
        assert!(matches!(&whole, Shown::Record(Some(r)) if *r == own));
        let part = Shown::Own.frozen(Some(&own), Some(&names(&["b"])));
        assert!(matches!(&part, Shown::Patch(p, _) if **p == json!({"b": 2})));
        let behind = part.followed_by(Some(&own), None, &Shown::Before);
        assert!(matches!(behind, Shown::Patch(..)));
    }
}

//! Puts facts together as the browser's store reads them: for the stores of native tests.

use super::{Fact, Keys, Made, MadeAt, Queued, Run, Said};
use crate::limits;
use crate::shown::Shown;
use std::rc::Rc;

/// The same facts, those together that can be.
pub fn runs<V: Clone>(facts: Vec<Fact<V>>) -> Vec<Fact<V>> {
    let mut out = Vec::with_capacity(facts.len());
    let mut facts = facts.into_iter().peekable();
    while let Some(first) = facts.next() {
        let mut alike = vec![first];
        while let (Some(next), Some(last)) = (facts.peek(), alike.last())
            && goes_on(last, next)
        {
            alike.extend(facts.next());
        }
        if alike.len() < limits::RUN_MIN {
            out.append(&mut alike);
        } else {
            out.push(run(alike));
        }
    }
    out
}

fn goes_on<V>(last: &Fact<V>, next: &Fact<V>) -> bool {
    match (last, next) {
        (
            Fact::Queued {
                no: last,
                collection: c1,
                action: a1,
                changed: ch1,
                replaces: None,
                value: Some(_),
                shows: Shown::Own,
                group: None,
                origin: None,
                ..
            },
            Fact::Queued {
                no,
                collection,
                action,
                changed,
                replaces: None,
                value: Some(_),
                shows: Shown::Own,
                group: None,
                origin: None,
                ..
            },
        ) => last + 1 == *no && c1 == collection && a1 == action && ch1 == changed,
        (Fact::Held(last), Fact::Held(next)) => {
            let (a, b) = (&last.mutation, &next.mutation);
            last.is_plain()
                && next.is_plain()
                && (&a.collection, a.action, &a.changed) == (&b.collection, b.action, &b.changed)
                && a.sent == b.sent
        }
        (Fact::Remote { collection: c1, .. }, Fact::Remote { collection, .. }) => c1 == collection,
        _ => false,
    }
}

fn run<V>(facts: Vec<Fact<V>>) -> Fact<V> {
    let (mut joined, mut values) = (String::new(), Vec::with_capacity(facts.len()));
    let (mut of, mut before) = (None, Vec::new());
    for fact in facts {
        let (collection, key, value, said) = match fact {
            Fact::Queued {
                no,
                collection,
                key,
                action,
                value,
                changed,
                ..
            } => {
                let said = Said::Queued(Queued {
                    made: Made::Here(no),
                    action,
                    changed,
                    sent: false,
                });
                (collection, key, value, said)
            }
            Fact::Held(held) => {
                let m = held.mutation;
                before.push(MadeAt {
                    no: m.no,
                    at: m.at,
                    created_ms: m.created_ms,
                });
                let said = Said::Queued(Queued {
                    made: Made::Before(Rc::new([])),
                    action: m.action,
                    changed: m.changed,
                    sent: m.sent,
                });
                (m.collection, m.key, m.value, said)
            }
            Fact::Remote {
                collection,
                key,
                value,
                version,
            } => (collection, key, value, Said::Remote(vec![version])),
            _ => continue, // `goes_on` knows no other kind
        };
        joined.push_str(&key);
        joined.push('\0');
        values.push(value);
        match (&mut of, said) {
            (Some((_, Said::Remote(all))), Said::Remote(one)) => all.extend(one),
            (Some(_), _) => {}
            (none, said) => *none = Some((collection, said)),
        }
    }
    if let Some((_, Said::Queued(queued))) = &mut of
        && !before.is_empty()
    {
        queued.made = Made::Before(before.into());
    }
    let (collection, said) = of.unwrap_or_else(|| (Rc::from(""), Said::Remote(Vec::new())));
    Fact::Run(Rc::new(Run {
        collection,
        keys: Rc::new(Keys::new(&joined)),
        values,
        said,
    }))
}

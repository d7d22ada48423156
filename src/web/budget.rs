//! What the texts in memory may weigh, and which of them go first.

use super::value::{Row, Rows};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// The lists of rows that can be fetched again.
pub(super) struct Budget {
    bytes_max: f64,
    bytes: Cell<f64>,
    tick: Cell<u64>,
    /// By segment, in the order in which they came.
    lists: RefCell<Vec<(u64, Vec<Weak<Rows>>)>>,
}

impl Budget {
    pub(super) fn new(bytes_max: f64) -> Self {
        Self {
            bytes_max,
            bytes: Cell::new(0.0),
            tick: Cell::new(0),
            lists: RefCell::default(),
        }
    }

    /// Takes account of a list that has come into memory.
    pub(super) fn hold(&self, row: &Row) {
        let Some(home) = row.rows.home() else { return };
        let mut lists = self.lists.borrow_mut();
        // The rows of a list come one after the other, and so do the lists of a segment.
        let at = lists.iter().rposition(|(of, _)| *of == home.segment);
        let at = at.unwrap_or_else(|| {
            lists.push((home.segment, Vec::new()));
            lists.len() - 1
        });
        let known = &mut lists[at].1;
        let last = known.last();
        if last.is_some_and(|l| std::ptr::eq(l.as_ptr(), Rc::as_ptr(&row.rows))) {
            return;
        }
        known.push(Rc::downgrade(&row.rows));
        row.rows.used.set(self.tick.get());
        self.bytes.set(self.bytes.get() + row.rows.bytes());
    }

    /// The lists of a segment that are not in memory, but needed by somebody.
    pub(super) fn missing(&self, segment: u64) -> Vec<Rc<Rows>> {
        let lists = self.lists.borrow();
        let known = lists.iter().find(|(of, _)| *of == segment);
        let known = known.map_or(&[][..], |(_, known)| known);
        known
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|rows| !rows.is_resident())
            .collect()
    }

    /// Takes account of a list that was fetched again.
    pub(super) fn restored(&self, rows: &Rows) {
        rows.used.set(self.tick.get());
        self.bytes.set(self.bytes.get() + rows.bytes());
    }

    /// Lets go what was not looked at for the longest time, until the rest is within the budget.
    pub(super) fn evict(&self) {
        self.tick.set(self.tick.get() + 1);
        if self.bytes.get() <= self.bytes_max {
            return;
        }
        let mut lists = self.lists.borrow_mut();
        let mut held: Vec<Rc<Rows>> = Vec::new();
        lists.retain_mut(|(_, known)| {
            known.retain(|l| l.strong_count() > 0);
            held.extend(
                known
                    .iter()
                    .filter_map(Weak::upgrade)
                    .filter(|r| r.is_resident()),
            );
            !known.is_empty()
        });
        // What was looked at since the last time has its new tick here.
        for rows in &held {
            rows.note_use(self.tick.get());
        }
        held.sort_by_key(|rows| rows.used.get());
        let mut bytes: f64 = held.iter().map(|rows| rows.bytes()).sum();
        for rows in held {
            if bytes <= self.bytes_max {
                break;
            }
            bytes -= rows.bytes();
            rows.evict();
        }
        self.bytes.set(bytes);
    }
}

//! What may be in memory of what can be had again, and which of it goes first.

use super::value::{Row, Rows, lists_parsed};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// Lists of fewer rows are no matter.
const ROWS_MIN: usize = 16;

/// The lists of rows that can be fetched again, or whose objects can be made again.
pub(super) struct Budget {
    bytes_max: f64,
    /// Of those that can be fetched again.
    bytes: Cell<f64>,
    tick: Cell<u64>,
    /// While this is not 0, nothing is let go.
    pins: Cell<u32>,
    /// By segment, in the order in which they came.
    lists: RefCell<Vec<(u64, Vec<Weak<Rows>>)>>,
    /// Those whose texts stay.
    staying: RefCell<Vec<Weak<Rows>>>,
    /// As [`lists_parsed`] when their objects were last added up.
    parsed: Cell<u32>,
}

struct Pin<'a>(&'a Cell<u32>);

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.0.update(|pins| pins - 1);
    }
}

impl Budget {
    pub(super) fn new(bytes_max: f64) -> Self {
        Self {
            bytes_max,
            bytes: Cell::new(0.0),
            tick: Cell::new(0),
            pins: Cell::new(0),
            lists: RefCell::default(),
            staying: RefCell::default(),
            parsed: Cell::new(0),
        }
    }

    /// Takes account of a list that has come into memory.
    pub(super) fn hold(&self, row: &Row) {
        let is_last = |known: &[Weak<Rows>]| {
            let last = known.last();
            last.is_some_and(|l| std::ptr::eq(l.as_ptr(), Rc::as_ptr(&row.rows)))
        };
        let Some(home) = row.rows.home() else {
            let mut staying = self.staying.borrow_mut();
            if row.rows.len() >= ROWS_MIN && !is_last(&staying) {
                staying.push(Rc::downgrade(&row.rows));
                row.rows.used.set(self.tick.get());
            }
            return;
        };
        let mut lists = self.lists.borrow_mut();
        // The rows of a list come one after the other, and so do the lists of a segment.
        let at = lists.iter().rposition(|(of, _)| *of == home.segment);
        let at = at.unwrap_or_else(|| {
            lists.push((home.segment, Vec::new()));
            lists.len() - 1
        });
        let known = &mut lists[at].1;
        if is_last(known) {
            return;
        }
        known.push(Rc::downgrade(&row.rows));
        row.rows.used.set(self.tick.get());
        self.bytes.set(self.bytes.get() + row.rows.bytes());
    }

    /// Keeps everything in memory until it is dropped.
    pub(super) fn pin(&self) -> impl Drop + use<'_> {
        self.pins.update(|pins| pins + 1);
        Pin(&self.pins)
    }

    /// Whether somebody needs rows of a segment, in memory or not.
    pub(super) fn holds(&self, segment: u64) -> bool {
        let lists = self.lists.borrow();
        let mut known = lists.iter().filter(|(of, _)| *of == segment);
        known.any(|(_, known)| known.iter().any(|list| list.strong_count() > 0))
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
        if self.pins.get() > 0 {
            return;
        }
        self.tick.set(self.tick.get() + 1);
        if self.bytes.get() <= self.bytes_max
            && self.parsed.replace(lists_parsed()) == lists_parsed()
        {
            return;
        }
        let mut staying = self.staying.borrow_mut();
        staying.retain(|l| l.strong_count() > 0);
        let objects = staying.iter().filter_map(Weak::upgrade);
        let objects: f64 = objects.map(|rows| rows.spare_bytes()).sum();
        if self.bytes.get() + objects <= self.bytes_max {
            return;
        }
        let mut lists = self.lists.borrow_mut();
        let mut held: Vec<Rc<Rows>> = staying.iter().filter_map(Weak::upgrade).collect();
        lists.retain_mut(|(_, known)| {
            known.retain(|l| l.strong_count() > 0);
            held.extend(known.iter().filter_map(Weak::upgrade));
            !known.is_empty()
        });
        held.retain(|rows| rows.spare_bytes() > 0.0);
        // What was looked at since the last time has its new tick here.
        for rows in &held {
            rows.note_use(self.tick.get());
        }
        held.sort_by_key(|rows| rows.used.get());
        let mut bytes: f64 = held.iter().map(|rows| rows.spare_bytes()).sum();
        for rows in &held {
            if bytes <= self.bytes_max {
                break;
            }
            bytes -= rows.spare_bytes();
            rows.evict();
        }
        let can_go = held.iter().filter(|rows| rows.home().is_some());
        self.bytes.set(can_go.map(|rows| rows.spare_bytes()).sum());
    }
}

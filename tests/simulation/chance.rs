//! Chance from one seed, and the trace that two runs of a seed have in common.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A generator of chance, the same for the same seed (splitmix64); clones share it.
#[derive(Clone)]
pub(crate) struct Chance(Rc<Cell<u64>>);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d,
        )))
    }

    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&self, n: u64) -> u64 {
        (self.next() >> 11) % n.max(1)
    }

    /// The same as an index.
    pub(crate) fn index(&self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&self, n: u64) -> bool {
        self.below(100) < n
    }

    /// In `[0, 1)`.
    pub(crate) fn share(&self) -> f64 {
        self.below(1_000_000) as f64 / 1_000_000.0
    }
}

/// What has happened, as a hash; in words as well where somebody wants to read it.
#[derive(Default)]
pub(crate) struct Trace {
    hash: Cell<u64>,
    words: Option<RefCell<Vec<String>>>,
}

impl Trace {
    pub(crate) fn new(in_words: bool) -> Self {
        let words = in_words.then(RefCell::default);
        Self {
            hash: Cell::new(0xcbf2_9ce4_8422_2325),
            words,
        }
    }

    /// Takes in a number.
    pub(crate) fn mark(&self, n: u64) {
        let hash = (self.hash.get() ^ n).wrapping_mul(0x0100_0000_01b3);
        self.hash.set(hash.rotate_left(23));
    }

    /// Takes in a text.
    pub(crate) fn mark_text(&self, text: &str) {
        let mut hash = self.hash.get();
        for byte in text.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.hash.set(hash);
    }

    /// A line for people.
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        if let Some(words) = &self.words {
            words.borrow_mut().push(line());
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.get()
    }

    pub(crate) fn words(&self) -> Vec<String> {
        self.words
            .as_ref()
            .map_or_else(Vec::new, |w| w.borrow().clone())
    }
}

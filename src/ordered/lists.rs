//! The lists that an ordered map is made of.

use std::any::Any;
use std::cell::OnceCell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

/// A list of entries in order, never empty but for a moment.
pub trait List<K, V>: From<Vec<(K, V)>> {
    /// How many there are.
    fn count(&self) -> usize;
    /// The first key.
    fn first(&self) -> Option<&K>;
    /// The last key.
    fn last(&self) -> Option<&K>;
    /// The entries, if they need not be made.
    fn made(&self) -> Option<&Vec<(K, V)>>;
    /// The entries.
    fn entries(&self) -> &Vec<(K, V)>;
    /// The same, to be changed.
    fn entries_mut(&mut self) -> &mut Vec<(K, V)>;
}

impl<K, V> List<K, V> for Vec<(K, V)> {
    fn count(&self) -> usize {
        self.as_slice().len()
    }

    fn first(&self) -> Option<&K> {
        self.as_slice().first().map(|entry| &entry.0)
    }

    fn last(&self) -> Option<&K> {
        self.as_slice().last().map(|entry| &entry.0)
    }

    fn made(&self) -> Option<&Self> {
        Some(self)
    }

    fn entries(&self) -> &Self {
        self
    }

    fn entries_mut(&mut self) -> &mut Self {
        self
    }
}

/// A list of entries that are made when somebody looks at one of them.
pub struct Lazy<K, V> {
    entries: OnceCell<Vec<(K, V)>>,
    /// None where the entries have changed since.
    source: Option<Source<K, V>>,
}

struct Source<K, V> {
    of: Rc<dyn Any>,
    range: Range<usize>,
    ends: (K, K),
    make: Rc<dyn Fn(usize) -> (K, V)>,
}

impl<K, V> fmt::Debug for Lazy<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lazy")
    }
}

impl<K, V> Lazy<K, V> {
    pub(super) fn new(
        of: Rc<dyn Any>,
        range: Range<usize>,
        ends: (K, K),
        make: Rc<dyn Fn(usize) -> (K, V)>,
    ) -> Self {
        let source = Source {
            of,
            range,
            ends,
            make,
        };
        Self {
            entries: OnceCell::new(),
            source: Some(source),
        }
    }

    /// What the entries are to be made of.
    pub(super) fn unmade(&self) -> Option<(&dyn Any, Range<usize>)> {
        self.source().filter(|_| self.entries.get().is_none())
    }

    /// What the entries are made of or to be made of, where none has changed since.
    #[must_use]
    pub fn source(&self) -> Option<(&dyn Any, Range<usize>)> {
        let source = self.source.as_ref()?;
        Some((&*source.of, source.range.clone()))
    }

    fn all(&self) -> Vec<(K, V)> {
        let source = self.source.as_ref();
        source.map_or_else(Vec::new, |it| {
            it.range.clone().map(|at| (it.make)(at)).collect()
        })
    }
}

impl<K, V> From<Vec<(K, V)>> for Lazy<K, V> {
    fn from(entries: Vec<(K, V)>) -> Self {
        Self {
            entries: entries.into(),
            source: None,
        }
    }
}

impl<K, V> List<K, V> for Lazy<K, V> {
    fn count(&self) -> usize {
        match &self.source {
            Some(source) => source.range.len(),
            None => self.entries().len(),
        }
    }

    fn first(&self) -> Option<&K> {
        match &self.source {
            Some(source) => Some(&source.ends.0),
            None => List::first(self.entries()),
        }
    }

    fn last(&self) -> Option<&K> {
        match &self.source {
            Some(source) => Some(&source.ends.1),
            None => List::last(self.entries()),
        }
    }

    fn made(&self) -> Option<&Vec<(K, V)>> {
        self.entries.get()
    }

    fn entries(&self) -> &Vec<(K, V)> {
        self.entries.get_or_init(|| self.all())
    }

    fn entries_mut(&mut self) -> &mut Vec<(K, V)> {
        self.entries();
        self.source = None;
        // Made a line above.
        self.entries.get_mut().unwrap_or_else(|| unreachable!())
    }
}

//! Short digests of files and folders, and the stamps that tell whether something changed.
//!
//! A digest is only ever compared with one made on the same machine; it guards against doing work
//! twice, not against anybody.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::Result;
use crate::paths;

/// A digest in the making.
#[derive(Debug, Default)]
pub(crate) struct Digest(DefaultHasher);

impl Digest {
    /// Takes in a text.
    pub(crate) fn text(mut self, text: &str) -> Self {
        text.hash(&mut self.0);
        self
    }

    /// Takes in a file, or that it is absent.
    pub(crate) fn file(mut self, file: &Path) -> Self {
        fs::read(file).ok().hash(&mut self.0);
        self
    }

    /// Takes in all files below `folder`, with their names, but those below a folder named in
    /// `without`.
    pub(crate) fn folder(mut self, folder: &Path, without: &[&str]) -> Self {
        for file in files_below(folder, without) {
            file.strip_prefix(folder).unwrap_or(&file).hash(&mut self.0);
            self = self.file(&file);
        }
        self
    }

    /// The digest.
    pub(crate) fn end(&self) -> String {
        format!("{:016x}", self.0.finish())
    }
}

/// Whether the stamp says the same as when [`stamp`] was last called.
pub(crate) fn is_stamped(stamp: &Path, digest: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|text| text.trim() == digest.trim())
}

/// Notes that the work for `digest` is done.
pub(crate) fn stamp(stamp: &Path, digest: &str) -> Result<()> {
    paths::write(stamp, format!("{}\n", digest.trim()))
}

/// All files below `folder`, sorted, without the folders named in `without` and without links.
pub(crate) fn files_below(folder: &Path, without: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_file() {
                found.push(entry.path());
            } else if kind.is_dir() && !without.iter().any(|name| entry.file_name() == *name) {
                waiting.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_names_and_contents() {
        let folder = std::env::temp_dir().join(format!("xtask-digest-{}", std::process::id()));
        let of = || Digest::default().folder(&folder, &["skipped"]).end();
        paths::write(&folder.join("a/one"), "1").expect("it writes");
        let first = of();
        paths::write(&folder.join("skipped/two"), "2").expect("it writes");
        assert_eq!(of(), first);
        paths::write(&folder.join("a/one"), "2").expect("it writes");
        assert_ne!(of(), first);
        paths::write(&folder.join("a/one"), "1").expect("it writes");
        assert_eq!(of(), first);
        fs::remove_dir_all(&folder).expect("it goes");
    }
}

//! Where media live: files that records refer to, too large to travel in a batch. Behind a trait of
//! its own, kept by the same stores; `conformance` tests its promises for each:
//!
//! - **Pieces, never a whole.** A file is kept as pieces of [`limits::MEDIA_PIECE_BYTES`], the last
//!   one shorter. No call takes or gives more than one, so the memory of a request is bounded, and
//!   nobody who writes waits for the whole of somebody's upload.
//! - **A part counts once.** [`MediaStore::append`] takes what it does not have yet and leaves out
//!   what it has; a part that would leave a hole is refused. So a part may be sent again, also at
//!   the same time as its first copy.
//! - **Whole or absent.** A file is complete only after all that is stored has been read back and
//!   has the SHA-256 that was declared before the first byte ([`settle`]).
//! - **Spaces apart.** A file's key holds its space; the same id in two spaces is two files.
//! - **Removal is at once, clearing away is not.** A removed file is gone for everybody; its pieces
//!   go in bounded steps ([`MediaStore::sweep`]).

#[cfg(test)]
pub(crate) mod conformance;

use std::fmt::{self, Write};

use axum::body::Bytes;
use sha2::{Digest, Sha256};

use super::{Answer, StoreError};
use crate::access::Space;
use crate::ids::{MediaId, UnixMillis, UserId};
use crate::limits;

/// Media of all spaces.
pub trait MediaStore: Send + Sync + 'static {
    /// The file under a key, finished or not.
    fn find<'a>(&'a self, key: &'a MediaKey) -> Answer<'a, Option<Media>>;

    /// The file under a key, which is made if there is none, as long as all files of its owner
    /// together stay within `quota_bytes`. A file that is there is answered as it is, whatever was
    /// declared for it.
    fn begin<'a>(
        &'a self,
        key: &'a MediaKey,
        declared: &'a Declaration,
        owner: &'a UserId,
        quota_bytes: u64,
        now: UnixMillis,
    ) -> Answer<'a, Begun>;

    /// Adds bytes that begin at `offset`: at most [`limits::MEDIA_PIECE_BYTES`], and within the
    /// declared size.
    fn append(
        &self,
        number: MediaNumber,
        offset: u64,
        bytes: Bytes,
        now: UnixMillis,
    ) -> Answer<'_, Appended>;

    /// The piece with this index, empty past the last.
    fn piece(&self, number: MediaNumber, index: u64) -> Answer<'_, Bytes>;

    /// Marks a file of which all bytes are here as complete; whether it was there.
    fn complete(&self, number: MediaNumber, now: UnixMillis) -> Answer<'_, bool>;

    /// Removes the file under a key, or, with a number, only the upload that has it; whether it was
    /// there.
    fn remove<'a>(&'a self, key: &'a MediaKey, only: Option<MediaNumber>) -> Answer<'a, bool>;

    /// One bounded step of clearing away: uploads to which nothing was added since `before`, and
    /// the pieces of what was removed. Whether there is more to do.
    fn sweep(&self, before: UnixMillis) -> Answer<'_, bool>;
}

/// What a file is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaKey {
    /// Who may read and write it.
    pub space: Space,
    /// The name that the client chose.
    pub id: MediaId,
}

/// The number that a store gives an upload. Never given twice, so that what is left of a removed
/// file cannot be taken for a part of one that came after it.
pub type MediaNumber = i64;

/// What is said of a file before its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Its media type, as it will be answered.
    pub content_type: String,
    /// Its bytes.
    pub size: u64,
    /// The checksum of all of it.
    pub sha256: Checksum,
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checksum(pub [u8; 32]);

impl Checksum {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// In hexadecimal digits.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// A file as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// The upload's number.
    pub number: MediaNumber,
    /// What was said of it.
    pub declared: Declaration,
    /// Bytes that are here, from the beginning without a hole.
    pub received: u64,
    /// Whether all are here and have the declared checksum.
    pub complete: bool,
}

/// What became of a beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The file under the key, new or as it was.
    Media(Media),
    /// It would be too much for one user; so many bytes are left.
    OverQuota(u64),
}

/// What became of bytes that were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// So many bytes are here now.
    Received(u64),
    /// They would leave a hole: only so many bytes are here.
    Hole(u64),
    /// There is no such upload any more.
    Gone,
}

/// What became of a file whose last byte has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is complete.
    Complete,
    /// It is not what was declared, and was removed.
    Mismatch,
    /// It was removed meanwhile.
    Gone,
}

/// Bytes that a file costs beside its own, so that a great number of empty ones is not free.
const OVERHEAD_BYTES: u64 = 1024;

/// What a file of this size takes of its owner's quota.
pub fn cost_bytes(size: u64) -> u64 {
    size.saturating_add(OVERHEAD_BYTES)
}

/// How a part goes into the pieces: what is left of it after the bytes that are here already, cut
/// where the piece ends that is begun. `None` where it brings nothing new.
pub(super) fn fresh(offset: u64, received: u64, bytes: &Bytes) -> Option<(Bytes, Bytes)> {
    let known = usize::try_from(received.checked_sub(offset)?).ok()?;
    if known >= bytes.len() {
        return None;
    }
    let mut head = bytes.slice(known..);
    let begun = usize::try_from(received % limits::MEDIA_PIECE_BYTES as u64).ok()?;
    let room = limits::MEDIA_PIECE_BYTES - begun;
    let tail = head.split_off(room.min(head.len()));
    Some((head, tail))
}

/// Reads all of an upload back, and completes it where it is what was declared.
pub async fn settle(
    store: &dyn MediaStore,
    key: &MediaKey,
    media: &Media,
    now: UnixMillis,
) -> Result<Settled, StoreError> {
    let mut hash = Sha256::new();
    let mut read = 0;
    for index in 0.. {
        if read >= media.declared.size {
            break;
        }
        let piece = store.piece(media.number, index).await?;
        if piece.is_empty() {
            return Ok(Settled::Gone);
        }
        read += piece.len() as u64;
        hash.update(&piece);
    }
    if Checksum(hash.finalize().into()) == media.declared.sha256 {
        let there = store.complete(media.number, now).await?;
        return Ok(if there {
            Settled::Complete
        } else {
            Settled::Gone
        });
    }
    store.remove(key, Some(media.number)).await?;
    Ok(Settled::Mismatch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_where_pieces_end() {
        let piece = limits::MEDIA_PIECE_BYTES;
        let bytes = Bytes::from(vec![7; piece]);
        let lengths = |offset, received| {
            fresh(offset, received, &bytes).map(|(head, tail)| (head.len(), tail.len()))
        };
        assert_eq!(lengths(0, 0), Some((piece, 0)));
        assert_eq!(lengths(10, 10), Some((piece - 10, 10)));
        assert_eq!(lengths(0, 10), Some((piece - 10, 0)));
        assert_eq!(lengths(0, piece as u64), None);
        assert_eq!(lengths(11, 10), None, "a hole");
        let far = piece as u64 * 3 - 1;
        assert_eq!(lengths(far, far), Some((1, piece - 1)));
    }

    #[test]
    fn checksums_are_hexadecimal() {
        assert!(Checksum::of(b"").hex().starts_with("e3b0c44298fc1c14"));
    }
}

//! Checkpoints: how far a client has pulled. Opaque to clients; here the database's random id, which
//! tells it from another one that happens to be as long, and a position in each space of the asker.
//!
//! `<database id>-<space><position>.<space><position>…`, a space as 8 characters of the hash of its
//! name, a position in base 36. 500 entities make some 7 KB, one's own space alone a few bytes.
//! `<database id>.<position>` is the form of servers that knew own spaces only.
//!
//! **What a checkpoint is good for.** A space that is new to it begins at 0. One that it knows and
//! that is no longer the asker's makes it unknown: the client pulls everything anew and so forgets
//! what it may no longer see. So does a position beyond the space's newest (an older backup was
//! restored), and one below the space's *floor*, the position of the newest tombstone that was
//! purged: the client may still hold what that tombstone was to take away. But whoever begins at 0
//! holds nothing, whatever was purged before: the floor at which a reader began travels with the
//! position (`<space><position>_<floor>`) until it has passed it.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::StoreError;
use crate::access::Space;

/// A position in one space's sequence of changes; 0 is before the first.
pub type Seq = u64;

/// Bytes of a database's random id.
const ID_BYTES: usize = 16;

/// Characters of a space's hash: 48 bits. Two of 500 spaces are alike once in 2 billion users.
const HASH_CHARS: usize = 8;

/// One character for each 6 bits of a hash; all pass through an address unchanged.
const HASH_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Where a space stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The position of its newest change.
    pub seq: Seq,
    /// The position of the newest tombstone that was purged.
    pub floor: Seq,
}

/// How far a reader is in one space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The space.
    pub space: Space,
    /// What the reader has seen.
    pub seq: Seq,
    /// The space's floor when the reader began it.
    pub began: Seq,
    /// Where the space stands.
    pub head: Head,
}

impl Position {
    /// Whether there is something that the reader has not seen.
    pub fn behind(&self) -> bool {
        self.seq < self.head.seq
    }
}

/// A database's random id, minted when it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseId(String);

impl DatabaseId {
    /// A new one, from the operating system's randomness.
    pub fn mint() -> Result<Self, StoreError> {
        let mut bytes = [0u8; ID_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| StoreError::Engine(std::sync::Arc::new(error)))?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    /// One that was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The id as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The checkpoint of a reader who is this far.
    pub fn checkpoint<'a>(&self, positions: impl IntoIterator<Item = &'a Position>) -> String {
        let mut text = format!("{}-", self.0);
        let mut first = true;
        for position in positions {
            // Nothing was seen there: the same as being new to it.
            if position.seq == 0 {
                continue;
            }
            if !first {
                text.push('.');
            }
            first = false;
            text.push_str(&self.hash(&position.space));
            push_base36(&mut text, position.seq);
            if position.seq < position.head.floor {
                text.push('_');
                push_base36(&mut text, position.began);
            }
        }
        text
    }

    /// How far the reader with this checkpoint is in each of these spaces, the first of which is
    /// the reader's own; from the beginning without one. Whatever cannot be gone on from, also what
    /// is no checkpoint at all, is unknown: the client's way out is the same.
    pub fn positions(
        &self,
        since: Option<&str>,
        heads: impl IntoIterator<Item = (Space, Head)>,
    ) -> Result<Vec<Position>, StoreError> {
        let heads: Vec<_> = heads.into_iter().collect();
        let mut known = match since {
            Some(text) => self
                .parse(text, &heads)
                .ok_or(StoreError::CheckpointUnknown)?,
            None => HashMap::new(),
        };
        let mut positions = Vec::with_capacity(heads.len());
        for (space, head) in heads {
            let seen = known.remove(&self.hash(&space));
            let (seq, began) = seen.unwrap_or((0, Some(head.floor)));
            let complete = seq == 0 || seq >= head.floor || began == Some(head.floor);
            if seq > head.seq || !complete {
                return Err(StoreError::CheckpointUnknown);
            }
            let began = head.floor;
            positions.push(Position {
                space,
                seq,
                began,
                head,
            });
        }
        // What is left is of spaces that are not the asker's.
        if known.is_empty() {
            Ok(positions)
        } else {
            Err(StoreError::CheckpointUnknown)
        }
    }

    /// The positions by their spaces' hashes, each with the floor at which it began.
    fn parse(
        &self,
        text: &str,
        heads: &[(Space, Head)],
    ) -> Option<HashMap<String, (Seq, Option<Seq>)>> {
        let rest = text.strip_prefix(self.0.as_str())?;
        if let Some(own) = rest.strip_prefix('.') {
            let (own_space, _) = heads.first()?;
            return Some([(self.hash(own_space), (parse_number(own, 10)?, None))].into());
        }
        let entries = rest.strip_prefix('-')?;
        if entries.is_empty() {
            return Some(HashMap::new());
        }
        let entries = entries.split('.').map(|entry| {
            let (hash, rest) = entry.split_at_checked(HASH_CHARS)?;
            let (seq, began) = match rest.split_once('_') {
                Some((seq, began)) => (seq, Some(parse_number(began, 36)?)),
                None => (rest, None),
            };
            Some((hash.to_owned(), (parse_number(seq, 36)?, began)))
        });
        entries.collect()
    }

    /// Salted with the database's id, so that nobody can look for names of equal hashes beforehand.
    fn hash(&self, space: &Space) -> String {
        let digest = Sha256::digest(format!("{}{space}", self.0));
        let bits = digest
            .iter()
            .take(6)
            .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        (0..HASH_CHARS)
            .map(|n| char::from(HASH_ALPHABET[(bits >> (6 * n)) as usize & 63]))
            .collect()
    }
}

/// The heads of these spaces, in their order, from those that have a row.
pub fn heads_of(
    spaces: impl IntoIterator<Item = Space>,
    mut rows: BTreeMap<Space, Head>,
) -> Vec<(Space, Head)> {
    let head = |space: Space| {
        let head = rows.remove(&space).unwrap_or_default();
        (space, head)
    };
    spaces.into_iter().map(head).collect()
}

fn push_base36(text: &mut String, mut number: u64) {
    let mut digits = [0u8; 13];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
        if number == 0 {
            break;
        }
    }
    text.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

fn parse_number(text: &str, radix: u32) -> Option<u64> {
    // `from_str_radix` takes a sign, too.
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let number = u64::from_str_radix(text, radix).ok().filter(|_| plain)?;
    // Databases have signed integers.
    i64::try_from(number).ok().map(|_| number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{EntityId, UserId};
    use crate::limits;

    fn own() -> Space {
        Space::Own(UserId::new("ann").unwrap())
    }

    fn entity(n: usize) -> Space {
        Space::Entity(EntityId::new(format!("site-{n}")).unwrap())
    }

    fn head(seq: Seq, floor: Seq) -> Head {
        Head { seq, floor }
    }

    fn seqs(positions: &[Position]) -> Vec<Seq> {
        positions.iter().map(|position| position.seq).collect()
    }

    fn at(space: Space, seq: Seq, head: Head) -> Position {
        Position {
            space,
            seq,
            began: head.floor,
            head,
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        let id = DatabaseId::mint().unwrap();
        for seq in [0, 1, 35, 36, i64::MAX as u64] {
            let head = head(i64::MAX as u64, 0);
            let text = id.checkpoint(&[at(own(), seq, head), at(entity(1), 7, head)]);
            let heads = [(own(), head), (entity(1), head), (entity(2), head)];
            let read = id.positions(Some(&text), heads).unwrap();
            assert_eq!(seqs(&read), [seq, 7, 0], "{text}");
        }
    }

    #[test]
    fn stays_short() {
        let id = DatabaseId::mint().unwrap();
        let million = |space| at(space, 1_000_000, head(2_000_000, 0));
        assert!(id.checkpoint(&[million(own())]).len() <= 48);
        let many: Vec<_> = (0..limits::ENTITIES_MAX)
            .map(|n| million(entity(n)))
            .collect();
        let text = id.checkpoint(&many);
        assert!(text.len() < 7000, "{}", text.len());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        assert!(text.bytes().all(plain), "passes through an address");
    }

    #[test]
    fn goes_on_from_the_form_of_schema_1() {
        let id = DatabaseId::mint().unwrap();
        let text = format!("{}.12", id.as_str());
        let heads = [(own(), head(12, 0)), (entity(1), head(3, 2))];
        assert_eq!(seqs(&id.positions(Some(&text), heads).unwrap()), [12, 0]);
        assert!(id.positions(Some(&text), [(own(), head(11, 0))]).is_err());
        assert!(id.positions(Some(&text), [(own(), head(20, 13))]).is_err());
    }

    #[test]
    fn refuses_what_it_cannot_go_on_from() {
        let id = DatabaseId::mint().unwrap();
        let other = DatabaseId::mint().unwrap();
        let known = id.checkpoint(&[at(own(), 5, head(5, 0))]);
        let id_text = id.as_str();
        let gone = id.checkpoint(&[at(own(), 5, head(5, 0)), at(entity(1), 1, head(5, 0))]);
        let anothers = id.checkpoint(&[at(Space::Own(UserId::new("bob").unwrap()), 5, head(5, 0))]);
        for wrong in [
            String::new(),
            "1".into(),
            ".".into(),
            id_text.into(),
            format!("{id_text}."),
            format!("{id_text}.-1"),
            format!("{id_text}.+1"),
            format!("{id_text}.1.1"),
            format!("{id_text}.18446744073709551615"),
            format!("{id_text}.99999999999999999999"),
            format!("{id_text}-5"),
            format!("{known}."),
            format!("{known}_"),
            format!("{known}_+1"),
            format!("{known}ü"),
            known.replace(id_text, other.as_str()),
            gone,
            anothers,
        ] {
            let read = id.positions(Some(&wrong), [(own(), head(9, 0))]);
            assert!(read.is_err(), "{wrong}");
        }
        assert!(id.positions(Some(&known), [(own(), head(5, 0))]).is_ok());
        let ahead = id.positions(Some(&known), [(own(), head(4, 0))]);
        assert!(ahead.is_err(), "an older backup was restored");
    }

    #[test]
    fn a_purge_below_which_a_reader_stands_ends_its_checkpoint() {
        let id = DatabaseId::mint().unwrap();
        let text = id.checkpoint(&[at(own(), 5, head(9, 0))]);
        assert!(id.positions(Some(&text), [(own(), head(9, 5))]).is_ok());
        assert!(id.positions(Some(&text), [(own(), head(9, 6))]).is_err());
    }

    #[test]
    fn who_begins_after_a_purge_comes_to_the_end() {
        let id = DatabaseId::mint().unwrap();
        let purged = head(9, 6);
        let mut read = id.positions(None, [(own(), purged)]).unwrap();
        read[0].seq = 2;
        let text = id.checkpoint(&read);
        let again = id.positions(Some(&text), [(own(), purged)]).unwrap();
        assert_eq!(again, read);
        // Another purge on the way: what it took may have been seen.
        assert!(id.positions(Some(&text), [(own(), head(9, 7))]).is_err());
        read[0].seq = 6;
        let text = id.checkpoint(&read);
        let tail = &text[id.as_str().len() + 1 + HASH_CHARS..];
        assert_eq!(tail, "6", "what is passed is told no longer");
        assert!(id.positions(Some(&text), [(own(), purged)]).is_ok());
    }
}

//! Checkpoints: how far a client has pulled. Opaque to clients; here the database's random id and
//! a position in the user's sequence of changes. The id tells a database from another one that
//! happens to be as long.

use super::StoreError;

/// A position in one user's sequence of changes; 0 is before the first.
pub type Seq = u64;

/// Bytes of a database's random id.
const ID_BYTES: usize = 16;

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

    /// The checkpoint at a position.
    pub fn checkpoint(&self, seq: Seq) -> String {
        format!("{}.{seq}", self.0)
    }

    /// Reads a checkpoint of this database. Anything else, also what is no checkpoint at all, is
    /// unknown: the client's way out is the same.
    pub fn position(&self, checkpoint: &str) -> Result<Seq, StoreError> {
        checkpoint
            .split_once('.')
            .filter(|(id, seq)| *id == self.0 && seq.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|(_, seq)| seq.parse().ok())
            // SQLite's integers are signed.
            .filter(|seq| i64::try_from(*seq).is_ok())
            .ok_or(StoreError::CheckpointUnknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let id = DatabaseId::mint().unwrap();
        for seq in [0, 1, i64::MAX as u64] {
            assert_eq!(id.position(&id.checkpoint(seq)).unwrap(), seq);
        }
    }

    #[test]
    fn refuses_all_else() {
        let id = DatabaseId::mint().unwrap();
        let other = DatabaseId::mint().unwrap();
        let id_text = id.as_str();
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
            other.checkpoint(1),
        ] {
            assert!(id.position(&wrong).is_err(), "{wrong}");
        }
    }
}

//! Ids, versions and stamps as types of their own, so that none can be passed for another. Each can
//! only be built from text that is within its limits.

use std::fmt;

use serde::Serialize;

use crate::limits;

/// Why a text cannot be an id of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {fault}")]
pub struct InvalidId {
    what: &'static str,
    fault: IdFault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum IdFault {
    #[error("is empty")]
    Empty,
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    #[error("contains a control character")]
    Control,
    #[error("contains the character U+0000")]
    Nul,
    #[error("contains a comma, which separates names in `types`")]
    Comma,
    #[error("is not `<13 digits>-<4 hexadecimal digits>-<client id>`")]
    Shape,
}

fn check(what: &'static str, text: &str, bytes_max: usize) -> Result<(), InvalidId> {
    check_key(what, text, bytes_max)?;
    if text.chars().any(char::is_control) {
        // Invisible in logs and tools.
        let fault = IdFault::Control;
        return Err(InvalidId { what, fault });
    }
    Ok(())
}

/// A record's key is people's data, pasted text as well: what the client takes is taken here.
fn check_key(what: &'static str, text: &str, bytes_max: usize) -> Result<(), InvalidId> {
    let fault = if text.is_empty() {
        IdFault::Empty
    } else if text.len() > bytes_max {
        IdFault::TooLong(bytes_max)
    } else if text.contains('\0') {
        // It ends a C string inside SQLite's functions, and PostgreSQL has none.
        IdFault::Nul
    } else {
        return Ok(());
    };
    Err(InvalidId { what, fault })
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $bytes_max:expr) => {
        text_id!($(#[$doc])* $name, $what, $bytes_max, check, "control characters");
    };
    ($(#[$doc:meta])* $name:ident, $what:literal, $bytes_max:expr, $check:ident, $without:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Takes the text when it is not empty, not too long and free of ", $without, ".")]
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                $check($what, &text, $bytes_max)?;
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Whose records they are: the token's `sub`.
    UserId, "the user", limits::USER_ID_BYTES_MAX
);
text_id!(
    /// What several users share: a site, a project, a team. Its records are theirs who are
    /// assigned to it.
    EntityId, "the entity", limits::ENTITY_ID_BYTES_MAX
);
text_id!(
    /// One installation of an app: `clientId` of a batch.
    ClientId, "`clientId`", limits::CLIENT_ID_BYTES_MAX
);
text_id!(
    /// A mutation, fixed when it was queued.
    MutationId, "`id`", limits::MUTATION_ID_BYTES_MAX
);
text_id!(
    /// A file within its space.
    MediaId, "the file's id", limits::MEDIA_ID_BYTES_MAX
);
text_id!(
    /// A record within its collection.
    RecordId, "the record's id", limits::RECORD_ID_BYTES_MAX, check_key, "U+0000"
);

/// A collection's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RecordType(String);

impl RecordType {
    /// Takes the text under the rules of ids; it must not contain a comma either, since `types` of
    /// a pull could not name it.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
        let text = text.into();
        check("`type`", &text, limits::TYPE_BYTES_MAX)?;
        if text.contains(',') {
            return Err(InvalidId {
                what: "`type`",
                fault: IdFault::Comma,
            });
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A hybrid logical clock's reading, which sorts as text: 13 digits of milliseconds since 1970, `-`,
/// 4 hexadecimal digits of a counter, `-`, a client's id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Stamp(String);

impl Stamp {
    /// Takes the text when it has that shape. A stamp of another shape could sort after all others
    /// for ever, and so win every comparison.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
        let text = text.into();
        check("`at`", &text, 19 + limits::CLIENT_ID_BYTES_MAX)?;
        let bytes = text.as_bytes();
        let shaped = bytes.len() > 19
            && bytes[..13].iter().all(u8::is_ascii_digit)
            && bytes[13] == b'-'
            && bytes[14..18].iter().all(u8::is_ascii_hexdigit)
            && bytes[18] == b'-';
        if !shaped {
            return Err(InvalidId {
                what: "`at`",
                fault: IdFault::Shape,
            });
        }
        Ok(Self(text))
    }

    /// The first reading of `client`'s clock at `now`.
    pub fn at(now: UnixMillis, client: &ClientId) -> Self {
        Self(format!("{:013}-0000-{client}", now.0))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The number that the server raises at each change of a record; 0 is "no version".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// "No version": the base of a create.
    pub const NONE: Self = Self(0);

    /// The version after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Milliseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The system's clock. Only the shell (HTTP, command line) asks it; everything below is given
    /// the time.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_bounds() {
        assert!(RecordId::new("a").is_ok());
        assert!(RecordId::new("ä".repeat(limits::RECORD_ID_BYTES_MAX / 2)).is_ok());
        assert!(RecordId::new("a".repeat(limits::RECORD_ID_BYTES_MAX + 1)).is_err());
        assert_eq!(
            RecordId::new("").unwrap_err().to_string(),
            "the record's id is empty"
        );
        assert!(RecordId::new("a\0b").is_err());
        assert!(RecordId::new("pasted\tin\ntwo lines\u{7f}").is_ok());
        assert!(UserId::new("a\tb").is_err());
        assert!(UserId::new("a\0b").is_err());
        assert!(RecordType::new("a,b").is_err());
        // As many as the client takes: it would park what is refused here.
        assert!(RecordId::new("a".repeat(512)).is_ok());
        assert!(RecordType::new("a".repeat(128)).is_ok());
    }

    #[test]
    fn stamps_have_a_shape() {
        assert!(Stamp::new("1763690000000-0003-k3v9").is_ok());
        for wrong in [
            "",
            "1763690000000-0003-",
            "1763690000000-0003",
            "176369000000-0003-k3v9",
            "1763690000000-00g3-k3v9",
            "zzzzzzzzzzzzz-0003-k3v9",
            "1763690000000_0003_k3v9",
        ] {
            assert!(Stamp::new(wrong).is_err(), "{wrong}");
        }
        let client = ClientId::new("seed").unwrap();
        assert!(Stamp::new(Stamp::at(UnixMillis(5), &client).as_str()).is_ok());
    }
}

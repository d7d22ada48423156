//! The secret of HS256.

use std::fmt;

use crate::limits;

/// The secret that tokens are signed with. Never shown: its `Debug` is a placeholder. It is only ever
/// compared by way of a signature, whose check takes the same time wherever the first difference is.
#[derive(Clone)]
pub struct Secret(pub(super) Vec<u8>);

impl Secret {
    /// Takes a secret that is long enough for HS256.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, SecretTooShort> {
        let bytes = bytes.into();
        if bytes.len() < limits::SECRET_BYTES_MIN {
            Err(SecretTooShort)
        } else {
            Ok(Self(bytes))
        }
    }

    /// A new one from the operating system's randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = vec![0; limits::SECRET_BYTES_MIN];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret of fewer than [`limits::SECRET_BYTES_MIN`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is shorter than {} bytes", limits::SECRET_BYTES_MIN)]
pub struct SecretTooShort;

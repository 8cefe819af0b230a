//! Bytes under a seal: signed, or encrypted, with a key of a keyring.
//!
//! | bytes | signed | encrypted |
//! |---|---|---|
//! | 0 | format, 1 | format, 2 |
//! | 1 to 4 | key id | key id |
//! | next | 32: HMAC-SHA-256 | 24: nonce |
//! | to the end | the body, in clear | the body, encrypted with XChaCha20-Poly1305, and its tag of 16 |
//!
//! What is sealed is bound to a *context*, which is not written: the name of a cookie, the id of a record.
//! Opened with another context it is not authentic. Format and key id are bound too:
//!
//! - The HMAC is of bytes 0 to 4, the length of the context (8 bytes, in big-endian order), the context, and
//!   the body.
//! - The associated data of the encryption is bytes 0 to 4 and the context.
//!
//! How keys and their ids come from a secret is told in `keyring`. That all of it is as told here is tested by
//! `tests/vectors`, against another implementation.

#[cfg(feature = "cookie")]
mod encryption;
#[cfg(feature = "cookie")]
mod header;
#[cfg(feature = "cookie")]
mod signature;
#[cfg(all(test, feature = "cookie"))]
mod tests;

use std::fmt::{self, Debug};

#[cfg(feature = "cookie")]
pub(crate) use self::{encryption::Encryption, signature::Signature};
use crate::{error::Error, id::RandomSource, record::Payload};

/// A way to seal.
pub(crate) trait Seal: Debug + Send + Sync {
    /// Bytes that the seal takes besides the body.
    fn overhead(&self) -> usize;

    /// The body may come in parts. Fails where the random source fails.
    fn seal(
        &self,
        context: &[u8],
        body: &[&[u8]],
        random: &dyn RandomSource,
    ) -> Result<Vec<u8>, Error>;

    /// Whether what begins like this has been sealed by one of our keys, if it is authentic.
    fn recognizes(&self, start: &[u8]) -> bool;

    /// `None` if it is not authentic; how far it was right cannot be told from the time it takes. The body stays
    /// where it is.
    fn open(&self, context: &[u8], sealed: Vec<u8>) -> Option<Opened>;
}

/// What has been opened.
#[derive(PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) body: Payload,
    /// With a retired key: it is to be sealed again with the primary one.
    pub(crate) outdated: bool,
}

/// Without the body, which is data of a session.
impl Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} bytes)", self.body.len())
    }
}

#[cfg(feature = "cookie")]
fn len_of(body: &[&[u8]]) -> usize {
    body.iter().map(|part| part.len()).sum()
}

//! What stands in clear before what is sealed: the format, and which key it was.

use crate::keyring::KeyId;

pub(super) type Header = [u8; HEADER_LEN];

pub(super) fn header(format: u8, id: KeyId) -> Header {
    let [a, b, c, d] = id;
    [format, a, b, c, d]
}

/// The key id and what is behind it, if that is the format.
pub(super) fn split_header(format: u8, sealed: &[u8]) -> Option<(KeyId, &[u8])> {
    let (&[first, ref id @ ..], rest) = sealed.split_first_chunk::<HEADER_LEN>()?;
    (first == format).then_some((*id, rest))
}

pub(super) const SIGNED: u8 = 1;
pub(super) const ENCRYPTED: u8 = 2;
pub(super) const HEADER_LEN: usize = 1 + size_of::<KeyId>();

//! What everybody can read and nobody can alter.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    Opened, Seal,
    header::{HEADER_LEN, Header, SIGNED, header, split_header},
    len_of,
};
use crate::{
    error::Error,
    id::RandomSource,
    keyring::{Keyring, Keys, Purpose},
    record::Payload,
};

/// Signs with HMAC-SHA-256 (RFC 2104).
#[derive(Debug)]
pub(crate) struct Signature(Keys<Hmac<Sha256>>);

impl Signature {
    pub(crate) fn new(keyring: &Keyring, purpose: Purpose) -> Self {
        Self(keyring.derive(purpose, |key| {
            // To the block of the hash with zeros, as RFC 2104 has it.
            let mut padded = Zeroizing::new([0; SHA256_BLOCK]);
            padded[..key.len()].copy_from_slice(key);
            Hmac::new((&*padded).into())
        }))
    }

    /// The length of the context sets it apart from the body.
    fn mac(key: &Hmac<Sha256>, header: Header, context: &[u8], body: &[&[u8]]) -> Hmac<Sha256> {
        let len = u64::try_from(context.len()).unwrap_or(u64::MAX);
        let mut mac = key.clone();
        mac.update(&header);
        mac.update(&len.to_be_bytes());
        mac.update(context);
        for part in body {
            mac.update(part);
        }
        mac
    }
}

impl Seal for Signature {
    fn overhead(&self) -> usize {
        HEADER_LEN + MAC_LEN
    }

    fn seal(&self, context: &[u8], body: &[&[u8]], _: &dyn RandomSource) -> Result<Vec<u8>, Error> {
        let (id, key) = self.0.primary();
        let header = header(SIGNED, *id);
        let mac = Self::mac(key, header, context, body).finalize();
        let mut sealed = Vec::with_capacity(self.overhead() + len_of(body));
        sealed.extend_from_slice(&header);
        sealed.extend_from_slice(&mac.into_bytes());
        body.iter().for_each(|part| sealed.extend_from_slice(part));
        Ok(sealed)
    }

    fn recognizes(&self, start: &[u8]) -> bool {
        let id = split_header(SIGNED, start).map(|(id, _)| id);
        id.is_some_and(|id| self.0.find(id).is_some())
    }

    fn open(&self, context: &[u8], sealed: Vec<u8>) -> Option<Opened> {
        let (id, rest) = split_header(SIGNED, &sealed)?;
        let (mac, body) = rest.split_first_chunk::<MAC_LEN>()?;
        let (key, outdated) = self.0.find(id)?;
        let computed = Self::mac(key, header(SIGNED, id), context, &[body]);
        // In constant time.
        computed.verify(mac.into()).ok()?;
        let body = self.overhead()..sealed.len();
        Some(Opened {
            body: Payload::from(sealed).slice(body),
            outdated,
        })
    }
}

const MAC_LEN: usize = 32;
const SHA256_BLOCK: usize = 64;

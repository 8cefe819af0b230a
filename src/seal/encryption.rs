//! What nobody can read or alter.

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305, XNonce};

use super::{
    Opened, Seal,
    header::{ENCRYPTED, HEADER_LEN, header, split_header},
    len_of,
};
use crate::{
    error::{Error, ErrorKind},
    id::RandomSource,
    keyring::{Keyring, Keys, Purpose},
    record::Payload,
};

/// Encrypts with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) under random nonces: they have 192 bits, so
/// that after 2^64 of them the chance that one came twice is 2^-65.
#[derive(Debug)]
pub(crate) struct Encryption(Keys<XChaCha20Poly1305>);

impl Encryption {
    pub(crate) fn new(keyring: &Keyring, purpose: Purpose) -> Self {
        Self(keyring.derive(purpose, |key| XChaCha20Poly1305::new(key.into())))
    }
}

impl Seal for Encryption {
    fn overhead(&self) -> usize {
        HEADER_LEN + NONCE_LEN + TAG_LEN
    }

    fn seal(
        &self,
        context: &[u8],
        body: &[&[u8]],
        random: &dyn RandomSource,
    ) -> Result<Vec<u8>, Error> {
        let (id, key) = self.0.primary();
        let header = header(ENCRYPTED, *id);
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(self.overhead() + len_of(body));
        sealed.extend_from_slice(&header);
        sealed.extend_from_slice(&nonce);
        body.iter().for_each(|part| sealed.extend_from_slice(part));
        let clear = &mut sealed[HEADER_LEN + NONCE_LEN..];
        let bound = [&header[..], context].concat();
        let tag = key
            .encrypt_inout_detached(&XNonce::from(nonce), &bound, clear.into())
            // At 2^38 bytes, which no session comes near.
            .map_err(|_| {
                Error::new(ErrorKind::TooLarge, "the session is too large to be sealed")
            })?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    fn recognizes(&self, start: &[u8]) -> bool {
        let id = split_header(ENCRYPTED, start).map(|(id, _)| id);
        id.is_some_and(|id| self.0.find(id).is_some())
    }

    fn open(&self, context: &[u8], mut sealed: Vec<u8>) -> Option<Opened> {
        let (id, _) = split_header(ENCRYPTED, &sealed)?;
        let (nonce, rest) = sealed[HEADER_LEN..].split_first_chunk_mut::<NONCE_LEN>()?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG_LEN>()?;
        let (key, outdated) = self.0.find(id)?;
        let bound = [&header(ENCRYPTED, id)[..], context].concat();
        // The tag is compared in constant time, and nothing decrypted before it was right.
        key.decrypt_inout_detached((&*nonce).into(), &bound, body.into(), (&*tag).into())
            .ok()?;
        let body = HEADER_LEN + NONCE_LEN..sealed.len() - TAG_LEN;
        Some(Opened {
            body: Payload::from(sealed).slice(body),
            outdated,
        })
    }
}

const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;

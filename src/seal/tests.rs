use std::collections::HashSet;

use super::{Encryption, Opened, Seal, Signature};
use crate::{
    id::SystemRandom,
    keyring::{Keyring, Purpose},
};

fn rings() -> [Keyring; 3] {
    let secret = || Keyring::generate_secret().unwrap();
    let (old, new) = (secret(), secret());
    [
        Keyring::new(&old).unwrap(),
        Keyring::new(&new).unwrap().with_retired(&old).unwrap(),
        Keyring::new(&new).unwrap(),
    ]
}

/// The same tests for both kinds.
macro_rules! seal_tests {
    ($module:ident, $kind:ident) => {
        mod $module {
            use super::*;

            fn new(ring: &Keyring) -> $kind {
                $kind::new(ring, Purpose::CookieEncryption)
            }

            fn seal(with: &$kind, context: &[u8], body: &[u8]) -> Vec<u8> {
                with.seal(context, &[body], &SystemRandom).unwrap()
            }

            fn open(with: &$kind, context: &[u8], sealed: &[u8]) -> Option<Opened> {
                with.open(context, sealed.to_vec())
            }

            #[test]
            fn what_was_sealed_is_opened_and_takes_the_overhead_more() {
                let [ring, ..] = rings();
                let seals = new(&ring);
                for body in [&b""[..], b"cart", &[0xff; 70_000]] {
                    let sealed = seal(&seals, b"id", body);
                    assert_eq!(sealed.len(), body.len() + seals.overhead());
                    let opened = open(&seals, b"id", &sealed).unwrap();
                    assert_eq!((opened.body.as_bytes(), opened.outdated), (body, false));
                }
            }

            #[test]
            fn no_flipped_bit_no_missing_and_no_added_byte_is_authentic() {
                let [ring, ..] = rings();
                let seals = new(&ring);
                let sealed = seal(&seals, b"id", b"the cart of a customer");
                for bit in 0..sealed.len() * 8 {
                    let mut flipped = sealed.clone();
                    flipped[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(open(&seals, b"id", &flipped), None, "bit {bit}");
                }
                for len in 0..sealed.len() {
                    assert_eq!(open(&seals, b"id", &sealed[..len]), None, "{len} bytes");
                }
                let longer = [&sealed[..], b"\0"].concat();
                assert_eq!(open(&seals, b"id", &longer), None);
            }

            #[test]
            fn another_context_purpose_or_secret_opens_nothing() {
                let [ring, _, other] = rings();
                let seals = new(&ring);
                let sealed = seal(&seals, b"id", b"body");
                for context in [&b""[..], b"i", b"idb", b"ID"] {
                    assert_eq!(open(&seals, context, &sealed), None);
                }
                let purpose = $kind::new(&ring, Purpose::RecordEncryption);
                assert_eq!(open(&purpose, b"id", &sealed), None);
                assert_eq!(open(&new(&other), b"id", &sealed), None);
            }

            #[test]
            fn a_retired_secret_opens_and_the_primary_one_seals() {
                let [old, both, new_only] = rings().map(|ring| new(&ring));
                let opened = open(&both, b"id", &seal(&old, b"id", b"body")).unwrap();
                assert_eq!(
                    (opened.body.as_bytes(), opened.outdated),
                    (&b"body"[..], true)
                );
                let again = seal(&both, b"id", opened.body.as_bytes());
                assert!(!open(&new_only, b"id", &again).unwrap().outdated);
                assert_eq!(open(&old, b"id", &again), None);
            }
        }
    };
}

seal_tests!(signature, Signature);
seal_tests!(encryption, Encryption);

#[test]
fn a_signed_body_is_no_encrypted_one_and_the_reverse() {
    let [ring, ..] = rings();
    let signs = Signature::new(&ring, Purpose::CookieSignature);
    let encrypts = Encryption::new(&ring, Purpose::CookieEncryption);
    let signed = signs.seal(b"", &[&[1; 99]], &SystemRandom).unwrap();
    assert_eq!(encrypts.open(b"", signed), None);
    let sealed = encrypts.seal(b"", &[&[1; 99]], &SystemRandom).unwrap();
    assert_eq!(signs.open(b"", sealed), None);
}

#[test]
fn a_hundred_thousand_nonces_are_distinct() {
    let [ring, ..] = rings();
    let encrypts = Encryption::new(&ring, Purpose::CookieEncryption);
    let nonce = |_| {
        let sealed = encrypts.seal(b"", &[], &SystemRandom).unwrap();
        sealed[5..29].to_vec()
    };
    let nonces: HashSet<_> = (0..100_000).map(nonce).collect();
    assert_eq!(nonces.len(), 100_000);
}

//! Sessions in cookies: what a client may send instead of what it was given.

use std::{
    array,
    sync::{Arc, LazyLock},
};

use data_encoding::BASE64URL_NOPAD;

use super::{CANDIDATES_MAX, NAME, presented};
use crate::{
    backend::{Client, Opened, chunks},
    id::{RandomError, RandomSource, SessionId, WriteToken},
    keyring::{Keyring, Purpose},
    options::CookieOptions,
    record::{Record, Version},
    seal::{Encryption, Seal, Signature},
    timestamp::Timestamp,
    user::UserId,
};

/// Nothing opens that was not sealed, and what was opens to itself: whole, in as many cookies as there may be, but
/// not with a bit flipped, nor for another kind of seal.
pub fn token(bytes: &[u8]) {
    let [signed, encrypted] = &*KINDS;
    for (kind, other) in [(signed, encrypted), (encrypted, signed)] {
        planted(kind, bytes);
        authentic(kind, bytes);
        sealed(kind, other, bytes);
    }
}

struct Kind {
    seal: Arc<dyn Seal>,
    client: Client,
}

impl Kind {
    /// Also of what a newer version has sealed, which is none of ours.
    fn open(&self, token: &[u8], now: Timestamp) -> Option<Opened> {
        self.client.open(NAME, token, now).ok().flatten()
    }
}

/// What somebody else has made: a field, and bytes behind a header that names the key.
fn planted(kind: &Kind, bytes: &[u8]) {
    let now = Timestamp::from_millis(0);
    let presented = presented(bytes);
    let tokens = presented.tokens(NAME, |start| kind.client.recognizes(start));
    assert!(tokens.len() <= CANDIDATES_MAX);
    assert!(presented.chunks(NAME) <= chunks::CHUNKS_MAX);
    for token in tokens {
        assert!(kind.open(&token, now).is_none(), "forged");
    }
    let header = kind.seal.seal(CONTEXT, &[], &Chosen(0)).expect("room");
    let forged = [&header[..HEADER_LEN], bytes].concat();
    let forged = BASE64URL_NOPAD.encode(&forged);
    let opened = kind.open(forged.as_bytes(), now);
    assert!(opened.is_none(), "forged");
}

/// What a newer version may have sealed: anything. What is read of it is written the same way again.
fn authentic(kind: &Kind, body: &[u8]) {
    let token = kind.seal.seal(CONTEXT, &[body], &Chosen(1)).expect("room");
    let token = BASE64URL_NOPAD.encode(&token);
    let now = Timestamp::from_millis(i64::MIN);
    if let Some(opened) = kind.open(token.as_bytes(), now) {
        let issued_at = opened.issued_at.as_millis().to_be_bytes();
        let id = opened.id.secret_bytes();
        let again = [&id[..], &issued_at, &opened.record.to_bytes()].concat();
        assert_eq!(again, body);
    }
}

/// A session of ours on its way through a browser.
fn sealed(kind: &Kind, other: &Kind, mut bytes: &[u8]) {
    let [order, count, flips, nonce] = take(&mut bytes);
    let flipped = usize::from(u16::from_be_bytes(take(&mut bytes)));
    let id = SessionId::from_secret_bytes(take(&mut bytes));
    let now = Timestamp::from_millis(i64::from_be_bytes(take(&mut bytes)) >> 8);
    let record = record(bytes);
    let options = CookieOptions::default();
    let issued = kind
        .client
        .issue(&options, &id, &record, now, &Chosen(nonce));
    let Ok(issued) = issued else {
        assert!(bytes.len() > 8 * 1024, "there is room");
        return;
    };
    let values = issued.expose_secret();
    let rest = |index: usize| values.get(index).map(String::as_bytes).into_iter();
    let token = chunks::join(values[0].as_bytes(), rest).expect("what was split");
    let token = str::from_utf8(&token).expect("ASCII");

    let count = 1 + usize::from(count) % chunks::CHUNKS_MAX;
    let piece_len = token.len().div_ceil(count).min(chunks::piece_len(&options));
    let Some(values) = chunks::split(token, piece_len) else {
        assert!(
            token.len() > chunks::CHUNKS_MAX * piece_len,
            "there is room"
        );
        return;
    };
    let mut pairs: Vec<_> = values.iter().enumerate().collect();
    pairs.rotate_left(usize::from(order) % values.len());
    let pair = |(index, value)| format!("{}={value}", chunks::name(NAME, index));
    let pairs: Vec<_> = pairs.into_iter().map(pair).collect();
    let mut field = pairs.join("; ").into_bytes();

    let before = presented(&field);
    assert_eq!(before.chunks(NAME), values.len());
    let recognizes = |start: &[u8]| kind.client.recognizes(start);
    assert_eq!(before.tokens(NAME, recognizes), [token.as_bytes()]);
    let open = |kind: &Kind, token: &[u8]| kind.open(token, now);
    let opened = open(kind, token.as_bytes()).expect("what was sealed");
    assert_eq!((opened.id, opened.issued_at), (id, now));
    assert_eq!((opened.record, opened.outdated), (record, false));
    assert!(open(other, token.as_bytes()).is_none(), "of another kind");

    if flips % 2 == 1 {
        let bit = flipped % (field.len() * 8);
        field[bit / 8] ^= 1 << (bit % 8);
        if field[bit / 8].is_ascii_control() {
            // No header value holds it; in its place the scan would be given a tab, which is trimmed.
            return;
        }
        for token in presented(&field).tokens(NAME, recognizes) {
            assert!(open(kind, &token).is_none(), "bit {bit}");
        }
    }
}

fn record(mut bytes: &[u8]) -> Record {
    let mut time = || Timestamp::from_millis(i64::from_be_bytes(take(&mut bytes)));
    let [created_at, expires_at, absolute_deadline] = array::from_fn(|_| time());
    let version = Version {
        revision: u64::from_be_bytes(take(&mut bytes)),
        token: WriteToken::from_bytes(take(&mut bytes)),
    };
    let [user_len] = take(&mut bytes);
    let (user, payload) = bytes.split_at(usize::from(user_len).min(bytes.len()));
    Record {
        version,
        user: str::from_utf8(user).ok().and_then(UserId::parse),
        created_at,
        expires_at,
        absolute_deadline,
        payload: payload.into(),
    }
}

/// Zeros where there is no more.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (taken, rest) = bytes.split_at(N.min(bytes.len()));
    *bytes = rest;
    array::from_fn(|place| taken.get(place).copied().unwrap_or(0))
}

/// The same byte again and again, so that a finding is found again.
#[derive(Debug)]
struct Chosen(u8);

impl RandomSource for Chosen {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        buffer.fill(self.0);
        Ok(())
    }
}

static KINDS: LazyLock<[Kind; 2]> = LazyLock::new(|| {
    let keyring = Keyring::new("q3ZbX0vT7LkRwPz1mYcJ8dNfHs5uGe2A").expect("a secret");
    let kind = |seal: Arc<dyn Seal>| Kind {
        client: Client::new(Arc::clone(&seal), Arc::from("fuzz"), None),
        seal,
    };
    [
        kind(Arc::new(Signature::new(&keyring, Purpose::CookieSignature))),
        kind(Arc::new(Encryption::new(
            &keyring,
            Purpose::CookieEncryption,
        ))),
    ]
});

/// Of a cookie of that name in that namespace.
const CONTEXT: &[u8] = b"tower-keep cookie v1\x09__Host-idfuzz";

/// Format and key id.
const HEADER_LEN: usize = 5;

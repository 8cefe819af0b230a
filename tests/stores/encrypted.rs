//! `EncryptedStore` against the contract, and what it hides and binds.

use tower_keep::{
    EncryptedStore, Keyring, MemoryStore, Payload, RandomError, RandomSource, Record, RecordId,
    ScanSessions, SessionStore, StoreErrorKind, Updated, UserId, UserSessions, Version, WriteToken,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};

use crate::{
    model::model_tests,
    support::{TestStore, postgres},
};

fn keyring() -> Keyring {
    Keyring::new(Keyring::generate_secret().unwrap()).unwrap()
}

macro_rules! over {
    ($name:ident, $store:expr) => {
        mod $name {
            use super::*;

            conformance_tests!(EncryptedStore::new($store, &keyring()));
            user_sessions_tests!(EncryptedStore::new($store, &keyring()));
            delete_expired_tests!(EncryptedStore::new($store, &keyring()));
            scan_sessions_tests!(EncryptedStore::new($store, &keyring()));
            model_tests!(
                |clock| async move { EncryptedStore::new($store.with_clock(clock), &keyring()) },
                CASES
            );
        }
    };
}

over!(memory, MemoryStore::new());
over!(postgres_, postgres(5));
over!(sqlite, TestStore::named("sqlite"));

/// The scripts are run on each store by itself too.
const CASES: u32 = 25;

const ID: RecordId = RecordId::from_bytes([7; 32]);
const OTHER: RecordId = RecordId::from_bytes([8; 32]);

fn record(user: &str, payload: &[u8]) -> Record {
    let now = std::time::SystemTime::now();
    let later = now + std::time::Duration::from_secs(3600);
    Record {
        version: Version {
            revision: 1,
            token: WriteToken::from_bytes([1; 16]),
        },
        user: Some(UserId::new(user).unwrap()),
        created_at: now.into(),
        expires_at: later.into(),
        absolute_deadline: later.into(),
        payload: Payload::from(payload),
    }
}

fn next(record: &Record, payload: Payload) -> Record {
    Record {
        version: Version {
            revision: record.version.revision + 1,
            token: WriteToken::from_bytes([2; 16]),
        },
        payload,
        ..record.clone()
    }
}

#[tokio::test]
async fn a_dump_of_the_store_shows_no_data_and_the_same_data_never_looks_the_same() {
    let inner = MemoryStore::new();
    let store = EncryptedStore::new(inner.clone(), &keyring());
    let secret = b"a diary that is between us";
    for id in [ID, OTHER] {
        let _ = store.create(&id, &record("ada", secret)).await.unwrap();
    }
    let rows = inner.scan(None, 10).await.unwrap().sessions;
    let [one, other] = &rows[..] else {
        panic!("{rows:?}");
    };
    assert_ne!(one.record.payload, other.record.payload);
    for row in &rows {
        let bytes = row.record.payload.as_bytes();
        assert_eq!(bytes.len(), secret.len() + 45);
        assert!(
            !bytes
                .windows(5)
                .any(|part| secret.windows(5).any(|clear| clear == part))
        );
    }
    let ada = UserId::new("ada").unwrap();
    for session in store.sessions_of(&ada).await.unwrap() {
        assert_eq!(session.record.payload.as_bytes(), secret);
    }
}

/// Somebody who can write into the store.
#[tokio::test]
async fn data_that_is_put_under_another_id_user_version_or_time_is_damaged() {
    let ring = keyring();
    let sealed = {
        let inner = MemoryStore::new();
        let store = EncryptedStore::new(inner.clone(), &ring);
        let _ = store
            .create(&ID, &record("ada", b"role=user"))
            .await
            .unwrap();
        inner.load(&ID).await.unwrap().unwrap()
    };
    let late = std::time::SystemTime::now() + std::time::Duration::from_secs(7200);
    let user = |name| Some(UserId::new(name).unwrap());
    let revision = Version {
        revision: 2,
        ..sealed.version
    };
    let token = Version {
        token: WriteToken::from_bytes([9; 16]),
        ..sealed.version
    };
    #[rustfmt::skip]
    let tampered = [
        (OTHER, sealed.clone()),
        (ID, Record { user: user("admin"), ..sealed.clone() }),
        (ID, Record { user: user("ad"), ..sealed.clone() }),
        (ID, Record { user: None, ..sealed.clone() }),
        (ID, Record { version: revision, ..sealed.clone() }),
        (ID, Record { version: token, ..sealed.clone() }),
        (ID, Record { created_at: late.into(), ..sealed.clone() }),
        (ID, Record { absolute_deadline: late.into(), ..sealed.clone() }),
        (ID, Record { payload: Payload::default(), ..sealed.clone() }),
        (ID, Record { payload: Payload::from(&b"role=admin"[..]), ..sealed.clone() }),
    ];
    for (place, (id, row)) in tampered.into_iter().enumerate() {
        let inner = MemoryStore::new();
        let _ = inner.create(&id, &row).await.unwrap();
        let store = EncryptedStore::new(inner, &ring);
        let error = store.load(&id).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{place}");
        assert_eq!(error.store(), "encrypted");
        assert_eq!(store.scan(None, 10).await.unwrap().sessions, [], "{place}");
        let change = next(&row, Payload::from(&b"x"[..]));
        let outdated = Version {
            revision: 77,
            ..row.version
        };
        let met = store.update(&id, &change, outdated).await.unwrap_err();
        assert_eq!(met.kind(), StoreErrorKind::Corrupt, "{place}");
    }
    let touched = Record {
        expires_at: sealed.absolute_deadline,
        ..sealed
    };
    let inner = MemoryStore::new();
    let _ = inner.create(&ID, &touched).await.unwrap();
    let store = EncryptedStore::new(inner, &ring);
    let opened = store.load(&ID).await.unwrap().unwrap();
    assert_eq!(
        opened.payload.as_bytes(),
        b"role=user",
        "the deadline may move"
    );
}

#[tokio::test]
async fn a_retired_secret_opens_and_a_change_is_sealed_with_the_primary_one() {
    let [old, new] = [(); 2].map(|()| Keyring::generate_secret().unwrap());
    let inner = MemoryStore::new();
    let ring = Keyring::new(&old).unwrap();
    let first = record("ada", b"cart");
    let before = EncryptedStore::new(inner.clone(), &ring);
    let _ = before.create(&ID, &first).await.unwrap();
    let both = Keyring::new(&new).unwrap().with_retired(&old).unwrap();
    let store = EncryptedStore::new(inner.clone(), &both);
    assert_eq!(store.load(&ID).await.unwrap(), Some(first.clone()));
    let new_only = EncryptedStore::new(inner, &Keyring::new(&new).unwrap());
    let unopened = new_only.load(&ID).await.unwrap_err();
    assert_eq!(unopened.kind(), StoreErrorKind::Corrupt);
    let second = next(&first, Payload::from(&b"cart and book"[..]));
    let updated = store.update(&ID, &second, first.version).await.unwrap();
    assert_eq!(updated, Updated::Done);
    assert_eq!(new_only.load(&ID).await.unwrap(), Some(second));
    assert!(before.load(&ID).await.is_err());
}

#[derive(Debug)]
struct NoRandom;

impl RandomSource for NoRandom {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError::new("no entropy"))
    }
}

#[tokio::test]
async fn without_random_bits_nothing_is_stored() {
    let inner = MemoryStore::new();
    let store = EncryptedStore::new(inner.clone(), &keyring()).with_random_source(NoRandom);
    let error = store
        .create(&ID, &record("ada", b"cart"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other);
    assert_eq!(inner.load(&ID).await.unwrap(), None);
}

/// Against that it would need to know more than the store does.
#[tokio::test]
async fn an_older_state_that_is_put_back_as_a_whole_is_taken_for_the_session() {
    let inner = MemoryStore::new();
    let store = EncryptedStore::new(inner.clone(), &keyring());
    let first = record("ada", b"role=admin");
    let _ = store.create(&ID, &first).await.unwrap();
    let older = inner.load(&ID).await.unwrap().unwrap();
    let second = next(&first, Payload::from(&b"role=user"[..]));
    let _ = store.update(&ID, &second, first.version).await.unwrap();
    assert!(store.delete(&ID).await.unwrap());
    let _ = inner.create(&ID, &older).await.unwrap();
    assert_eq!(store.load(&ID).await.unwrap(), Some(first));
}

//! What a sweep and a scan of `FileStore` do with a folder in which something is wrong.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

use tower_keep::{
    Cursor, DeleteExpired, FileStore, Payload, Record, RecordId, ScanSessions, SessionStore,
    StoreErrorKind, SystemRandom, Timestamp, Version, WriteToken,
};

use crate::support::{PATIENCE, abandon_after, temporary_folder};

fn record(expires_at: i64) -> Record {
    Record {
        version: Version {
            revision: 1,
            token: WriteToken::generate(&SystemRandom).unwrap(),
        },
        user: None,
        created_at: Timestamp::from_millis(0),
        expires_at: Timestamp::from_millis(expires_at),
        absolute_deadline: Timestamp::from_millis(i64::MAX),
        payload: Payload::from(b"data".as_slice()),
    }
}

fn id(first: u8, second: u8) -> RecordId {
    let mut bytes = [7; RecordId::LEN];
    bytes[..2].copy_from_slice(&[first, second]);
    RecordId::from_bytes(bytes)
}

fn place(folder: &Path, id: &RecordId) -> PathBuf {
    let name = id.to_hex();
    let shelf = folder.join("records").join(&name[..2]).join(&name[2..4]);
    shelf.join(name)
}

const DEAD: i64 = 1;
const ALIVE: i64 = i64::MAX;

#[tokio::test]
async fn a_record_in_the_wrong_folder_is_no_session_and_stops_neither_sweep_nor_scan() {
    let folder = temporary_folder();
    let store = FileStore::open(folder.path()).unwrap();
    let _ = store.create(&id(7, 1), &record(ALIVE)).await.unwrap();
    let shelf = folder.path().join("records/07/cd");
    fs::create_dir_all(&shelf).unwrap();
    for (second, deadline) in [(2, DEAD), (3, ALIVE)] {
        let name = id(7, second).to_hex();
        fs::write(shelf.join(name), record(deadline).to_bytes()).unwrap();
    }
    assert_eq!(store.delete_expired(1).await.unwrap(), 0);

    let (mut found, mut after) = (Vec::new(), None::<Cursor>);
    for _ in 0..4 {
        let page = store.scan(after.as_ref(), 1).await.unwrap();
        found.extend(page.sessions.into_iter().map(|session| session.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, [id(7, 1)]);
    assert_eq!(after, None, "a scan without an end");
}

#[tokio::test]
async fn what_is_wrong_with_one_part_is_an_error_and_all_others_are_swept() {
    let folder = temporary_folder();
    let store = FileStore::open(folder.path()).unwrap();
    let expired = id(0x80, 1);
    let _ = store.create(&expired, &record(DEAD)).await.unwrap();
    fs::write(folder.path().join("records/01/aa"), "no folder").unwrap();
    let _ = store.delete_expired(100).await.unwrap_err();
    assert!(!place(folder.path(), &expired).exists(), "not swept");
    assert_eq!(store.load(&expired).await.unwrap(), None);
}

#[tokio::test]
async fn sweeps_that_are_always_cut_come_round_the_whole_store_together() {
    let folder = temporary_folder();
    let store = FileStore::open(folder.path()).unwrap();
    let expired = id(0xff, 1);
    let _ = store.create(&expired, &record(DEAD)).await.unwrap();
    // Each is dropped when it has waited a few times, long before it has come round.
    let started = Instant::now();
    while place(folder.path(), &expired).exists() {
        let _ = abandon_after(50, store.delete_expired(100)).await;
        assert!(
            started.elapsed() < PATIENCE,
            "the last part is never reached"
        );
    }
}

#[test]
fn nothing_is_made_in_a_folder_that_is_refused() {
    let folder = temporary_folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let _ = FileStore::open(folder.path()).unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_store_whose_parts_others_may_write_to_is_not_opened() {
    for part in ["", "records", "users", "records/7f", "users/00"] {
        let folder = temporary_folder();
        drop(FileStore::open(folder.path()).unwrap());
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(folder.path().join(part), everybody).unwrap();
        let refused = FileStore::open(folder.path()).unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Other, "{part:?}");
    }
}

//! `FileStore` on a folder in which somebody else has had his hands.

use std::{
    error::Error,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::timeout;
use tower_keep::{
    Created, DeleteExpired, FileStore, Payload, Record, RecordId, Rotated, ScanSessions,
    SessionStore, StoreError, StoreErrorKind, SystemClock, Timestamp, Updated, UserId,
    UserSessions, Version, WriteToken, testing::ManualClock,
};

use crate::support::temporary_folder;

/// A store and the folder that it is in.
pub(super) fn open() -> (FileStore, TempDir) {
    let folder = temporary_folder();
    (FileStore::open(folder.path()).unwrap(), folder)
}

pub(super) fn id(first: u8, last: u8) -> RecordId {
    let mut bytes = [first; RecordId::LEN];
    bytes[RecordId::LEN - 1] = last;
    RecordId::from_bytes(bytes)
}

/// The state of a session after so many writes. No two attempts have one token.
pub(super) fn record(revision: u64, payload: impl Into<Payload>) -> Record {
    let hour = Duration::from_secs(60 * 60);
    let end = Timestamp::from(tower_keep::Clock::now(&SystemClock)).saturating_add(hour);
    Record {
        version: Version {
            revision,
            token: WriteToken::generate(&tower_keep::SystemRandom).unwrap(),
        },
        user: None,
        created_at: Timestamp::from_millis(0),
        expires_at: end,
        absolute_deadline: end,
        payload: payload.into(),
    }
}

pub(super) async fn create(store: &FileStore, id: &RecordId, record: &Record) {
    assert_eq!(store.create(id, record).await.unwrap(), Created::Done);
}

pub(super) fn place(folder: &TempDir, id: &RecordId) -> PathBuf {
    let hex = id.to_hex();
    let shelf = folder.path().join("records").join(&hex[..2]);
    shelf.join(&hex[2..4]).join(hex)
}

/// All files and folders below a folder.
pub(super) fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

pub(super) fn leftovers(folder: &Path) -> usize {
    let is_leftover = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("new-")
    };
    all_below(folder).iter().filter(|p| is_leftover(p)).count()
}

/// The place of a record as somebody has prepared it: nothing follows it, and nothing hangs.
async fn assert_damaged(store: &FileStore, id: &RecordId) {
    let present = record(1, b"present".as_slice());
    let next = record(2, b"next".as_slice());
    let operations = async {
        [
            store.load(id).await.unwrap_err(),
            store.create(id, &present).await.unwrap_err(),
            store.update(id, &next, present.version).await.unwrap_err(),
            store
                .touch(id, next.expires_at, present.version)
                .await
                .unwrap_err(),
        ]
    };
    let errors = timeout(Duration::from_secs(10), operations).await.unwrap();
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert_quiet(&error, id);
    }
}

fn assert_quiet(error: &StoreError, id: &RecordId) {
    let mut texts = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(beneath) = source {
        texts += &format!(" {beneath} {beneath:?}");
        source = beneath.source();
    }
    assert!(!texts.contains(&id.to_hex()[8..]), "{texts}");
}

#[tokio::test]
async fn a_symbolic_link_in_the_place_of_a_record_is_not_followed() {
    let (store, folder) = open();
    let (id, other) = (id(1, 1), id(2, 2));
    let planted = record(1, b"planted".as_slice());
    create(&store, &id, &planted).await;
    let victim = folder.path().join("victim");
    fs::rename(place(&folder, &id), &victim).unwrap();
    symlink(&victim, place(&folder, &id)).unwrap();
    assert_damaged(&store, &id).await;
    let next = record(2, b"next".as_slice());
    let rotated = store.rotate(&id, &other, &next, planted.version);
    let _ = rotated.await.unwrap_err();

    assert!(store.delete(&id).await.unwrap(), "the link goes");
    assert_eq!(fs::read(&victim).unwrap(), planted.to_bytes());
    create(&store, &id, &planted).await;
    assert!(fs::symlink_metadata(place(&folder, &id)).unwrap().is_file());
}

#[tokio::test]
async fn a_symbolic_link_in_the_place_of_a_folder_is_not_followed() {
    let (store, folder) = open();
    let id = id(1, 1);
    let present = record(1, b"present".as_slice());
    create(&store, &id, &present).await;
    let place = place(&folder, &id);
    let shelf = place.parent().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(shelf, &elsewhere).unwrap();
    symlink(&elsewhere, shelf).unwrap();
    let _ = store.load(&id).await.unwrap_err();
    let next = record(2, b"next".as_slice());
    let _ = store.update(&id, &next, present.version).await.unwrap_err();
    let _ = store.delete(&id).await.unwrap_err();
    let inside = fs::read(elsewhere.join(id.to_hex())).unwrap();
    assert_eq!(inside, present.to_bytes());
}

#[tokio::test]
async fn what_is_no_file_in_the_place_of_a_record_is_an_error_and_hangs_nothing() {
    let (store, folder) = open();
    let (pipe, directory) = (id(1, 1), id(2, 2));
    for id in [&pipe, &directory] {
        create(&store, id, &record(1, b"gone".as_slice())).await;
        fs::remove_file(place(&folder, id)).unwrap();
    }
    let made = Command::new("mkfifo").arg(place(&folder, &pipe)).status();
    assert!(made.unwrap().success());
    fs::create_dir(place(&folder, &directory)).unwrap();
    assert_damaged(&store, &pipe).await;
    assert_damaged(&store, &directory).await;
}

#[tokio::test]
async fn a_damaged_record_hides_no_other_and_stays_until_it_is_deleted() {
    let clock = ManualClock::new();
    let (store, folder) = open();
    let store = store.with_clock(clock.clone());
    let ada = UserId::new("ada").unwrap();
    let mut of_ada = record(1, b"hers".as_slice());
    of_ada.user = Some(ada.clone());
    let (damaged, whole, long) = (id(7, 1), id(7, 2), id(7, 3));
    for id in [&damaged, &whole, &long] {
        create(&store, id, &of_ada).await;
    }
    fs::write(place(&folder, &damaged), b"\0 half of a disk block").unwrap();
    let grown = File::options().write(true).open(place(&folder, &long));
    let too_long = FileStore::RECORD_BYTES_MAX as u64 + 1;
    grown.unwrap().set_len(too_long).unwrap();
    assert_damaged(&store, &damaged).await;
    assert_damaged(&store, &long).await;

    let found = store.sessions_of(&ada).await.unwrap();
    assert_eq!(found.iter().map(|s| s.id).collect::<Vec<_>>(), [whole]);
    let page = store.scan(None, 100).await.unwrap();
    assert_eq!(page.sessions, found);
    assert_eq!(store.delete_all_of(&ada, None).await.unwrap(), [whole]);
    assert!(place(&folder, &damaged).exists());
    clock.advance(Duration::from_secs(2 * 60 * 60));
    // Of the long one the head is whole, and says that it has expired.
    assert_eq!(store.delete_expired(100).await.unwrap(), 1);
    assert!(place(&folder, &damaged).exists());
    assert!(store.delete(&damaged).await.unwrap());
    assert_eq!(store.load(&damaged).await.unwrap(), None);
}

#[tokio::test]
async fn a_folder_that_is_away_is_an_error_until_it_is_back() {
    let (store, folder) = open();
    let id = id(1, 1);
    let present = record(1, b"present".as_slice());
    create(&store, &id, &present).await;
    let away = folder.path().with_extension("away");
    fs::rename(folder.path(), &away).unwrap();
    for empty_one_in_its_place in [false, true] {
        if empty_one_in_its_place {
            FileStore::open(folder.path()).unwrap();
        }
        let error = store.load(&id).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_quiet(&error, &id);
        let next = record(2, b"next".as_slice());
        let _ = store.update(&id, &next, present.version).await.unwrap_err();
        let _ = store.scan(None, 10).await.unwrap_err();
        let _ = store.delete_expired(10).await.unwrap_err();
        let user = UserId::new("ada").unwrap();
        let _ = store.sessions_of(&user).await.unwrap_err();
    }
    fs::remove_dir_all(folder.path()).unwrap();
    fs::rename(&away, folder.path()).unwrap();
    assert_eq!(store.load(&id).await.unwrap(), Some(present));
}

#[test]
fn a_folder_that_is_none_or_that_others_write_to_is_refused() {
    let folder = temporary_folder();
    let refused = |path: &Path| {
        let error = FileStore::open(path).unwrap_err();
        assert_eq!(error.store(), "file");
        (error.kind(), error.source().unwrap().to_string())
    };
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(refused(&file).0, StoreErrorKind::Other);
    let orphan = folder.path().join("missing/sessions");
    assert_eq!(refused(&orphan).0, StoreErrorKind::Unavailable);
    for mode in [0o777, 0o770, 0o1777] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        let (kind, why) = refused(folder.path());
        assert_eq!(kind, StoreErrorKind::Other, "{mode:o}");
        assert!(why.contains("chmod -R go-w"), "{why}");
    }
    // A link to a folder of one's own is the administrator's.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let link = folder.path().join("link");
    fs::create_dir(folder.path().join("real")).unwrap();
    symlink(folder.path().join("real"), &link).unwrap();
    FileStore::open(&link).unwrap();
}

#[test]
fn a_folder_of_another_user_is_refused() {
    let folder = temporary_folder();
    // Only root gives files away. For everybody else the root folder is somebody else's.
    let given = Command::new("chown")
        .arg("65534")
        .arg(folder.path())
        .output();
    let path = match given.unwrap().status.success() {
        true => folder.path(),
        false => Path::new("/"),
    };
    let error = FileStore::open(path).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other);
}

#[tokio::test]
async fn what_a_killed_writer_has_left_is_swept_and_what_a_living_one_writes_is_not() {
    let (store, folder) = open();
    let stripe = folder.path().join("records/07");
    let leftover = stripe.join("new-00112233445566778899aabbccddeeff");
    fs::write(&leftover, "half a rec").unwrap();
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    let lock = options.open(stripe.join("lock")).unwrap();

    lock.lock().unwrap();
    let sweep = tokio::spawn({
        let store = store.clone();
        async move { store.delete_expired(10).await }
    });
    // Its writer lives: the sweep does not come to an end, other stripes are free.
    let elsewhere = record(1, b"elsewhere".as_slice());
    for last in 0..100 {
        create(&store, &id(8, last), &elsewhere).await;
    }
    let early = record(1, b"in the stripe".as_slice());
    let waiting = id(7, 1);
    let waits = store.create(&waiting, &early);
    let _ = timeout(Duration::from_millis(50), waits).await.unwrap_err();
    assert!(leftover.exists() && !sweep.is_finished());

    drop(lock);
    assert_eq!(sweep.await.unwrap().unwrap(), 0);
    assert!(!leftover.exists());
    create(&store, &id(7, 2), &early).await;
}

#[tokio::test]
async fn a_rotation_that_could_not_remove_the_old_id_is_finished_when_it_is_sent_again() {
    let (store, _folder) = open();
    let first = record(1, b"first".as_slice());
    let second = record(2, b"second".as_slice());
    for new_stripe in [1, 2] {
        let (old, new) = (id(1, 1), id(new_stripe, 2));
        // As a failing disk or a killed process leaves it: both are there.
        create(&store, &old, &first).await;
        create(&store, &new, &second).await;
        let again = store.rotate(&old, &new, &second, first.version).await;
        assert_eq!(again.unwrap(), Rotated::Done);
        assert_eq!(store.load(&old).await.unwrap(), None);
        assert_eq!(store.load(&new).await.unwrap().as_ref(), Some(&second));
        assert!(store.delete(&new).await.unwrap());

        // Somebody has written to the old one since: it is the one that lives.
        create(&store, &old, &first).await;
        let written = record(2, b"written".as_slice());
        let updated = store.update(&old, &written, first.version).await;
        assert_eq!(updated.unwrap(), Updated::Done);
        create(&store, &new, &second).await;
        let again = store.rotate(&old, &new, &second, first.version).await;
        assert_eq!(again.unwrap(), Rotated::Conflict(written));
        assert_eq!(store.load(&new).await.unwrap(), None);
        assert!(store.delete(&old).await.unwrap());
    }
}

#[tokio::test]
async fn the_index_of_users_holds_nothing_once_their_sessions_are_gone() {
    let clock = ManualClock::new();
    let (store, folder) = open();
    let store = store.with_clock(clock.clone());
    let mut session = record(1, b"a session".as_slice());
    session.user = Some(UserId::new("ada").unwrap());
    let user = session.user.clone().unwrap();
    let entries = || {
        let below = all_below(&folder.path().join("users"));
        below
            .iter()
            .filter(|p| p.iter().next_back().unwrap().len() > 4)
            .count()
    };
    for last in 0..4 {
        create(&store, &id(last, last), &session).await;
    }
    assert_eq!(entries(), 1 + 4, "a folder and a file for each session");
    let mut rotated = record(2, b"rotated".as_slice());
    rotated.user = session.user.clone();
    let done = store
        .rotate(&id(0, 0), &id(9, 9), &rotated, session.version)
        .await;
    assert_eq!(done.unwrap(), Rotated::Done);
    assert!(store.delete(&id(1, 1)).await.unwrap());
    assert_eq!(entries(), 1 + 3);
    let ended = store.delete_all_of(&user, Some(&id(2, 2))).await.unwrap();
    assert_eq!(ended.len(), 2);
    assert_eq!(entries(), 1 + 1);
    clock.advance(Duration::from_secs(2 * 60 * 60));
    assert_eq!(store.delete_expired(100).await.unwrap(), 1);
    assert_eq!(entries(), 0);

    // What a writer has noted who was killed before he wrote the record.
    create(&store, &id(3, 3), &record(1, b"nobody's".as_slice())).await;
    let session = Record {
        expires_at: Timestamp::from_millis(i64::MAX),
        ..session
    };
    create(&store, &id(4, 4), &session).await;
    fs::remove_file(place(&folder, &id(4, 4))).unwrap();
    assert_eq!(entries(), 1 + 1);
    assert_eq!(store.sessions_of(&user).await.unwrap(), []);
    assert_eq!(entries(), 0);
}

#[tokio::test]
async fn a_record_over_the_limit_of_the_store_is_refused_and_the_old_one_stands() {
    let (store, _folder) = open();
    let present = record(1, b"present".as_slice());
    create(&store, &id(1, 1), &present).await;
    let large = record(2, vec![7; FileStore::RECORD_BYTES_MAX]);
    let error = store.update(&id(1, 1), &large, present.version).await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::TooLarge);
    assert_eq!(store.load(&id(1, 1)).await.unwrap(), Some(present));
}

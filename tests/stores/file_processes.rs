//! `FileStore` in processes that are killed, that write at once, or that find no room.
//!
//! A child process is this test program again, told by its environment what to do.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tower_keep::{
    Created, DeleteExpired, FileStore, Record, RecordId, Rotated, SessionStore, StoreErrorKind,
    Updated, UserId, UserSessions,
};
use tower_keep_servers::SmallDisk;

use super::file_faults::{all_below, create, id, leftovers, open, place, record};
use crate::support::temporary_folder;

/// Does in another process what its environment says; in a run of all tests, nothing.
#[tokio::test]
async fn a_child_process_does_as_it_is_told() {
    let Ok(role) = env::var("TOWER_KEEP_CHILD") else {
        return;
    };
    let store = FileStore::open(env::var("TOWER_KEEP_FOLDER").unwrap()).unwrap();
    match &*role {
        "write" => write(&store).await,
        "rotate" => rotate(&store).await,
        "count" => count(&store).await,
        "fill" => fill(&store).await,
        "create" => create(&store, &id(1, 1), &record(1, b"private".as_slice())).await,
        _ => panic!("no such role"),
    }
}

/// A shell command in which `$0` and its arguments are the child's.
fn child(role: &str, folder: &Path, shell: &str) -> Child {
    let test = "file_processes::a_child_process_does_as_it_is_told";
    Command::new("bash")
        .args(["-c", &format!("{shell} exec \"$0\" \"$@\"")])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("TOWER_KEEP_CHILD", role)
        .env("TOWER_KEEP_FOLDER", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn tell(line: &str) {
    // One call of the system a line: what is acknowledged is told.
    let line = format!("\n>{line}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

/// Lets a child tell so many things, then a little time pass, and kills it. Returns all it has told.
fn kill_after(mut child: Child, told: usize, later: Duration) -> Vec<String> {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = stdout
        .lines()
        .filter_map(|line| Some(line.unwrap().strip_prefix('>')?.to_owned()));
    let mut heard: Vec<String> = lines.by_ref().take(told).collect();
    let end = Instant::now() + later;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    heard.extend(lines);
    assert!(!child.wait().unwrap().success(), "it was killed at work");
    heard
}

/// 20 KB in which every byte tells the revision: a part of another content does not go unseen.
fn content(revision: u64) -> Vec<u8> {
    revision.to_be_bytes().repeat(2500)
}

/// The record of the child that writes or rotates.
fn of_the_child(revision: u64) -> Record {
    let mut record = record(revision, content(revision));
    record.user = Some(UserId::new("the child").unwrap());
    record
}

async fn write(store: &FileStore) {
    let mut present = store.load(&id(1, 1)).await.unwrap().unwrap();
    loop {
        let next = of_the_child(present.version.revision + 1);
        let updated = store.update(&id(1, 1), &next, present.version).await;
        assert_eq!(updated.unwrap(), Updated::Done);
        tell(&next.version.revision.to_string());
        present = next;
    }
}

async fn rotate(store: &FileStore) {
    let user = UserId::new("the child").unwrap();
    let present = store.sessions_of(&user).await.unwrap().remove(0);
    let (mut old, mut present) = (present.id, present.record);
    loop {
        let next = of_the_child(present.version.revision + 1);
        let new = id_of(next.version.revision);
        let rotated = store.rotate(&old, &new, &next, present.version).await;
        assert_eq!(rotated.unwrap(), Rotated::Done);
        tell(&next.version.revision.to_string());
        (old, present) = (new, next);
    }
}

/// The id of a session that has been rotated so often: sometimes of the same stripe as the last.
fn id_of(revision: u64) -> RecordId {
    let [.., high, low] = (revision / 3).to_be_bytes();
    let mut bytes = [0; RecordId::LEN];
    bytes[..2].copy_from_slice(&[low, high]);
    bytes[24..].copy_from_slice(&revision.to_be_bytes());
    RecordId::from_bytes(bytes)
}

const KILLS: u32 = 40;

#[tokio::test]
async fn a_writer_that_is_killed_at_any_moment_leaves_the_last_content_or_the_next() {
    let (store, folder) = open();
    create(&store, &id(1, 1), &of_the_child(1)).await;
    let mut last = 1;
    for round in 0..KILLS {
        let writer = child("write", folder.path(), "");
        let told = usize::try_from(round % 7).unwrap() + 1;
        let heard = kill_after(writer, told, Duration::from_micros(37) * round);
        let acknowledged = heard.last().unwrap().parse().unwrap();
        assert!(acknowledged > last);
        let found = store.load(&id(1, 1)).await.unwrap().expect("never lost");
        last = found.version.revision;
        assert!([acknowledged, acknowledged + 1].contains(&last), "{round}");
        assert_eq!(found.payload.as_bytes(), content(last), "{round}");
    }
    let _ = store.delete_expired(100).await.unwrap();
    assert_eq!(leftovers(folder.path()), 0);
}

#[tokio::test]
async fn a_rotation_that_is_killed_at_any_moment_leaves_a_live_id_that_its_user_can_end() {
    let (store, folder) = open();
    let user = UserId::new("the child").unwrap();
    for round in 0..KILLS {
        create(&store, &id_of(1), &of_the_child(1)).await;
        let writer = child("rotate", folder.path(), "");
        let told = usize::try_from(round % 7).unwrap() + 1;
        let heard = kill_after(writer, told, Duration::from_micros(53) * round);
        let acknowledged: u64 = heard.last().unwrap().parse().unwrap();
        let mut live = Vec::new();
        for revision in 1..=acknowledged + 2 {
            if let Some(found) = store.load(&id_of(revision)).await.unwrap() {
                assert_eq!(found.payload.as_bytes(), content(revision), "{round}");
                live.push(revision);
            }
        }
        // Also both: the next one is there, and the last one was not removed yet.
        let (last, next) = (acknowledged, acknowledged + 1);
        let allowed = [vec![last], vec![last, next], vec![next]];
        assert!(
            allowed.contains(&live),
            "{round}: {last} told, {live:?} live"
        );
        let found = store.sessions_of(&user).await.unwrap();
        assert_eq!(found.len(), live.len(), "the index is complete");
        let ended = store.delete_all_of(&user, None).await.unwrap();
        assert_eq!(ended.len(), live.len());
        for revision in live {
            assert_eq!(store.load(&id_of(revision)).await.unwrap(), None);
        }
    }
    let _ = store.delete_expired(100).await.unwrap();
    assert_eq!(leftovers(folder.path()), 0);
}

const COUNTS: u64 = 300;

async fn count(store: &FileStore) {
    for _ in 0..COUNTS {
        let mut present = store.load(&id(1, 1)).await.unwrap().unwrap();
        loop {
            let count: [u8; 8] = present.payload.as_bytes().try_into().unwrap();
            let count = u64::from_be_bytes(count) + 1;
            let next = record(present.version.revision + 1, count.to_be_bytes().to_vec());
            match store.update(&id(1, 1), &next, present.version).await {
                Ok(Updated::Done) => break,
                Ok(Updated::Conflict(newer)) => present = newer,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn processes_that_count_in_one_session_at_once_lose_no_update() {
    let (store, folder) = open();
    create(&store, &id(1, 1), &record(1, vec![0; 8])).await;
    let counters: Vec<Child> = (0..3).map(|_| child("count", folder.path(), "")).collect();
    for counter in counters {
        let output = counter.wait_with_output().unwrap();
        assert!(output.status.success());
    }
    let found = store.load(&id(1, 1)).await.unwrap().unwrap();
    assert_eq!(found.payload.as_bytes(), (3 * COUNTS).to_be_bytes());
    assert_eq!(found.version.revision, 1 + 3 * COUNTS);
}

/// Writes more than there is room for, and sees that this changes nothing.
async fn fill(store: &FileStore) {
    let small = record(1, b"small".as_slice());
    create(store, &id(1, 1), &small).await;
    let kind = StoreErrorKind::TooLarge;
    let large = record(2, vec![7; 8 * 1024 * 1024]);
    let (old, new) = (id(1, 1), id(2, 2));
    let updated = store.update(&old, &large, small.version).await;
    assert_eq!(updated.unwrap_err().kind(), kind);
    let rotated = store.rotate(&old, &new, &large, small.version).await;
    assert_eq!(rotated.unwrap_err().kind(), kind);
    let created = store.create(&new, &large).await;
    assert_eq!(created.unwrap_err().kind(), kind);
    assert_eq!(store.load(&old).await.unwrap(), Some(small.clone()));
    assert_eq!(store.load(&new).await.unwrap(), None);
    let next = record(2, b"next".as_slice());
    let updated = store.update(&old, &next, small.version).await;
    assert_eq!(updated.unwrap(), Updated::Done);
    tell("filled");
}

/// The system refuses the second part of a write, with an error as a full disk does.
#[test]
fn a_write_that_the_system_cuts_off_is_an_error_and_the_old_content_stands() {
    let folder = temporary_folder();
    let limited = child("fill", folder.path(), "trap '' XFSZ; ulimit -f 1024;");
    let output = limited.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains(">filled"),
        "{told}"
    );
    assert_eq!(leftovers(folder.path()), 0);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_the_old_content_stands() {
    let folder = temporary_folder();
    let Some(_disk) = SmallDisk::mount(folder.path()) else {
        // Not root, or not allowed to mount: the other way to run out of room.
        a_write_that_the_system_cuts_off_is_an_error_and_the_old_content_stands();
        return;
    };
    let store = FileStore::open(folder.path()).unwrap();
    let present = of_the_child(1);
    create(&store, &id(1, 1), &present).await;
    let mut filled = 0;
    let full = loop {
        let more = record(1, vec![7; 64 * 1024]);
        match store.create(&id(2, filled), &more).await {
            Ok(created) => assert_eq!(created, Created::Done),
            Err(error) => break error,
        }
        filled += 1;
    };
    assert!(filled > 3);
    assert_eq!(full.kind(), StoreErrorKind::Unavailable);
    assert_eq!(store.load(&id(2, filled)).await.unwrap(), None);
    let mut large = of_the_child(2);
    large.payload = vec![7; 200 * 1024].into();
    let updated = store.update(&id(1, 1), &large, present.version).await;
    assert_eq!(updated.unwrap_err().kind(), StoreErrorKind::Unavailable);
    let (old, new) = (id(1, 1), id(3, 3));
    let rotated = store.rotate(&old, &new, &large, present.version).await;
    assert_eq!(rotated.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(store.load(&id(1, 1)).await.unwrap(), Some(present.clone()));
    assert_eq!(store.load(&id(3, 3)).await.unwrap(), None);
    assert_eq!(leftovers(folder.path()), 0);

    assert!(store.delete(&id(2, 0)).await.unwrap(), "which makes room");
    let next = of_the_child(2);
    let updated = store.update(&id(1, 1), &next, present.version).await;
    assert_eq!(updated.unwrap(), Updated::Done);
}

#[tokio::test]
async fn files_are_for_their_owner_alone_whatever_the_umask() {
    for umask in ["000", "022", "777"] {
        let parent = temporary_folder();
        let folder = parent.path().join("sessions");
        let writer = child("create", &folder, &format!("umask {umask};"));
        assert!(
            writer.wait_with_output().unwrap().status.success(),
            "{umask}"
        );
        let record = folder.join(
            place(&parent, &id(1, 1))
                .strip_prefix(parent.path())
                .unwrap(),
        );
        assert!(record.is_file());
        for path in all_below(parent.path()) {
            let found = fs::symlink_metadata(&path).unwrap();
            let expected = if found.is_dir() { 0o700 } else { 0o600 };
            let mode = found.mode() & 0o7777;
            assert_eq!(mode, expected, "umask {umask}: {}", path.display());
        }
    }
}

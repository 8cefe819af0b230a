//! A file that several processes use, that is locked, whose writer is killed, and that finds no room.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use sqlx::{
    Connection, Executor, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;
use tokio::time::timeout;
use tower_keep::{
    Created, Record, RecordId, SessionLayer, SessionStore, SqliteStore, StoreErrorKind, Updated,
};
use tower_keep_servers::SmallDisk;

use super::new_id;
use crate::{
    file_faults::{id, record},
    support::{Browser, PATIENCE, app, eventually, temporary_folder},
};

/// How long a connection waits by itself for another one that writes.
const BUSY_TIMEOUTS: [Duration; 2] = [Duration::ZERO, Duration::from_secs(5)];

/// How long the store sends a statement again that has met a lock.
const STORE_WAITS: Duration = Duration::from_secs(2);

const JOURNALS: [SqliteJournalMode; 2] = [SqliteJournalMode::Wal, SqliteJournalMode::Delete];

fn options(folder: &Path, journal: SqliteJournalMode) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(folder.join("sessions.sqlite"))
        .create_if_missing(true)
        .busy_timeout(PATIENCE)
        .journal_mode(journal)
}

async fn open_with(options: SqliteConnectOptions) -> SqliteStore {
    let pool = SqlitePoolOptions::new()
        .max_connections(4)
        .connect_with(options)
        .await
        .unwrap();
    let store = SqliteStore::new(pool);
    store.migrate().await.unwrap();
    store
}

async fn open(folder: &Path) -> SqliteStore {
    open_with(options(folder, SqliteJournalMode::Wal)).await
}

async fn create(store: &SqliteStore, id: &RecordId, record: &Record) {
    assert_eq!(store.create(id, record).await.unwrap(), Created::Done);
}

/// Does in another process what its environment says; in a run of all tests, nothing.
#[tokio::test]
async fn a_child_process_does_as_it_is_told() {
    let Ok(role) = env::var("TOWER_KEEP_SQLITE_CHILD") else {
        return;
    };
    let folder = env::var("TOWER_KEEP_FOLDER").unwrap();
    let store = open(Path::new(&folder)).await;
    match &*role {
        "count" => count(&store).await,
        "write" => write(&store).await,
        _ => panic!("no such role"),
    }
}

fn child(role: &str, folder: &Path) -> Child {
    let test = "sql_faults::sqlite::a_child_process_does_as_it_is_told";
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("TOWER_KEEP_SQLITE_CHILD", role)
        .env("TOWER_KEEP_FOLDER", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

const COUNTS: u64 = 200;

async fn count(store: &SqliteStore) {
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
async fn two_processes_that_count_in_one_session_of_one_file_lose_no_update() {
    let folder = temporary_folder();
    let store = open(folder.path()).await;
    create(&store, &id(1, 1), &record(1, vec![0; 8])).await;
    let counters = [child("count", folder.path()), child("count", folder.path())];
    for counter in counters {
        let output = counter.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{told}");
    }
    let found = store.load(&id(1, 1)).await.unwrap().unwrap();
    assert_eq!(found.payload.as_bytes(), (2 * COUNTS).to_be_bytes());
    assert_eq!(found.version.revision, 1 + 2 * COUNTS);
}

/// 20 KB in which every byte tells the revision: a part of another content does not go unseen.
fn content(revision: u64) -> Vec<u8> {
    revision.to_be_bytes().repeat(2500)
}

/// Writes one revision after another, and tells which are acknowledged.
async fn write(store: &SqliteStore) {
    let mut present = store.load(&id(1, 1)).await.unwrap().unwrap();
    loop {
        let revision = present.version.revision + 1;
        let next = record(revision, content(revision));
        let updated = store.update(&id(1, 1), &next, present.version).await;
        assert_eq!(updated.unwrap(), Updated::Done);
        let line = format!("\n>{revision}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
        present = next;
    }
}

/// Lets a child acknowledge so many writes, then a little time pass, and kills it. Returns the last
/// acknowledged revision.
fn kill_after(mut child: Child, told: usize, later: Duration) -> u64 {
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
    heard.last().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_writer_that_is_killed_at_any_moment_leaves_the_last_content_or_the_next() {
    let folder = temporary_folder();
    let store = open(folder.path()).await;
    create(&store, &id(1, 1), &record(1, content(1))).await;
    for round in 0..20 {
        let told = usize::try_from(round % 7).unwrap() + 1;
        let writer = child("write", folder.path());
        let acknowledged = kill_after(writer, told, Duration::from_micros(97) * round);
        let found = store.load(&id(1, 1)).await.unwrap().expect("never lost");
        let last = found.version.revision;
        assert!([acknowledged, acknowledged + 1].contains(&last), "{round}");
        assert_eq!(found.payload.as_bytes(), content(last), "{round}");
    }
    let mut check = SqliteConnection::connect_with(&options(folder.path(), SqliteJournalMode::Wal))
        .await
        .unwrap();
    let check = sqlx::query_scalar::<_, String>("PRAGMA integrity_check").fetch_one(&mut check);
    assert_eq!(check.await.unwrap(), "ok");
}

/// Somebody else, who has the file for himself until he is told to let it go.
struct Foreigner(SqliteConnection);

impl Foreigner {
    async fn begin(options: &SqliteConnectOptions) -> Self {
        let mut connection = SqliteConnection::connect_with(options).await.unwrap();
        connection.execute("BEGIN IMMEDIATE").await.unwrap();
        Self(connection)
    }

    async fn end(mut self) {
        self.0.execute("COMMIT").await.unwrap();
    }
}

/// All the ways of waiting: by the connection or by the store, for a reader's or a writer's lock.
fn ways(folder: &TempDir) -> Vec<SqliteConnectOptions> {
    let mut ways = Vec::new();
    for (number, journal) in JOURNALS.into_iter().enumerate() {
        for (other, busy) in BUSY_TIMEOUTS.into_iter().enumerate() {
            let folder = folder.path().join(format!("{number}{other}"));
            fs::create_dir(&folder).unwrap();
            ways.push(options(&folder, journal).busy_timeout(busy));
        }
    }
    ways
}

#[tokio::test]
async fn a_write_waits_for_a_foreign_lock_and_then_succeeds() {
    let folder = temporary_folder();
    for way in ways(&folder) {
        let store = open_with(way.clone()).await;
        eventually(
            "lock that was held for so short a time that a write waits for it",
            || a_write_waits(&way, &store),
        )
        .await;
    }
}

/// `None` if the lock was held for longer than a write waits, which nobody here can rule out.
async fn a_write_waits(way: &SqliteConnectOptions, store: &SqliteStore) -> Option<()> {
    let (present, next) = (record(1, b"old".as_slice()), record(2, b"new".as_slice()));
    let id = new_id();
    create(store, &id, &present).await;
    let foreigner = Foreigner::begin(way).await;
    let started = Instant::now();
    let mut update = Box::pin(store.update(&id, &next, present.version));
    let early = timeout(Duration::from_millis(300), update.as_mut()).await;
    let read = store.load(&id).await.unwrap();
    assert_eq!(read.as_ref(), Some(&present), "who reads does not wait");
    foreigner.end().await;
    let updated = match early {
        Ok(Ok(early)) => panic!("{early:?} while another one writes"),
        Ok(refused) => refused,
        Err(_) => timeout(PATIENCE, update).await.unwrap(),
    };
    match updated {
        Err(_) if started.elapsed() > STORE_WAITS => return None,
        updated => assert_eq!(updated.unwrap(), Updated::Done),
    }
    let read = store.load(&id).await.unwrap();
    assert_eq!(read.as_ref(), Some(&next));
    Some(())
}

#[tokio::test]
async fn a_lock_held_longer_than_the_store_timeout_is_a_503_and_then_all_is_well() {
    let folder = temporary_folder();
    for way in ways(&folder) {
        let store = open_with(way.clone()).await;
        let patient = SessionLayer::new(store.clone()).with_store_timeout(PATIENCE);
        let mut patient = Browser::new(&app(patient));
        assert_eq!(patient.post("/count/n").await.assert_ok().body, "1");
        let foreigner = Foreigner::begin(&way).await;
        let impatient = SessionLayer::new(store).with_store_timeout(Duration::from_millis(200));
        let impatient = app(impatient);
        let mut hurried = Browser::new(&impatient);
        hurried.set_cookie("__Host-id", patient.id().unwrap());
        let mut unknown = 0;
        for _ in 0..3 {
            let answer = hurried.post("/count/n").await;
            assert_eq!(answer.status, 503);
            assert_eq!(answer.set_cookies(), [""; 0]);
            unknown += 1;
        }
        let stranger = Browser::new(&impatient).post("/put/a/b").await;
        assert_eq!(stranger.status, 503);
        assert_eq!(
            stranger.set_cookies(),
            [""; 0],
            "no id that nothing is behind"
        );
        let logout = hurried.post("/logout").await;
        assert_eq!(logout.status, 503);
        assert_eq!(logout.set_cookies(), [""; 0], "it is not known to be over");
        let read = hurried.get("/get/n").await;
        if read.status == 200 {
            assert_eq!(read.body, "1");
        }
        foreigner.end().await;

        let mut fresh = patient.stranger();
        assert_eq!(fresh.post("/count/n").await.assert_ok().body, "1");
        assert_eq!(fresh.post("/count/n").await.assert_ok().body, "2");
        // A statement that was given up may have been carried out, the logout among them.
        let found = patient.get("/get/n").await.assert_ok().body;
        if found != "-" {
            let number: u64 = found.parse().unwrap();
            assert!((1..=1 + unknown).contains(&number), "{number}");
        }
        patient.post("/logout").await.assert_ok();
        let hurried = hurried.with_id_of(&fresh);
        let attempts = AtomicU64::new(0);
        let served = eventually("service for who does not wait", || {
            let mut hurried = hurried.clone();
            attempts.fetch_add(1, Relaxed);
            async move {
                let answer = hurried.post("/count/n").await;
                (answer.status == 200).then_some(answer.body)
            }
        });
        // One that was given up may have been counted.
        let count: u64 = served.await.parse().unwrap();
        assert!((3..=2 + attempts.into_inner()).contains(&count), "{count}");
    }
}

/// What is refused when there is no room, and works when there is.
async fn assert_full(store: &SqliteStore, present: &Record) {
    let mut large = record(2, vec![7; 300 * 1024]);
    let kind = StoreErrorKind::Unavailable;
    let created = store.create(&id(2, 2), &large).await;
    assert_eq!(created.unwrap_err().kind(), kind);
    let updated = store.update(&id(1, 1), &large, present.version).await;
    assert_eq!(updated.unwrap_err().kind(), kind);
    large.user = present.user.clone();
    let (old, new) = (id(1, 1), id(3, 3));
    let rotated = store.rotate(&old, &new, &large, present.version).await;
    assert_eq!(rotated.unwrap_err().kind(), kind);
    assert_eq!(store.load(&id(1, 1)).await.unwrap().as_ref(), Some(present));
    assert_eq!(store.load(&id(2, 2)).await.unwrap(), None);
    assert_eq!(store.load(&id(3, 3)).await.unwrap(), None);
}

async fn assert_room(store: &SqliteStore, present: &Record) {
    let large = record(2, vec![7; 300 * 1024]);
    let updated = store.update(&id(1, 1), &large, present.version).await;
    assert_eq!(updated.unwrap(), Updated::Done);
    assert_eq!(store.load(&id(1, 1)).await.unwrap(), Some(large));
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_the_old_content_stands() {
    for journal in JOURNALS {
        let folder = temporary_folder();
        let Some(disk) = SmallDisk::mount(folder.path()) else {
            // Not root, or not allowed to mount: the test of a full database has to do.
            return;
        };
        let store = open_with(options(folder.path(), journal)).await;
        let present = record(1, content(1));
        create(&store, &id(1, 1), &present).await;
        disk.fill_but(0);
        assert_full(&store, &present).await;
        disk.make_room();
        assert_room(&store, &present).await;
    }
}

#[tokio::test]
async fn a_database_that_may_not_grow_is_an_error_and_the_old_content_stands() {
    for journal in JOURNALS {
        let folder = temporary_folder();
        let options = options(folder.path(), journal).pragma("max_page_count", "100");
        let store = open_with(options).await;
        let present = record(1, content(1));
        create(&store, &id(1, 1), &present).await;
        create(&store, &id(9, 9), &record(1, vec![7; 300 * 1024])).await;
        assert_full(&store, &present).await;
        assert!(store.delete(&id(9, 9)).await.unwrap(), "which makes room");
        assert_room(&store, &present).await;
    }
}

//! A copy that is stopped half-way loses nothing and repeats nothing.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::{
    process::{Child, Command},
    time::timeout,
};
use tower_keep_servers::{Kind, Server};

use super::{
    patience::PATIENCE,
    place::Place,
    program::{Ran, command, tower_keep},
    sessions::many,
};

/// So many that hardly ever one of these copies is done before it is stopped.
const COUNT: u32 = 4000;

#[tokio::test]
async fn after_ctrl_c_a_copy_goes_on_where_it_says() {
    let (from, to) = places("postgres").await;
    let copy = format!("copy --from {} --to {} --page 20 --json", from.url, to.url);
    let mut ids: Vec<_> = many(COUNT).map(|session| session.id.to_hex()).collect();
    ids.sort();
    let taken = format!("'\\x{}', 1, '', NULL, 1, 1, 1, ''", ids[110]);
    let insert = format!("INSERT INTO {} VALUES ({taken})", table(&to));
    let mut obstacle = Obstacle::put(&insert).await;
    let running = command(&copy).spawn().unwrap();
    obstacle.is_met().await;
    signal(&running, "INT").await;
    obstacle.remove().await;
    let stopped = Ran::from(running.wait_with_output().await.unwrap());
    assert_eq!(stopped.code, Some(130), "{stopped}");
    assert_eq!(stopped.stderr.lines().count(), 1, "{stopped}");
    let first = created(&stopped.stdout);
    // Nothing was under way any more when it said so.
    assert_eq!(to.all().await.len() as u64, first);
    let (_, place) = stopped.stderr.split_once("--after ").unwrap();
    let place: String = place.chars().take_while(char::is_ascii_hexdigit).collect();

    let rest = tower_keep(&format!("{copy} --after {place} --verify"))
        .await
        .stdout();
    assert_eq!(first + created(&rest), u64::from(COUNT), "{rest}");
    assert_eq!(to.all().await, from.all().await);
}

#[tokio::test]
async fn after_a_kill_a_copy_is_run_again() {
    for kind in ["sqlite", "redis", "file"] {
        let (from, to) = stopped_half_way(kind, "copy --page 20", "KILL").await;
        let before = to.all().await.len() as u64;
        let copy = format!("copy --page 20 --from {} --to {}", from.url, to.url);
        let rest = tower_keep(&format!("{copy} --json --verify")).await.json();
        // What was sent to a server may have been carried out after the kill.
        let present = rest["present"].as_u64().unwrap();
        assert!(present >= before, "{kind}: {rest}, {before} before");
        assert_eq!(
            present + rest["created"].as_u64().unwrap(),
            u64::from(COUNT)
        );
        assert_eq!(to.all().await, from.all().await, "{kind}");
    }
}

#[tokio::test]
async fn after_ctrl_c_or_a_kill_a_move_is_run_again() {
    let all = many(COUNT).map(|session| (session.id, session.record));
    let all: BTreeMap<_, _> = all.collect();
    for name in ["INT", "KILL"] {
        let (from, to) = stopped_half_way("redis", "copy --move --page 20", name).await;
        let copy = format!("copy --move --page 20 --from {} --to {}", from.url, to.url);
        tower_keep(&copy).await.stdout();
        assert_eq!(to.all().await, all, "{name}");
        // After a kill the note of the session that was on its way may stay, until it expires.
        let left = from.all().await.len();
        assert!(left <= usize::from(name == "KILL"), "{name}: {left}");
    }
}

#[tokio::test]
async fn ctrl_c_twice_does_not_wait_for_a_store_that_hangs() {
    let (from, to) = places("postgres").await;
    // It can be read, and no write comes to an end.
    let lock = format!("LOCK TABLE {} IN SHARE MODE", table(&to));
    let mut obstacle = Obstacle::put(&lock).await;
    let copy = format!("copy --from {} --to {} --page 20", from.url, to.url);
    let mut running = command(&copy).spawn().unwrap();
    obstacle.is_met().await;
    signal(&running, "INT").await;
    let patience = timeout(Duration::from_millis(300), running.wait());
    assert!(
        patience.await.is_err(),
        "it did not wait for what is under way"
    );
    // Two that come in the same moment are one.
    let insisting = async {
        loop {
            signal(&running, "INT").await;
            let ended = timeout(Duration::from_secs(10), running.wait()).await;
            if ended.is_ok() {
                break;
            }
        }
    };
    timeout(PATIENCE, insisting).await.unwrap();
    let stopped = Ran::from(running.wait_with_output().await.unwrap());
    assert_eq!(stopped.code, Some(130), "{stopped}");
    assert_eq!(stopped.stderr, "tower-keep: stopped at once\n");
    obstacle.remove().await;
}

async fn places(kind: &str) -> (Place, Place) {
    let (from, to) = (Place::new("sqlite").await, Place::new(kind).await);
    from.put(&many(COUNT).collect::<Vec<_>>()).await;
    (from, to)
}

/// The places of a copy that was stopped by that signal. One that was done before is no such copy, and another one is
/// begun.
async fn stopped_half_way(kind: &str, words: &str, name: &str) -> (Place, Place) {
    for _ in 0..ATTEMPTS_MAX {
        let (from, to) = places(kind).await;
        let mut copy = command(&format!("{words} --from {} --to {}", from.url, to.url));
        copy.stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = copy.spawn().unwrap();
        until_some_are_there(&to).await;
        signal(&running, name).await;
        running.wait().await.unwrap();
        if to.all().await.len() + 1 < COUNT as usize {
            return (from, to);
        }
    }
    panic!("{kind}: each was done already");
}

async fn until_some_are_there(place: &Place) {
    // Each look asks the store, while the copy goes on.
    let looking = async { while place.all().await.len() < 100 {} };
    timeout(PATIENCE, looking).await.unwrap();
}

/// A transaction in the way of a copy to PostgreSQL.
struct Obstacle(PgConnection);

impl Obstacle {
    async fn put(statement: &str) -> Self {
        let url = Server::shared(Kind::Postgres).await.url();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let begin = AssertSqlSafe(format!("BEGIN; {statement}"));
        let begun = sqlx::raw_sql(begin).execute(&mut connection).await;
        begun.unwrap();
        Self(connection)
    }

    /// Waits until somebody waits for its end.
    async fn is_met(&mut self) {
        let query = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted \
                     AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))";
        let looking = async {
            loop {
                let met = sqlx::query_scalar::<_, bool>(query);
                if met.fetch_one(&mut self.0).await.unwrap() {
                    break;
                }
            }
        };
        timeout(PATIENCE, looking).await.unwrap();
    }

    async fn remove(mut self) {
        let ended = sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await;
        ended.unwrap();
    }
}

/// Where that place has its sessions in a database.
fn table(place: &Place) -> &str {
    let (_, table) = place.url.split_once('#').unwrap();
    table
}

async fn signal(running: &Child, name: &str) {
    let id = running.id().unwrap();
    let kill = format!("kill -{name} {id}");
    let sent = Command::new("sh").args(["-c", &kill]).status().await;
    assert!(sent.unwrap().success());
}

fn created(json: &str) -> u64 {
    let counts: serde_json::Value = serde_json::from_str(json).unwrap();
    counts["created"].as_u64().unwrap()
}

/// Copies that may be done before they are stopped.
const ATTEMPTS_MAX: u32 = 10;

//! A copy that is stopped half-way loses nothing and repeats nothing.

use std::{process::Stdio, time::Duration};

use tokio::{
    process::{Child, Command},
    time::timeout,
};
use tower_keep_servers::{Kind, Server};

use super::{
    place::Place,
    program::{Ran, command, tower_keep},
    sessions::many,
};

/// So many that none of these copies is done before it is stopped.
const COUNT: u32 = 4000;

/// Of a test on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn after_ctrl_c_a_copy_goes_on_where_it_says() {
    let (from, to) = places("postgres").await;
    let copy = format!("copy --from {} --to {} --page 20 --json", from.url, to.url);
    let running = command(&copy).spawn().unwrap();
    until_some_are_there(&to).await;
    signal(&running, "INT").await;
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
        let (from, to) = places(kind).await;
        let copy = format!("copy --from {} --to {} --page 20 --json", from.url, to.url);
        let mut running = command(&copy).stdout(Stdio::null()).spawn().unwrap();
        until_some_are_there(&to).await;
        running.kill().await.unwrap();
        let before = to.all().await.len() as u64;
        assert!(before < u64::from(COUNT), "{kind}: it was done already");

        let rest = tower_keep(&format!("{copy} --verify")).await.json();
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
    for name in ["INT", "KILL"] {
        let (from, to) = places("redis").await;
        let before = from.all().await;
        let copy = format!("copy --move --from {} --to {} --page 20", from.url, to.url);
        let mut running = command(&copy);
        let running = running.stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = running.spawn().unwrap();
        until_some_are_there(&to).await;
        signal(&running, name).await;
        running.wait().await.unwrap();
        assert!(from.all().await.len() > 1, "{name}: it was done already");
        tower_keep(&copy).await.stdout();
        assert_eq!(to.all().await, before, "{name}");
        // After a kill the note of the session that was on its way may stay, until it expires.
        let left = from.all().await.len();
        assert!(left <= usize::from(name == "KILL"), "{name}: {left}");
    }
}

#[tokio::test]
async fn ctrl_c_twice_does_not_wait_for_a_store_that_hangs() {
    let server = Server::start(Kind::Postgres).await;
    tower_keep(&format!("migrate --store {}", server.url()))
        .await
        .stdout();
    let from = Place::new("sqlite").await;
    from.put(&many(COUNT).collect::<Vec<_>>()).await;
    let copy = format!("copy --from {} --to {} --page 20", from.url, server.url());
    let mut running = command(&copy).spawn().unwrap();
    let count = format!("stats --json --store {}", server.url());
    while tower_keep(&count).await.json()["sessions"]
        .as_u64()
        .unwrap()
        < 100
    {}
    server.pause().await;
    signal(&running, "INT").await;
    let patience = timeout(Duration::from_millis(300), running.wait());
    assert!(
        patience.await.is_err(),
        "it did not wait for what is under way"
    );
    signal(&running, "INT").await;
    let stopped = Ran::from(running.wait_with_output().await.unwrap());
    assert_eq!(stopped.code, Some(130), "{stopped}");
    assert_eq!(stopped.stderr, "tower-keep: stopped at once\n");
    server.resume().await;
}

async fn places(kind: &str) -> (Place, Place) {
    let (from, to) = (Place::new("sqlite").await, Place::new(kind).await);
    from.put(&many(COUNT).collect::<Vec<_>>()).await;
    (from, to)
}

async fn until_some_are_there(place: &Place) {
    // Each look asks the store, while the copy goes on.
    let looking = async { while place.all().await.len() < 100 {} };
    timeout(PATIENCE, looking).await.unwrap();
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

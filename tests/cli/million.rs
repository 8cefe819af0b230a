//! A million sessions. `cargo test --release --features full,cli --test cli -- --ignored million --nocapture`

use std::{
    env,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};
use tower_keep::{Created, SessionStore};

use super::{
    place::Place,
    program::{Ran, command, tower_keep},
    sessions::many,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; prints rate and memory"]
async fn a_million_sessions_are_copied_in_flat_memory() {
    let count = count();
    let [start, middle, end] = [
        Place::new("sqlite").await,
        Place::new("postgres").await,
        Place::new("redis").await,
    ];
    fill(&start, count).await;
    for (from, to) in [(&start, &middle), (&middle, &end)] {
        let began = Instant::now();
        let copy = format!("copy --json --verify --from {} --to {}", from.url, to.url);
        let running = command(&copy).spawn().unwrap();
        let status = format!("/proc/{}/status", running.id().unwrap());
        let peak = tokio::spawn(async move {
            let mut peak = 0;
            while let Some(now) = high_water_kb(&status) {
                peak = peak.max(now);
                sleep(Duration::from_millis(50)).await;
            }
            peak
        });
        let ran = Ran::from(running.wait_with_output().await.unwrap());
        let seconds = began.elapsed().as_secs_f64();
        let peak = peak.await.unwrap();
        let (from, to) = (from.store.kind(), to.store.kind());
        let rate = f64::from(count) / seconds;
        println!("{from} -> {to}: {count} in {seconds:.1} s, {rate:.0}/s, VmHWM {peak} kB");
        assert_eq!(ran.json()["created"], count);
        assert!(peak < PEAK_MAX_KB, "{peak} kB");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_copy_of_a_million_that_is_killed_half_way_is_run_again() {
    let count = count();
    let [from, to] = [Place::new("sqlite").await, Place::new("postgres").await];
    fill(&from, count).await;
    let copy = format!("copy --json --from {} --to {}", from.url, to.url);
    let mut running = command(&copy).stdout(Stdio::null()).spawn().unwrap();
    let there = format!("stats --json --store {}", to.url);
    let there = async || {
        tower_keep(&there).await.json()["sessions"]
            .as_u64()
            .unwrap()
    };
    while there().await < u64::from(count / 2) {
        assert_eq!(running.try_wait().unwrap(), None, "it has ended");
    }
    running.kill().await.unwrap();
    let before = there().await;
    assert!(before < u64::from(count), "it was done already");

    let rest = tower_keep(&format!("{copy} --verify")).await.json();
    println!("killed at {before}, then {rest}");
    // What was sent to the server may have been carried out after the kill.
    let present = rest["present"].as_u64().unwrap();
    assert!(present >= before, "{rest}");
    let created = rest["created"].as_u64().unwrap();
    assert_eq!(
        (present + created, there().await),
        (count.into(), count.into())
    );
}

fn count() -> u32 {
    env::var("TOWER_KEEP_SESSIONS").map_or(1_000_000, |count| count.parse().unwrap())
}

async fn fill(place: &Place, count: u32) {
    let mut writers = JoinSet::new();
    for session in many(count) {
        if writers.len() == 8 {
            writers.join_next().await.unwrap().unwrap();
        }
        let store = place.store.clone();
        writers.spawn(async move {
            let created = store.create(&session.id, &session.record).await;
            assert_eq!(created.unwrap(), Created::Done);
        });
    }
    writers.join_all().await;
}

/// Of a process that runs; one that has ended has none.
fn high_water_kb(status: &str) -> Option<u64> {
    let status = std::fs::read_to_string(status).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Two pages and the program itself; a million sessions are some hundred times that.
const PEAK_MAX_KB: u64 = 100_000;

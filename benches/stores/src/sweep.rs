//! Expired sessions are swept out of a large table of PostgreSQL while requests run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, PgPool};
use tower_keep::{
    DeleteExpired, PostgresStore, RecordId, SessionStore, Timestamp, Updated, Version, WriteToken,
};

use crate::{
    contender::{IDLE, millis_from_now, token_of},
    database::{CONNECTIONS, postgres_pool, postgres_server},
    fill,
};

pub async fn run() {
    let server = postgres_server().await;
    let pool = postgres_pool(&server.url(), CONNECTIONS, true).await;
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.expect("a table");
    for (name, rests) in [
        ("with rests as long as the batches", true),
        ("without rests", false),
    ] {
        println!("\n{EXPIRED} expired and {LIVE} live sessions, batches of {BATCH}, {name}\n");
        sqlx::raw_sql("TRUNCATE tower_keep_sessions")
            .execute(&pool)
            .await
            .expect("an empty table");
        fill::postgres(
            &pool,
            "tower_keep_sessions",
            EXPIRED + LIVE,
            (EXPIRED + LIVE) / LIVE,
        )
        .await;
        assert_eq!(count(&pool).await, [EXPIRED, LIVE]);

        let requests = Requests::start(&pool, &store).await;
        tokio::time::sleep(BEFORE).await;
        let before = requests.stop().await;

        let requests = Requests::start(&pool, &store).await;
        let start = Instant::now();
        let batches = sweep(&store, rests).await;
        let total = start.elapsed();
        let during = requests.stop().await;

        println!("| times in milliseconds | number | median | p99 | p99.9 | longest |");
        println!("|---|---:|---:|---:|---:|---:|");
        print("requests before", before.clone());
        print("requests during the sweep", during.clone());
        for (part, batches) in batches.chunks(batches.len().div_ceil(4)).enumerate() {
            print(
                &format!("batches, quarter {} of the sweep", part + 1),
                batches.to_vec(),
            );
        }
        print("batches, all", batches.clone());
        let longest = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
        println!("\nthe sweep took {:.1} s", total.as_secs_f64());
        println!(
            "longest request over longest batch: {:.2}",
            longest(&during).as_secs_f64() / longest(&batches).as_secs_f64()
        );
        assert_eq!(
            count(&pool).await,
            [0, LIVE],
            "the expired are gone, the live are there"
        );
        println!("afterwards: 0 expired and {LIVE} live sessions");
    }
}

/// Batches until one is not full, as `DeleteExpired` says; how long each took.
async fn sweep(store: &PostgresStore, rests: bool) -> Vec<Duration> {
    let mut batches = Vec::new();
    loop {
        let start = Instant::now();
        let removed = store.delete_expired(BATCH).await.expect("the store");
        batches.push(start.elapsed());
        if removed < BATCH as u64 {
            return batches;
        }
        if rests {
            tokio::time::sleep(start.elapsed()).await;
        }
    }
}

/// Clients that load a live session, change it, and think.
struct Requests {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Vec<Duration>>>,
}

impl Requests {
    async fn start(pool: &PgPool, store: &PostgresStore) -> Self {
        let live = "SELECT id FROM tower_keep_sessions WHERE expires_at > $1";
        let live: Vec<Vec<u8>> = sqlx::query_scalar(live)
            .bind(millis_from_now(Duration::ZERO))
            .fetch_all(pool)
            .await
            .expect("ids");
        let stop = Arc::new(AtomicBool::new(false));
        let clients = live.chunks(live.len().div_ceil(CLIENTS)).map(|ids| {
            let ids = ids
                .iter()
                .map(|id| RecordId::from_bytes(id[..].try_into().expect("an id")));
            tokio::spawn(client(store.clone(), ids.collect(), Arc::clone(&stop)))
        });
        Self {
            clients: clients.collect(),
            stop,
        }
    }

    /// How long each load and each change took.
    async fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for client in self.clients {
            times.extend(client.await.expect("a client"));
        }
        times
    }
}

async fn client(store: PostgresStore, ids: Vec<RecordId>, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let id = fastrand::choice(&ids).expect("an id");
        let start = Instant::now();
        let mut record = store
            .load(id)
            .await
            .expect("the store")
            .expect("a live session");
        times.push(start.elapsed());
        let seen = record.version;
        record.version = Version {
            revision: seen.revision + 1,
            token: WriteToken::from_bytes(token_of(fastrand::i64(..))),
        };
        record.expires_at = Timestamp::from_millis(millis_from_now(IDLE));
        let start = Instant::now();
        let updated = store.update(id, &record, seen).await.expect("the store");
        times.push(start.elapsed());
        assert_eq!(updated, Updated::Done);
        tokio::time::sleep(THINKING).await;
    }
    times
}

/// Expired and live ones.
async fn count(pool: &PgPool) -> [usize; 2] {
    let now = millis_from_now(Duration::ZERO);
    let mut counts = [0; 2];
    for (condition, count) in ["<=", ">"].iter().zip(&mut counts) {
        let query =
            format!("SELECT count(*) FROM tower_keep_sessions WHERE expires_at {condition} $1");
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(query))
            .bind(now)
            .fetch_one(pool)
            .await
            .expect("a count");
        *count = usize::try_from(found).expect("a count");
    }
    counts
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "| {what} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

const EXPIRED: usize = 1_000_000;
const LIVE: usize = 100_000;
const BATCH: usize = 1000;
const CLIENTS: usize = 8;

/// With this the clients take about half of a machine with two processors, database included.
const THINKING: Duration = Duration::from_millis(10);

/// How long requests run alone.
const BEFORE: Duration = Duration::from_secs(20);

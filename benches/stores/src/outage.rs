//! A shared cache in front of PostgreSQL that hangs, or is killed, under load; beside the store alone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tower_keep::{
    Cached, CachedStore, PostgresStore, RecordCache, RecordId, RedisCache, SessionStore, TableName,
};
use tower_keep_servers::{Kind, Server};

use crate::{
    contender::{Contender, id_of},
    database::{CONNECTIONS, postgres_pool, postgres_server},
    keep::Keep,
};

pub async fn run() {
    let (postgres, redis) = (postgres_server().await, Server::start(Kind::Redis).await);
    let store = async |table: &str| {
        let pool = postgres_pool(&postgres.url(), CONNECTIONS, true).await;
        let table = TableName::parse(table).expect("a name");
        let store = PostgresStore::new(pool).with_table(table);
        store.migrate().await.expect("a table");
        store
    };
    let cache = RedisCache::open(&redis.url()).expect("an address");
    let cached = CachedStore::new(cache, store("cached").await);
    let contenders: [Arc<dyn Contender>; 2] = [
        Arc::new(Keep::new(store("alone").await, SESSIONS)),
        Arc::new(Keep::new(cached.clone(), SESSIONS)),
    ];
    for contender in &contenders {
        for number in 0..SESSIONS {
            contender.create(number).await;
        }
    }
    println!(
        "{CALLERS} callers, one write to {LOADS} reads; requests a second, medians of {ROUNDS} rounds of {TURN:?}. \
         Each request succeeds, or this ends here.\n"
    );
    println!("| the cache | store alone | store behind the cache | ratio of the rounds |");
    println!("|---|---:|---:|---:|");
    compare("is there", &contenders).await;

    let outage = under_load(&contenders[1], redis.pause());
    outage.await;
    compare("hangs", &contenders).await;
    under_load(&contenders[1], redis.resume()).await;
    check_return(&cached).await;

    under_load(&contenders[1], redis.kill9()).await;
    compare("is gone", &contenders).await;
    under_load(&contenders[1], redis.start_again()).await;
    check_return(&cached).await;
    compare("is back", &contenders).await;
}

async fn compare(cache: &str, contenders: &[Arc<dyn Contender>; 2]) {
    let mut speeds = [const { Vec::new() }; 2];
    for round in 0..ROUNDS {
        for number in 0..contenders.len() {
            let who = (round + number) % contenders.len();
            speeds[who].push(turn(&contenders[who], TURN).await);
        }
    }
    let [alone, behind] = &speeds;
    let ratios = behind
        .iter()
        .zip(alone)
        .map(|(behind, alone)| behind / alone);
    let (ratio, alone, behind) = (
        median(ratios),
        median(alone.iter().copied()),
        median(behind.iter().copied()),
    );
    println!("| {cache} | {alone:.0} | {behind:.0} | {ratio:.2} |");
}

/// Requests a second.
async fn turn(contender: &Arc<dyn Contender>, time: Duration) -> f64 {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let contender = Arc::clone(contender);
        callers.spawn(async move {
            // Nobody else has these.
            let mut numbers = (0..SESSIONS).skip(caller).step_by(CALLERS).cycle();
            let mut requests = 0;
            while began.elapsed() < time {
                let number = numbers.next().expect("a session");
                for _ in 0..LOADS {
                    contender.load(number).await;
                }
                contender.update(number).await;
                requests += LOADS + 1;
            }
            requests
        });
    }
    let requests: usize = callers.join_all().await.into_iter().sum();
    requests as f64 / began.elapsed().as_secs_f64()
}

/// Does it while requests run.
async fn under_load(contender: &Arc<dyn Contender>, change: impl Future<Output = ()>) {
    let change = async {
        // It comes in the midst of the turn.
        tokio::time::sleep(TURN / 4).await;
        change.await;
    };
    tokio::join!(turn(contender, TURN), change);
}

/// Waits until the cache serves, and looks whether anything in it is outdated.
async fn check_return(cached: &CachedStore<RedisCache, PostgresStore>) {
    let began = Instant::now();
    let mut hits = 0;
    while hits < SESSIONS {
        assert!(began.elapsed() < PATIENCE, "the cache does not serve");
        hits = 0;
        for number in 0..SESSIONS {
            let id = RecordId::from_bytes(id_of(number));
            let present = cached.store().load(&id).await.expect("the store");
            let read = cached.load(&id).await.expect("the store");
            assert_eq!(read, present, "outdated");
            if let Ok(Cached::Hit(copy)) = cached.cache().get(&id).await {
                assert_eq!(Some(copy), present, "an outdated copy");
                hits += 1;
            }
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const CALLERS: usize = 16;
const SESSIONS: usize = 256;
const LOADS: usize = 9;
const ROUNDS: usize = 7;
const TURN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

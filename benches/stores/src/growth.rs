//! What a load costs in tables of different sizes.

use std::time::Instant;

use sqlx::AssertSqlSafe;
use tempfile::TempDir;
use tower_keep::{MySqlStore, PostgresStore, RecordId, SessionStore, SqliteStore, TableName};

use crate::{
    contender::PAYLOAD_LEN,
    database::{
        CONNECTIONS, mariadb_pool, mariadb_server, postgres_pool, postgres_server, sqlite_file_pool,
    },
    fill, is_wanted,
    measure::{median, micros},
};

pub async fn run() {
    println!(
        "microseconds a load of a random session by one caller, the pool's tests of connections left out\n"
    );
    println!(
        "| database | rows | a load | to that of {} rows |",
        SIZES[0]
    );
    println!("|---|---:|---:|---:|");
    if is_wanted("postgres") {
        postgres().await;
    }
    if is_wanted("mariadb") {
        mariadb().await;
    }
    if is_wanted("sqlite") {
        sqlite().await;
    }
}

/// The same for each database, whose pools and stores have nothing in common by type.
macro_rules! growth {
    ($name:literal, $pool:expr, $store:ident, $random:literal, $fill:expr) => {{
        let pool = $pool;
        let mut tables: Vec<Table> = Vec::new();
        for size in SIZES {
            let table = format!("sessions_{size}");
            let store =
                $store::new(pool.clone()).with_table(TableName::parse(&table).expect("a name"));
            store.migrate().await.expect("a table");
            $fill(&pool, &table, size).await;
            let some = format!(
                "SELECT id FROM {table} ORDER BY {} LIMIT {IDS_MAX}",
                $random
            );
            let ids = sqlx::query_scalar(AssertSqlSafe(some))
                .fetch_all(&pool)
                .await;
            tables.push(Table {
                store: Box::new(store),
                ids: ids.expect("ids").iter().map(id).collect(),
            });
        }
        print($name, &tables).await;
    }};
}

async fn postgres() {
    let server = postgres_server().await;
    let pool = postgres_pool(&server.url(), CONNECTIONS, false).await;
    let fill =
        async |pool: &_, table: &str, size: usize| fill::postgres(pool, table, size, 1).await;
    growth!("PostgreSQL", pool, PostgresStore, "random()", fill);
}

async fn mariadb() {
    let server = mariadb_server().await;
    let pool = mariadb_pool(&server.url(), CONNECTIONS, false).await;
    growth!("MariaDB", pool, MySqlStore, "rand()", fill::mariadb);
}

async fn sqlite() {
    let folder = TempDir::new().expect("a folder");
    let pool = sqlite_file_pool(&folder).await;
    growth!("SQLite, file", pool, SqliteStore, "random()", fill::sqlite);
}

struct Table {
    store: Box<dyn SessionStore>,
    ids: Vec<RecordId>,
}

/// The tables take turns.
async fn print(database: &str, tables: &[Table]) {
    let mut times = vec![Vec::new(); tables.len()];
    for round in 0..=ROUNDS {
        for (table, times) in tables.iter().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..LOADS {
                let id = fastrand::choice(&table.ids).expect("an id");
                let record = table
                    .store
                    .load(id)
                    .await
                    .expect("the store")
                    .expect("a record");
                assert_eq!(record.payload.len(), PAYLOAD_LEN);
            }
            if round > 0 {
                times.push(micros(start.elapsed()) / f64::from(LOADS));
            }
        }
    }
    for (size, own) in SIZES.iter().zip(&times) {
        let ratio = median(
            own.iter()
                .zip(&times[0])
                .map(|(own, first)| own / first)
                .collect(),
        );
        println!(
            "| {database} | {size} | {:.1} | {ratio:.2} |",
            median(own.clone())
        );
    }
}

fn id(bytes: &Vec<u8>) -> RecordId {
    RecordId::from_bytes(bytes[..].try_into().expect("an id"))
}

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];

/// Of so many, most are not in the processor's cache.
const IDS_MAX: usize = 20_000;

const ROUNDS: usize = 100;

const LOADS: u32 = 300;

//! The databases, and who keeps sessions in them.

use std::sync::Arc;

use sqlx::{
    MySqlPool, PgPool, SqlitePool,
    mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tempfile::TempDir;
use tower_keep::{MySqlStore, PostgresStore, SqliteStore, TableName};
use tower_keep_servers::{Kind, Server};
use tower_sessions_sqlx_store::{self as peer, sqlx as peer_sqlx};

use crate::{
    contender::Contenders, keep::Keep, measure::SESSIONS, raw::Raw, tower_sessions::TowerSessions,
};

/// As many as sqlx opens unless it is told otherwise.
pub const CONNECTIONS: u32 = 10;

/// The tables fit in memory, as they do where sessions are read all day.
const POSTGRES_ARGUMENTS: [&str; 4] = ["-c", "shared_buffers=2GB", "-c", "max_wal_size=8GB"];
const MARIADB_ARGUMENTS: [&str; 2] = ["--innodb-buffer-pool-size=2G", "--innodb-log-file-size=1G"];

const FLOOR: &str = "raw sqlx 0.9";
const OURS: &str = "tower-keep";
const PEER: &str = "tower-sessions-sqlx-store 0.15";

pub async fn postgres_server() -> Server {
    Server::start_with(Kind::Postgres, &POSTGRES_ARGUMENTS).await
}

pub async fn mariadb_server() -> Server {
    Server::start_with(Kind::MariaDb, &MARIADB_ARGUMENTS).await
}

pub async fn postgres_pool(url: &str, connections: u32, test_before_acquire: bool) -> PgPool {
    let options = PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(test_before_acquire);
    options.connect(url).await.expect("PostgreSQL")
}

pub async fn mariadb_pool(url: &str, connections: u32, test_before_acquire: bool) -> MySqlPool {
    let options = MySqlPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(test_before_acquire);
    options.connect(url).await.expect("MariaDB")
}

/// A database in a file of that folder. No commit waits for the disk: that is the same for everyone, and would hide
/// what is compared.
pub async fn sqlite_file_pool(folder: &TempDir) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("sessions.sqlite"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off);
    let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS);
    pool.connect_with(options).await.expect("SQLite")
}

pub async fn postgres(url: &str, connections: u32, test_before_acquire: bool) -> Contenders {
    let pool = postgres_pool(url, connections, test_before_acquire).await;
    let table = TableName::parse("floor").expect("a name");
    let floor = PostgresStore::new(pool.clone()).with_table(table);
    let ours = PostgresStore::new(pool.clone());
    floor.migrate().await.expect("a table");
    ours.migrate().await.expect("a table");
    let peer_pool = peer_sqlx::postgres::PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(test_before_acquire);
    let peer = peer::PostgresStore::new(peer_pool.connect(url).await.expect("PostgreSQL"));
    peer.migrate().await.expect("a table");
    vec![
        (
            FLOOR,
            Arc::new(Raw::new(pool, "floor", SESSIONS, |n| format!("${n}"))),
        ),
        (OURS, Arc::new(Keep::new(ours, SESSIONS))),
        (PEER, Arc::new(TowerSessions(peer))),
    ]
}

pub async fn mariadb(url: &str, connections: u32, test_before_acquire: bool) -> Contenders {
    let pool = mariadb_pool(url, connections, test_before_acquire).await;
    let table = TableName::parse("floor").expect("a name");
    let floor = MySqlStore::new(pool.clone()).with_table(table);
    let ours = MySqlStore::new(pool.clone());
    floor.migrate().await.expect("a table");
    ours.migrate().await.expect("a table");
    let peer_pool = peer_sqlx::mysql::MySqlPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(test_before_acquire);
    let peer = peer::MySqlStore::new(peer_pool.connect(url).await.expect("MariaDB"));
    peer.migrate().await.expect("a table");
    vec![
        (
            FLOOR,
            Arc::new(Raw::new(pool, "floor", SESSIONS, |_| "?".to_owned())),
        ),
        (OURS, Arc::new(Keep::new(ours, SESSIONS))),
        (PEER, Arc::new(TowerSessions(peer))),
    ]
}

pub async fn sqlite_file(folder: &TempDir) -> Contenders {
    use peer_sqlx::sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
    };
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("peer.sqlite"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off);
    let peer_pool = SqlitePoolOptions::new().max_connections(CONNECTIONS);
    let peer_pool = peer_pool.connect_with(options).await.expect("SQLite");
    sqlite(sqlite_file_pool(folder).await, peer_pool).await
}

/// One connection each, as each connection is a database of its own.
pub async fn sqlite_memory() -> Contenders {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false);
    let pool = pool.connect("sqlite::memory:").await.expect("SQLite");
    let peer_pool = peer_sqlx::sqlite::SqlitePoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false);
    let peer_pool = peer_pool.connect("sqlite::memory:").await.expect("SQLite");
    sqlite(pool, peer_pool).await
}

async fn sqlite(pool: SqlitePool, peer_pool: peer_sqlx::SqlitePool) -> Contenders {
    let table = TableName::parse("floor").expect("a name");
    let floor = SqliteStore::new(pool.clone()).with_table(table);
    let ours = SqliteStore::new(pool.clone());
    floor.migrate().await.expect("a table");
    ours.migrate().await.expect("a table");
    let peer = peer::SqliteStore::new(peer_pool);
    peer.migrate().await.expect("a table");
    vec![
        (
            FLOOR,
            Arc::new(Raw::new(pool, "floor", SESSIONS, |_| "?".to_owned())),
        ),
        (OURS, Arc::new(Keep::new(ours, SESSIONS))),
        (PEER, Arc::new(TowerSessions(peer))),
    ]
}

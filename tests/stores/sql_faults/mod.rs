//! The stores in databases, when the database is killed, hangs, is cut off, is locked or is full.
//!
//! What is promised on PostgreSQL and on MariaDB is one promise, and so it is one test.

mod cuts;
mod modes;
mod outages;
mod pool_of_one;
mod sqlite;

use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{Database, pool::PoolOptions};
use tower_keep::{
    MySqlStore, PostgresStore, Record, RecordId, ScanSessions, TableName, UserId, UserSessions,
};
use tower_keep_servers::Kind;

use crate::{
    file_faults::record,
    support::{PATIENCE, eventually},
};

/// Runs functions that take a [`Kind`] as tests of each server.
macro_rules! on_each_server {
    ($($test:ident)*) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test(tower_keep_servers::Kind::Postgres).await;
                }
            )*
        }

        mod mariadb {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test(tower_keep_servers::Kind::MariaDb).await;
                }
            )*
        }
    };
}
pub(crate) use on_each_server;

/// How a pool is made.
#[derive(Clone, Copy)]
struct Pool {
    connections: u32,
    test_before_acquire: bool,
    acquire_timeout: Duration,
}

impl Pool {
    /// As the documentation of the stores advises.
    const ADVISED: Self = Self {
        connections: 8,
        test_before_acquire: true,
        acquire_timeout: Duration::from_secs(1),
    };

    /// The same for what has to succeed.
    const PATIENT: Self = Self {
        acquire_timeout: PATIENCE,
        ..Self::ADVISED
    };

    fn options<DB: Database>(self) -> PoolOptions<DB> {
        PoolOptions::new()
            .max_connections(self.connections)
            .test_before_acquire(self.test_before_acquire)
            .acquire_timeout(self.acquire_timeout)
    }
}

/// What each of the stores can do.
trait AnyStore: UserSessions + ScanSessions {}

impl<S: UserSessions + ScanSessions> AnyStore for S {}

/// A store and what is to be known of its pool.
#[derive(Clone)]
struct Opened {
    store: Arc<dyn AnyStore>,
    size: Arc<dyn Fn() -> Size + Send + Sync>,
}

/// How many connections a pool has, and how many of them nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    connections: u32,
    idle: usize,
}

impl Opened {
    /// Makes the table, too.
    async fn new(kind: Kind, url: &str, table: &TableName, pool: Pool) -> Self {
        if kind == Kind::Postgres {
            let (store, opened) = Self::postgres(url, table, pool);
            store.migrate().await.unwrap();
            opened
        } else {
            let (store, opened) = Self::mariadb(url, table, pool);
            store.migrate().await.unwrap();
            opened
        }
    }

    /// Where the table is already. Does not connect.
    fn lazy(kind: Kind, url: &str, table: &TableName, pool: Pool) -> Self {
        match kind == Kind::Postgres {
            true => Self::postgres(url, table, pool).1,
            false => Self::mariadb(url, table, pool).1,
        }
    }

    fn postgres(url: &str, table: &TableName, pool: Pool) -> (PostgresStore, Self) {
        let pool = pool.options().connect_lazy(url).unwrap();
        let store = PostgresStore::new(pool.clone()).with_table(table.clone());
        (store.clone(), Self::over(pool, store))
    }

    fn mariadb(url: &str, table: &TableName, pool: Pool) -> (MySqlStore, Self) {
        let pool = pool.options().connect_lazy(url).unwrap();
        let store = MySqlStore::new(pool.clone()).with_table(table.clone());
        (store.clone(), Self::over(pool, store))
    }

    fn over<DB: Database>(pool: sqlx::Pool<DB>, store: impl AnyStore + 'static) -> Self {
        Self {
            store: Arc::new(store),
            size: Arc::new(move || Size {
                connections: pool.size(),
                idle: pool.num_idle(),
            }),
        }
    }

    /// How many live sessions there are.
    async fn count(&self) -> usize {
        let page = self.store.scan(None, 10_000).await.unwrap();
        page.sessions.len()
    }

    fn size(&self) -> Size {
        (self.size)()
    }

    /// Waits until the pool has taken all its connections back.
    async fn idle(&self) -> Size {
        eventually("an idle pool", || {
            let size = self.size();
            future::ready((size.idle == size.connections as usize).then_some(size))
        })
        .await
    }
}

/// An id that no other has.
fn new_id() -> RecordId {
    let mut bytes = [0; RecordId::LEN];
    bytes[..8].copy_from_slice(&next_number().to_be_bytes());
    RecordId::from_bytes(bytes)
}

/// A user that no other test has.
fn new_user() -> UserId {
    UserId::new(format!("user {:06}", next_number())).unwrap()
}

fn next_number() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Relaxed)
}

/// The state of a session of that user after so many writes.
fn record_of(user: &UserId, revision: u64, payload: &[u8]) -> Record {
    Record {
        user: Some(user.clone()),
        ..record(revision, payload)
    }
}

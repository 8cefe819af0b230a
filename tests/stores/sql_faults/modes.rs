//! The contract on servers whose administrators have other habits.

use sqlx::{
    Executor,
    mysql::MySqlPoolOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::task::JoinSet;
use tower_keep::{
    MySqlStore, PostgresStore, RecordId, SessionStore, UserId, UserSessions,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};
use tower_keep_servers::{Kind, Server};

use crate::{
    patient::Patient,
    support::{new_table, patiently},
};

/// A store in a table of its own, each of whose connections begins with that statement.
async fn mariadb(first: &'static str) -> MySqlStore {
    let url = Server::shared(Kind::MariaDb).await.url();
    let pool = MySqlPoolOptions::new()
        .max_connections(5)
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(first).await.map(drop) })
        })
        .connect(&url)
        .await
        .unwrap();
    let store = MySqlStore::new(pool).with_table(new_table());
    store.migrate().await.unwrap();
    store
}

/// A store in a table of its own, where all transactions are of that kind.
async fn postgres(isolation: &str) -> PostgresStore {
    let url = Server::shared(Kind::Postgres).await.url();
    let options: PgConnectOptions = url.parse().unwrap();
    let options = options.options([("default_transaction_isolation", isolation)]);
    let pool = PgPoolOptions::new().max_connections(5);
    let pool = pool.connect_with(options).await.unwrap();
    let store = PostgresStore::new(pool).with_table(new_table());
    store.migrate().await.unwrap();
    store
}

mod mariadb_with_an_empty_sql_mode {
    use super::*;

    const MODE: &str = "SET SESSION sql_mode = ''";

    conformance_tests!(Patient(mariadb(MODE).await));
    user_sessions_tests!(Patient(mariadb(MODE).await));
    delete_expired_tests!(Patient(mariadb(MODE).await));
    scan_sessions_tests!(Patient(mariadb(MODE).await));

    #[tokio::test]
    async fn the_mode_is_empty() {
        let url = Server::shared(Kind::MariaDb).await.url();
        let pool = MySqlPoolOptions::new()
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(MODE).await.map(drop) })
            })
            .connect(&url)
            .await
            .unwrap();
        let mode = sqlx::query_scalar::<_, String>("SELECT @@sql_mode");
        assert_eq!(mode.fetch_one(&pool).await.unwrap(), "");
    }
}

mod mariadb_read_committed {
    use super::*;

    const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

    conformance_tests!(Patient(mariadb(ISOLATION).await));
    user_sessions_tests!(Patient(mariadb(ISOLATION).await));
}

mod mariadb_serializable {
    use super::*;

    /// Ending all sessions of a user sets a level for one transaction. Were it dropped before that
    /// one, the next on the connection would be the application's.
    #[tokio::test]
    async fn no_connection_that_was_given_another_level_goes_back_to_the_application() {
        let url = Server::shared(Kind::MariaDb).await.url();
        let pool = MySqlPoolOptions::new().max_connections(1).connect(&url);
        let pool = pool.await.unwrap();
        let store = MySqlStore::new(pool.clone()).with_table(new_table());
        store.migrate().await.unwrap();
        let connection = || sqlx::query_scalar::<_, u64>("SELECT CONNECTION_ID()");
        let before = connection().fetch_one(&pool).await.unwrap();
        store
            .load(&RecordId::from_bytes([1; RecordId::LEN]))
            .await
            .unwrap();
        assert_eq!(connection().fetch_one(&pool).await.unwrap(), before);
        let ada = UserId::new("ada").unwrap();
        assert_eq!(store.delete_all_of(&ada, None).await.unwrap(), []);
        assert_ne!(connection().fetch_one(&pool).await.unwrap(), before);
    }

    const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE";

    conformance_tests!(Patient(mariadb(ISOLATION).await));
    user_sessions_tests!(Patient(mariadb(ISOLATION).await));
}

mod postgres_repeatable_read {
    use super::*;

    /// Each of them began its transaction before it waited for the one that makes the table.
    #[tokio::test(flavor = "multi_thread")]
    async fn nodes_that_start_at_once_all_find_their_table() {
        for _ in 0..5 {
            let table = new_table();
            let mut nodes = JoinSet::new();
            for _ in 0..8 {
                let table = table.clone();
                nodes.spawn(async move {
                    let store = postgres("repeatable read").await.with_table(table);
                    patiently(|| store.migrate()).await
                });
            }
            for migrated in nodes.join_all().await {
                migrated.unwrap();
            }
        }
    }

    conformance_tests!(Patient(postgres("repeatable read").await));
    user_sessions_tests!(Patient(postgres("repeatable read").await));
}

/// As it does on a restart in good order, or to those that idle for too long.
#[tokio::test]
async fn postgres_that_has_ended_idle_connections_fails_no_load() {
    let name = new_table().to_string();
    let url = Server::shared(Kind::Postgres).await.url();
    let options: PgConnectOptions = url.parse().unwrap();
    let pool = PgPoolOptions::new()
        .min_connections(4)
        .max_connections(4)
        .test_before_acquire(false);
    let pool = pool.connect_with(options.clone().application_name(&name));
    let store = PostgresStore::new(pool.await.unwrap()).with_table(new_table());
    store.migrate().await.unwrap();
    let id = RecordId::from_bytes([1; RecordId::LEN]);
    assert_eq!(store.load(&id).await.unwrap(), None);

    let admin = PgPoolOptions::new().connect_with(options).await.unwrap();
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE application_name = $1";
    let left = || sqlx::query_scalar::<_, i64>(ended).bind(&name);
    assert!(left().fetch_one(&admin).await.unwrap() > 1);
    while left().fetch_one(&admin).await.unwrap() > 0 {}
    for _ in 0..8 {
        assert_eq!(store.load(&id).await.unwrap(), None);
    }
}

mod postgres_serializable {
    use super::*;

    conformance_tests!(Patient(postgres("serializable").await));
    user_sessions_tests!(Patient(postgres("serializable").await));
    delete_expired_tests!(Patient(postgres("serializable").await));
    scan_sessions_tests!(Patient(postgres("serializable").await));
}

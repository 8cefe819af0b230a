//! The contract on servers whose administrators have other habits.

use sqlx::{
    Executor,
    mysql::MySqlPoolOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tower_keep::{
    MySqlStore, PostgresStore,
    testing::{conformance_tests, delete_expired_tests, scan_sessions_tests, user_sessions_tests},
};
use tower_keep_servers::{Kind, Server};

use crate::support::new_table;

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

    conformance_tests!(mariadb(MODE).await);
    user_sessions_tests!(mariadb(MODE).await);
    delete_expired_tests!(mariadb(MODE).await);
    scan_sessions_tests!(mariadb(MODE).await);

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

    conformance_tests!(mariadb(ISOLATION).await);
    user_sessions_tests!(mariadb(ISOLATION).await);
}

mod mariadb_serializable {
    use super::*;

    const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE";

    conformance_tests!(mariadb(ISOLATION).await);
    user_sessions_tests!(mariadb(ISOLATION).await);
}

mod postgres_repeatable_read {
    use super::*;

    conformance_tests!(postgres("repeatable read").await);
    user_sessions_tests!(postgres("repeatable read").await);
}

mod postgres_serializable {
    use super::*;

    conformance_tests!(postgres("serializable").await);
    user_sessions_tests!(postgres("serializable").await);
    delete_expired_tests!(postgres("serializable").await);
    scan_sessions_tests!(postgres("serializable").await);
}

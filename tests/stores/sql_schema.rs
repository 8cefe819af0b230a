//! How the tables come to be, and what is said when something is wrong with them.

use std::{error::Error, fmt::Write};

use sqlx::{MySqlPool, PgPool};
use tower_keep::{
    MySqlStore, PostgresStore, SqliteStore, StoreError, StoreErrorKind, TableName, UserId,
};
use tower_keep_servers::{Kind, Server};

use crate::{
    sql_places::{
        AnyPool, HOUR, Place, Which, create, new_id, next, now, on_each_database, record,
    },
    support::new_table,
};

on_each_database!(
    migrating_again_changes_nothing,
    sixteen_nodes_that_start_at_once_all_find_their_table,
    a_table_may_be_elsewhere_than_by_default,
    the_schema_run_by_hand_is_what_migrate_makes,
    a_newer_schema_is_refused,
    two_tables_in_one_database_see_nothing_of_each_other,
    a_missing_table_is_an_error_that_names_it,
    an_error_that_quotes_a_row_does_not_reach_the_log,
);

/// The names of our tables and indexes, and of those that sqlx makes for migrations.
async fn objects(place: &Place) -> Vec<String> {
    let name = place.table.name();
    let query = match place.which {
        Which::Postgres => format!(
            "SELECT relname || ':' || coalesce(pg_get_indexdef(oid), (SELECT string_agg(attname || \
             ' ' || atttypid::regtype || attnotnull || attcollation, ',' ORDER BY attnum) \
             FROM pg_attribute WHERE attrelid = pg_class.oid AND attnum > 0)) FROM pg_class \
             WHERE relname LIKE '{name}%' OR relname = '_sqlx_migrations' ORDER BY 1"
        ),
        Which::MySql => format!(
            "SELECT concat_ws(' ', table_name, column_name, column_type, is_nullable, column_key) \
             FROM information_schema.columns WHERE table_name LIKE '{name}%' \
             OR table_name = '_sqlx_migrations' ORDER BY table_schema, 1"
        ),
        Which::Sqlite => format!(
            "SELECT name || coalesce(sql, '') FROM sqlite_master \
             WHERE tbl_name LIKE '{name}%' OR name LIKE '%sqlx%' ORDER BY 1"
        ),
    };
    let objects = place.pool.column(&query).await;
    // The names of two tables differ, and nothing else.
    objects
        .iter()
        .map(|object| object.replace(name, "sessions"))
        .collect()
}

async fn migrating_again_changes_nothing(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let written = record(now(), HOUR, Some("ada"));
    let id = create(&*store, &written).await;
    let before = objects(&place).await;
    store.migrate().await.unwrap();
    assert_eq!(objects(&place).await, before);
    assert_eq!(store.load(&id).await.unwrap(), Some(written));
    assert!(before.len() >= 4, "{before:?}");
    assert!(
        !before.iter().any(|object| object.contains("sqlx")),
        "{before:?}"
    );
}

async fn sixteen_nodes_that_start_at_once_all_find_their_table(which: Which) {
    for round in 0..5 {
        let place = Place::empty(which).await;
        let mut nodes = Vec::new();
        for _ in 0..16 {
            let store = place.new_pool(1).await.store(&place.table);
            nodes.push(tokio::spawn(async move {
                store.migrate().await?;
                store.load(&new_id()).await
            }));
        }
        for node in nodes {
            let loaded = node.await.unwrap();
            assert_eq!(loaded.unwrap(), None, "round {round}");
        }
    }
}

async fn a_table_may_be_elsewhere_than_by_default(which: Which) {
    let mut place = Place::empty(which).await;
    let elsewhere = format!("elsewhere_{}", place.table.name());
    match which {
        Which::Postgres => {}
        Which::MySql => {
            place
                .pool
                .run(&format!("CREATE DATABASE {elsewhere}"))
                .await
        }
        Which::Sqlite => {
            place.pool = place.new_pool(1).await;
            place
                .pool
                .run(&format!("ATTACH ':memory:' AS {elsewhere}"))
                .await;
        }
    }
    place.table = TableName::parse(&format!("{elsewhere}.{}", place.table.name())).unwrap();
    let store = place.store();
    for _ in 0..2 {
        store.migrate().await.unwrap();
    }
    let written = record(now(), HOUR, Some("ada"));
    let id = create(&*store, &written).await;
    assert_eq!(store.load(&id).await.unwrap(), Some(written));
    let rows = format!("SELECT count(*) FROM {elsewhere}.{}", place.table.name());
    assert_eq!(place.pool.column(&rows).await, ["1"]);
    // SQLite looks for a table without a schema in all databases that are attached.
    if which == Which::Sqlite {
        return;
    }
    let by_default = TableName::parse(place.table.name()).unwrap();
    let error = place.pool.store(&by_default).load(&id).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other);
}

fn schema(which: Which, table: &TableName) -> String {
    match which {
        Which::Postgres => PostgresStore::schema(table),
        Which::MySql => MySqlStore::schema(table),
        Which::Sqlite => SqliteStore::schema(table),
    }
}

async fn the_schema_run_by_hand_is_what_migrate_makes(which: Which) {
    let by_migrate = Place::new(which).await;
    let by_hand = Place::empty(which).await;
    by_hand.pool.run(&schema(which, &by_hand.table)).await;
    let made = objects(&by_hand).await;
    assert_eq!(made, objects(&by_migrate).await);
    by_hand.store().migrate().await.unwrap();
    assert_eq!(objects(&by_hand).await, made);
    create(&*by_hand.store(), &record(now(), HOUR, None)).await;
}

async fn a_newer_schema_is_refused(which: Which) {
    let place = Place::new(which).await;
    let newer = format!("INSERT INTO {}_schema VALUES (2)", place.table);
    place.pool.run(&newer).await;
    let error = place.store().migrate().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported);
    assert!(chain(&error).contains("version 2"), "{error:?}");
}

async fn two_tables_in_one_database_see_nothing_of_each_other(which: Which) {
    let place = Place::new(which).await;
    let (one, other) = (place.store(), place.pool.store(&new_table()));
    other.migrate().await.unwrap();
    let ada = UserId::new("ada").unwrap();
    let written = record(now(), HOUR, Some("ada"));
    let id = create(&*one, &written).await;
    assert_eq!(other.load(&id).await.unwrap(), None);
    assert!(!other.delete(&id).await.unwrap());
    assert_eq!(other.delete_all_of(&ada, None).await.unwrap(), []);
    assert!(other.sessions_of(&ada).await.unwrap().is_empty());
    assert!(other.scan(None, 10).await.unwrap().sessions.is_empty());
    assert_eq!(one.load(&id).await.unwrap(), Some(written));
}

/// All that a log can show of an error.
fn chain(error: &StoreError) -> String {
    let mut shown = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        write!(shown, " {cause} {cause:?}").unwrap();
        source = cause.source();
    }
    shown
}

async fn a_missing_table_is_an_error_that_names_it(which: Which) {
    let place = Place::empty(which).await;
    let store = place.store();
    let record = record(now(), HOUR, Some("lovelace"));
    let (id, seen) = (new_id(), record.version);
    let user = record.user.clone().unwrap();
    let next = next(&record);
    for error in [
        store.load(&id).await.unwrap_err(),
        store.create(&id, &record).await.unwrap_err(),
        store.update(&id, &next, seen).await.unwrap_err(),
        store.rotate(&id, &new_id(), &next, seen).await.unwrap_err(),
        store.touch(&id, record.expires_at, seen).await.unwrap_err(),
        store.delete(&id).await.unwrap_err(),
        store.sessions_of(&user).await.unwrap_err(),
        store.delete_all_of(&user, None).await.unwrap_err(),
        store.delete_expired(10).await.unwrap_err(),
        store.scan(None, 10).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Other, "{error:?}");
        let shown = chain(&error);
        assert!(shown.contains(place.table.name()), "{shown}");
        assert!(
            !shown.contains(&id.to_hex()[..16]) && !shown.contains("lovelace"),
            "{shown}"
        );
    }
}

/// A constraint and a trigger that the application has put on the table.
async fn an_error_that_quotes_a_row_does_not_reach_the_log(which: Which) {
    let place = Place::new(which).await;
    let (table, name) = (&place.table, place.table.name());
    let traps: &[String] = &match which {
        Which::Postgres => vec![
            format!("ALTER TABLE {table} ADD CONSTRAINT trap CHECK (user_id IS NULL)"),
            format!("ALTER TABLE {table} DROP CONSTRAINT trap"),
            format!(
                "CREATE FUNCTION {name}_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE \
                 'bad row %', NEW USING ERRCODE = '23514'; END $$; CREATE TRIGGER trap \
                 BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {name}_f()"
            ),
            format!(
                "CREATE OR REPLACE FUNCTION {name}_f() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE 'bad row %', NEW; END $$"
            ),
        ],
        Which::MySql => vec![
            format!("ALTER TABLE {table} ADD CONSTRAINT trap CHECK (user_id IS NULL)"),
            format!("ALTER TABLE {table} DROP CONSTRAINT trap"),
            format!(
                "CREATE TRIGGER {name}_t BEFORE INSERT ON {table} FOR EACH ROW BEGIN DECLARE m \
                 VARCHAR(120); SET m = concat('bad row ', NEW.user_id, NEW.payload); \
                 SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = m; END"
            ),
        ],
        Which::Sqlite => vec![format!(
            "CREATE TRIGGER trap BEFORE INSERT ON {table} BEGIN \
             SELECT RAISE(ABORT, 'bad row ' || NEW.user_id || NEW.payload); END"
        )],
    };
    for (number, trap) in traps.iter().enumerate() {
        place.pool.run(trap).await;
        if trap.contains("DROP") {
            continue;
        }
        let record = record(now(), HOUR, Some("lovelace"));
        let id = new_id();
        let error = place.store().create(&id, &record).await.unwrap_err();
        let shown = chain(&error);
        for secret in ["lovelace", "payload", "7061796c6f6164", &id.to_hex()[..16]] {
            assert!(!shown.contains(secret), "{number}, {trap}: {shown}");
        }
    }
}

mod rights {
    use super::*;

    #[tokio::test]
    async fn postgres_needs_none_to_create_when_everything_is_in_place() {
        let place = Place::new(Which::Postgres).await;
        let (table, role) = (&place.table, format!("role_{}", place.table.name()));
        let grants = format!(
            "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}; \
             GRANT SELECT ON {table}_schema TO {role}; \
             REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        );
        place.pool.run(&grants).await;
        let url = Server::shared(Kind::Postgres).await.url();
        let url = url.replace("//postgres@", &format!("//{role}@"));
        works_without_create(
            AnyPool::Postgres(PgPool::connect(&url).await.unwrap()),
            &place,
        )
        .await;
    }

    #[tokio::test]
    async fn mysql_needs_none_to_create_when_everything_is_in_place() {
        let mut place = Place::empty(Which::MySql).await;
        let role = format!("role_{}", place.table.name());
        // Everybody may create tables in `test`, by MariaDB's own default.
        place.pool.run(&format!("CREATE DATABASE of_{role}")).await;
        let name = place.table.name();
        place.table = TableName::parse(&format!("of_{role}.{name}")).unwrap();
        place.store().migrate().await.unwrap();
        let table = &place.table;
        let grants = format!(
            "CREATE USER {role}@'%'; GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}@'%'; \
             GRANT SELECT ON {table}_schema TO {role}@'%'"
        );
        place.pool.run(&grants).await;
        let url = Server::shared(Kind::MariaDb).await.url();
        let url = url.replace("//root@", &format!("//{role}@"));
        works_without_create(
            AnyPool::MySql(MySqlPool::connect(&url).await.unwrap()),
            &place,
        )
        .await;
    }

    async fn works_without_create(pool: AnyPool, place: &Place) {
        let store = pool.store(&place.table);
        store.migrate().await.unwrap();
        let id = create(&*store, &record(now(), HOUR, None)).await;
        assert!(store.delete(&id).await.unwrap());
        let other = format!("{}_2", place.table);
        let other = TableName::parse(&other).unwrap();
        let error = pool.store(&other).migrate().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Other, "{error:?}");
    }

    #[tokio::test]
    async fn a_wrong_password_is_not_shown() {
        let place = Place::new(Which::MySql).await;
        let role = format!("role_{}", place.table.name());
        place
            .pool
            .run(&format!("CREATE USER {role}@'%' IDENTIFIED BY 'right'"))
            .await;
        let url = Server::shared(Kind::MariaDb).await.url();
        let url = url.replace("//root@", &format!("//{role}:hunter22@"));
        let pool = AnyPool::MySql(MySqlPool::connect_lazy(&url).unwrap());
        let error = pool.store(&place.table).load(&new_id()).await.unwrap_err();
        assert!(!chain(&error).contains("hunter22"), "{error:?}");
        assert!(!format!("{:?}", pool.store(&place.table)).contains("hunter22"));
    }
}

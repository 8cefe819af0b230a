//! The triggers that tell: how they come to be, and what happens without them.

use std::error::Error;

use sqlx::{PgPool, postgres::PgPoolOptions};
use tower_keep::{DeleteExpired, PostgresStore, SessionStore, StoreErrorKind, TableName};
use tower_keep_servers::{Kind, Server};

use super::{Place, bring, is_let_go_of, is_off};
use crate::support::new_table;

async fn without_triggers() -> Place {
    let url = Server::shared(Kind::Postgres).await.url();
    Place::without_triggers(url, new_table()).await
}

async fn triggers(place: &Place) -> i64 {
    let name = place.table.name();
    let count = "SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid";
    let query = format!("{count} WHERE c.relname = '{name}' AND t.tgenabled = 'A'");
    place.number(&query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_triggers_or_without_a_table_there_is_no_cache_and_an_error_that_says_so() {
    let place = without_triggers().await;
    let error = place.node().near_cache().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other);
    let why = error.source().unwrap().to_string();
    assert!(why.contains(place.table.name()), "{why}");
    assert!(why.contains("`migrate_notifications`"), "{why}");

    let nowhere = place.node().with_table(new_table());
    for error in [
        nowhere.near_cache().await.unwrap_err(),
        nowhere.migrate_notifications().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Other);
        let why = error.source().unwrap().to_string();
        assert!(why.contains("`migrate`"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_there_is_no_cache_and_an_error_that_may_pass() {
    let pool = PgPool::connect_lazy("postgres://app@127.0.0.1:1/app").unwrap();
    let error = PostgresStore::new(pool).near_cache().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_nodes_may_make_the_triggers_at_once_and_again() {
    for _ in 0..4 {
        let place = without_triggers().await;
        let mut nodes = Vec::new();
        for _ in 0..8 {
            let node = place.node();
            nodes.push(tokio::spawn(async move {
                node.migrate_notifications().await?;
                node.near_cache().await
            }));
        }
        for node in nodes {
            let cache = node.await.unwrap().unwrap();
            place.all_told(&cache).await;
        }
        assert_eq!(triggers(&place).await, 2);
        place.node().migrate_notifications().await.unwrap();
        assert_eq!(triggers(&place).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_again_leaves_the_triggers_alone() {
    let place = Place::new().await;
    let cache = place.cache().await;
    place.node().migrate().await.unwrap();
    place.run(&PostgresStore::schema(&place.table)).await;
    assert_eq!(triggers(&place).await, 2);
    place.all_told(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_triggers_may_be_made_by_hand() {
    let place = without_triggers().await;
    let schema = PostgresStore::notification_schema(&place.table);
    place.run(&schema).await;
    let cache = place.cache().await;
    place.run(&schema).await;
    place.all_told(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_may_have_a_schema_and_the_longest_and_oddest_of_names() {
    let url = Server::shared(Kind::Postgres).await.url();
    let unique = new_table();
    let schema = format!("Select_{unique}");
    let name = format!("{:_<48}", format!("User_{unique}"));
    let table = TableName::parse(&format!("{schema}.{name}")).unwrap();
    let place = Place::of(url, table).await;
    let cache = place.cache().await;
    assert_eq!(triggers(&place).await, 2);
    place.all_told(&cache).await;
    let (id, _) = place.cached(&cache).await;
    place.run(&format!("TRUNCATE {}", place.quoted())).await;
    is_let_go_of(&cache, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_with_a_search_path_of_its_own_has_the_table_that_it_means() {
    let decoy = Place::new().await;
    let schema = new_table();
    decoy.run(&format!("CREATE SCHEMA {schema}")).await;
    let path = format!("SET search_path = {schema}");
    let pool = PgPoolOptions::new().after_connect(move |connection, _| {
        let path = sqlx::AssertSqlSafe(path.clone());
        Box::pin(async move { sqlx::raw_sql(path).execute(connection).await.map(drop) })
    });
    let pool = pool.connect_lazy(&decoy.url).unwrap();
    let node = PostgresStore::new(pool).with_table(decoy.table.clone());
    node.migrate().await.unwrap();
    assert!(node.near_cache().await.is_err());
    node.migrate_notifications().await.unwrap();
    let cache = node.near_cache().await.unwrap();

    let table = TableName::parse(&format!("{schema}.{}", decoy.table)).unwrap();
    let place = Place::of(decoy.url.clone(), table).await;
    place.all_told(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_an_id_that_is_too_long_to_be_told_can_be_changed_and_swept() {
    let place = Place::new().await;
    let cache = place.cache().await;
    let table = place.quoted();
    let id = "decode(repeat('ab', 2000), 'hex')";
    place
        .run(&format!(
            "INSERT INTO {table} VALUES ({id} || {id}, 1, 'x', NULL, 1, 1, 1, 'x'); \
             UPDATE {table} SET revision = 2"
        ))
        .await;
    assert_eq!(place.other.delete_expired(10).await.unwrap(), 1);
    place.all_told(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_whose_table_no_longer_tells_serves_nothing_until_it_does_again() {
    let place = Place::new().await;
    let cache = place.cache().await;
    let (table, name) = (place.quoted(), place.table.name());
    for silenced in [
        format!("ALTER TABLE {table} DISABLE TRIGGER ALL"),
        format!("ALTER TABLE {table} ENABLE TRIGGER {name}_tell"),
        format!("DROP TRIGGER {name}_tell_truncate ON {table}"),
        format!("DROP FUNCTION {name}_tell CASCADE"),
        format!(
            "ALTER TABLE {table} RENAME TO {name}_old; \
             CREATE TABLE {table} (LIKE {name}_old INCLUDING ALL)"
        ),
        format!("DROP TABLE {table}; CREATE TABLE {table} (LIKE {name}_old INCLUDING ALL)"),
    ] {
        let (id, _) = place.cached(&cache).await;
        place.run(&silenced).await;
        is_off(&cache).await;
        // Nobody is told of this.
        place.other.delete(&id).await.unwrap();
        place.other.migrate_notifications().await.unwrap();
        is_let_go_of(&cache, &id).await;
        let (id, _) = place.create().await;
        bring(&cache, &place.other, &id).await;
        place.all_told(&cache).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_has_its_rows_in_others_has_no_cache() {
    let place = without_triggers().await;
    let (table, name) = (place.quoted(), place.table.name());
    place
        .run(&format!(
            "ALTER TABLE {table} RENAME TO {name}_whole; \
             CREATE TABLE {table} (LIKE {name}_whole INCLUDING ALL) PARTITION BY HASH (id); \
             CREATE TABLE {name}_part PARTITION OF {table} FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
        ))
        .await;
    let why = |error: &dyn Error| error.source().unwrap().to_string();
    let refused = place.other.migrate_notifications().await.unwrap_err();
    assert!(why(&refused).contains("partitions"), "{refused:?}");
    let refused = place.node().near_cache().await.unwrap_err();
    assert!(why(&refused).contains("partitions"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_whose_table_gets_an_heir_serves_nothing_until_that_is_gone() {
    let place = Place::new().await;
    let cache = place.cache().await;
    let (table, name) = (place.quoted(), place.table.name());
    let _ = place.cached(&cache).await;
    place
        .run(&format!("CREATE TABLE {name}_heir () INHERITS ({table})"))
        .await;
    is_off(&cache).await;
    place.run(&format!("DROP TABLE {name}_heir")).await;
    let (id, _) = place.create().await;
    bring(&cache, &place.other, &id).await;
    place.all_told(&cache).await;
}

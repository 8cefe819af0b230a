//! `migrate` and `schema`.

use expect_test::expect;
use serde_json::json;

use super::{place::Place, program::tower_keep};

on_each_store!(migrate_makes_what_is_missing_and_can_be_repeated);

async fn migrate_makes_what_is_missing_and_can_be_repeated(kind: &str) {
    let place = Place::without_table(kind).await;
    let url = &place.url;
    let has_tables = place.store.schema().is_some();
    let before = tower_keep(&format!("stats --store {url}")).await;
    assert_eq!(
        before.code,
        Some(if has_tables { 4 } else { 0 }),
        "{before}"
    );
    let says_what_to_run = before.stderr.contains("run `tower-keep migrate`");
    assert_eq!(says_what_to_run, has_tables, "{before}");
    assert!(before.stderr.lines().count() <= 1, "{before}");

    let looked = tower_keep(&format!("migrate --dry-run --store {url}")).await;
    let schema = tower_keep(&format!("schema --store {url}")).await;
    match has_tables {
        true => assert_eq!(looked.stdout(), schema.stdout()),
        false => assert_eq!(schema.code, Some(4), "{schema}"),
    }
    let still = tower_keep(&format!("stats --store {url}")).await;
    assert_eq!(still.code, before.code, "{still}");

    let first = tower_keep(&format!("migrate --store {url} --json")).await;
    let store = place.store.kind();
    assert_eq!(
        first.json(),
        json!({ "store": store, "tables": has_tables })
    );
    let second = tower_keep(&format!("migrate --store {url}")).await.stdout();
    match has_tables {
        true => assert_eq!(second, "the tables are up to date\n"),
        false => assert!(second.contains("there is nothing to do"), "{second}"),
    }
    tower_keep(&format!("stats --store {url}")).await.stdout();
}

#[tokio::test]
async fn the_schema_can_be_run_by_other_tools() {
    let schema = tower_keep("schema --store sqlite:///dev/shm/none?mode=ro#shop").await;
    expect![[r#"
        CREATE TABLE IF NOT EXISTS "shop" (
          id BLOB NOT NULL PRIMARY KEY,
          revision INTEGER NOT NULL,
          token BLOB NOT NULL,
          user_id TEXT,
          created_at INTEGER NOT NULL,
          expires_at INTEGER NOT NULL,
          absolute_deadline INTEGER NOT NULL,
          payload BLOB NOT NULL
        );
        CREATE INDEX IF NOT EXISTS "shop_user_id" ON "shop" (user_id)
          WHERE user_id IS NOT NULL;
        CREATE INDEX IF NOT EXISTS "shop_expires_at" ON "shop" (expires_at);
        CREATE TABLE IF NOT EXISTS "shop_schema" (version INTEGER NOT NULL PRIMARY KEY);
        INSERT OR IGNORE INTO "shop_schema" VALUES (1);
    "#]]
    .assert_eq(&schema.stdout());
}

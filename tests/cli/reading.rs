//! `stats`, `list`, `show`: the same answer from each store.

use expect_test::expect;

use super::{
    place::Place,
    program::tower_keep,
    sessions::{id, many, three},
};

on_each_store!(stats_counts_sessions_users_and_bytes list_names_each_session show_hides_values_unless_told);

async fn stats_counts_sessions_users_and_bytes(kind: &str) {
    let place = Place::new(kind).await;
    let url = &place.url;
    let empty = tower_keep(&format!("stats --json --store {url}")).await;
    expect![[r#"
        {"next_to_expire":null,"oldest":null,"payload_bytes":{"max":null,"median":null,"min":null,"total":0},"sessions":0,"users":0,"with_user":0,"without_user":0}
    "#]].assert_eq(&empty.stdout());
    place.put(&three()).await;
    let table = tower_keep(&format!("stats --store {url}")).await;
    expect![[r#"
         sessions                                   3
         with a user                                2
         without a user                             1
         users                                      1
         smallest payload, bytes                   14
         median payload, bytes                     30
         largest payload, bytes                    59
         all payloads, bytes                      103
         oldest, UTC              2026-01-01 00:17:00
         next to expire, UTC      2090-01-01 00:17:00
    "#]]
    .assert_eq(&table.stdout());
    let json = tower_keep(&format!("stats --store {url} --json")).await;
    expect![[r#"
        {"next_to_expire":"2090-01-01T00:17:00.000Z","oldest":"2026-01-01T00:17:00.000Z","payload_bytes":{"max":59,"median":30,"min":14,"total":103},"sessions":3,"users":1,"with_user":2,"without_user":1}
    "#]].assert_eq(&json.stdout());
}

async fn list_names_each_session(kind: &str) {
    let place = Place::new(kind).await;
    let url = &place.url;
    place.put(&three()).await;
    let table = tower_keep(&format!("list --store {url}")).await;
    // A cluster is read server by server.
    let mut lines: Vec<_> = table.stdout().lines().map(str::to_owned).collect();
    lines[1..].sort();
    expect![[r#"
         session                                                           user  created, UTC         expires, UTC         bytes
         1111111111111111111111111111111111111111111111111111111111111111  ada   2026-01-01 00:17:00  2090-01-01 00:17:00  59
         2222222222222222222222222222222222222222222222222222222222222222  ada   2026-01-01 00:34:00  2090-01-01 00:34:00  30
         3333333333333333333333333333333333333333333333333333333333333333  -     2026-01-01 00:51:00  2090-01-01 00:51:00  14"#]].assert_eq(&lines.join("\n"));
    let json = tower_keep(&format!("list --store {url} --json")).await;
    let mut lines: Vec<_> = json.stdout().lines().map(str::to_owned).collect();
    lines.sort();
    expect![[r#"
        {"created_at":"2026-01-01T00:17:00.000Z","expires_at":"2090-01-01T00:17:00.000Z","id":"1111111111111111111111111111111111111111111111111111111111111111","payload_bytes":59,"user":"ada"}
        {"created_at":"2026-01-01T00:34:00.000Z","expires_at":"2090-01-01T00:34:00.000Z","id":"2222222222222222222222222222222222222222222222222222222222222222","payload_bytes":30,"user":"ada"}
        {"created_at":"2026-01-01T00:51:00.000Z","expires_at":"2090-01-01T00:51:00.000Z","id":"3333333333333333333333333333333333333333333333333333333333333333","payload_bytes":14,"user":null}"#]].assert_eq(&lines.join("\n"));
    let of_ada = tower_keep(&format!("list --store {url} --user ada --json")).await;
    expect![[r#"
        {"created_at":"2026-01-01T00:17:00.000Z","expires_at":"2090-01-01T00:17:00.000Z","id":"1111111111111111111111111111111111111111111111111111111111111111","payload_bytes":59,"user":"ada"}
        {"created_at":"2026-01-01T00:34:00.000Z","expires_at":"2090-01-01T00:34:00.000Z","id":"2222222222222222222222222222222222222222222222222222222222222222","payload_bytes":30,"user":"ada"}
    "#]].assert_eq(&of_ada.stdout());
    let of_ada = tower_keep(&format!("list --store {url} --user ada --limit 1")).await;
    expect![[r#"
        session                                                           user  created, UTC         expires, UTC         bytes
        1111111111111111111111111111111111111111111111111111111111111111  ada   2026-01-01 00:17:00  2090-01-01 00:17:00  59
        tower-keep: there are more; --limit says how many to list

        exit code 0"#]]
    .assert_eq(&of_ada.to_string());
    let of_eve = tower_keep(&format!("list --store {url} --user eve --json")).await;
    assert_eq!(of_eve.stdout(), "");
}

async fn show_hides_values_unless_told(kind: &str) {
    let place = Place::new(kind).await;
    let url = &place.url;
    place.put(&three()).await;
    let id = id('1');
    let hidden = tower_keep(&format!("show {id} --store {url}")).await;
    expect![[r#"
        {
          "absolute_deadline": "2091-01-01T00:00:00.000Z",
          "created_at": "2026-01-01T00:17:00.000Z",
          "data": {
            "basket": {
              "bytes": 5,
              "type": "array"
            },
            "name": {
              "bytes": 14,
              "type": "string"
            }
          },
          "expires_at": "2090-01-01T00:17:00.000Z",
          "id": "1111111111111111111111111111111111111111111111111111111111111111",
          "payload_bytes": 59,
          "revision": 1,
          "user": "ada"
        }
    "#]]
    .assert_eq(&hidden.stdout());
    let shown = tower_keep(&format!("show {id} --store {url} --values --json")).await;
    expect![[r#"
        {"absolute_deadline":"2091-01-01T00:00:00.000Z","created_at":"2026-01-01T00:17:00.000Z","data":{"basket":[7,9],"name":"Ada Lovelace"},"expires_at":"2090-01-01T00:17:00.000Z","id":"1111111111111111111111111111111111111111111111111111111111111111","payload_bytes":59,"revision":1,"user":"ada"}
    "#]].assert_eq(&shown.stdout());
    let nobody = "9".repeat(64);
    let nothing = tower_keep(&format!("show {nobody} --store {url}")).await;
    expect![[r#"
        tower-keep: there is no live session of that id

        exit code 1"#]]
    .assert_eq(&nothing.to_string());
}

#[tokio::test]
async fn a_list_without_json_ends_where_people_stop_reading() {
    let place = Place::new("sqlite").await;
    place.put(&many(1001).collect::<Vec<_>>()).await;
    let url = &place.url;
    let table = tower_keep(&format!("list --store {url}")).await;
    assert_eq!(table.stdout.lines().count(), 1 + 1000);
    assert!(table.stderr.contains("there are more"), "{table}");
    let json = tower_keep(&format!("list --store {url} --json")).await;
    assert_eq!(json.stdout().lines().count(), 1001);
}

#[tokio::test]
async fn the_store_comes_from_the_environment_too() {
    let place = Place::new("sqlite").await;
    let mut command = super::program::command("stats --json");
    let output = command.env("TOWER_KEEP_STORE", &place.url).output().await;
    assert_eq!(output.unwrap().status.code(), Some(0));
}

#[tokio::test]
async fn who_stops_reading_causes_no_error() {
    let place = Place::new("sqlite").await;
    place.put(&many(2000).collect::<Vec<_>>()).await;
    let mut command = super::program::command(&format!("list --json --store {}", place.url));
    let mut running = command.spawn().unwrap();
    drop(running.stdout.take());
    let output = running.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}

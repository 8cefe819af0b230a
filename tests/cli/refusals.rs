//! One line about what is wrong, and an exit code for scripts.

use std::fs::File;

use expect_test::expect;
use tower_keep::SessionStore;
use tower_keep_servers::{Kind, Server, SmallDisk};

use super::{
    patience::patiently,
    place::{Place, temporary_folder},
    program::{Ran, command, tower_keep},
    sessions::{id, many, three},
};

#[tokio::test]
async fn a_store_that_is_down_is_unavailable() {
    // Nobody listens there.
    let port = 1;
    for url in [
        format!("postgres://app:hunter2@127.0.0.1:{port}/app"),
        format!("mysql://app:hunter2@127.0.0.1:{port}/app"),
        format!("redis://:hunter2@127.0.0.1:{port}"),
        format!("memcached://127.0.0.1:{port}"),
    ] {
        for words in [
            "stats",
            "migrate",
            "list --user ada",
            "revoke --all --yes",
            "delete-expired",
        ] {
            if url.starts_with("memcached") && words != "delete-expired" {
                continue;
            }
            let ran = tower_keep(&format!("{words} --store {url}")).await;
            assert_eq!(ran.code, Some(3), "{url}: {words}: {ran}");
            assert_eq!(ran.stderr.lines().count(), 1, "{url}: {words}: {ran}");
            assert!(!ran.stderr.contains("hunter2"), "{ran}");
        }
    }
}

#[tokio::test]
async fn an_address_of_no_store_is_a_usage_error() {
    let mut said = String::new();
    for url in [
        "localhost",
        "mongodb://app:hunter2@localhost",
        "postgres://app:hunter2@localhost:port/app",
        "redis://:hunter2@localhost:port",
        "mysql://app:hunter2@localhost",
        "sqlite:",
        "memory:",
    ] {
        let ran = tower_keep(&format!("stats --store {url}")).await;
        said += &format!("{ran}\n");
    }
    assert!(!said.contains("hunter2"), "{said}");
    expect![[r#"
        tower-keep: wrong address: the address begins with none of postgres://, mysql://, sqlite:, redis://, redis+sentinel://, redis+cluster://, memcached://, file:// and memory:

        exit code 2
        tower-keep: wrong address: the address begins with none of postgres://, mysql://, sqlite:, redis://, redis+sentinel://, redis+cluster://, memcached://, file:// and memory:

        exit code 2
        tower-keep: wrong address: invalid port number

        exit code 2
        tower-keep: wrong address: Redis URL did not parse - InvalidClientConfig

        exit code 2
        tower-keep: wrong address: the address names no database: mysql://HOST/DATABASE

        exit code 2
        tower-keep: wrong address: the address names no file: sqlite:FILE

        exit code 2
        tower-keep: a store in memory is gone with its process: name one that lasts

        exit code 2
    "#]].assert_eq(&said);
}

#[tokio::test]
async fn a_wrong_command_line_is_a_usage_error() {
    // Where the command line is right, a file that is not there is another exit code.
    let right = tower_keep("list --store sqlite:y --user ada").await;
    assert_eq!(right.code, Some(4), "{right}");
    let session = id('1');
    for words in [
        "",
        "stats",
        "show 1234 --store sqlite:y",
        "revoke --store sqlite:y",
        "revoke --store sqlite:y --all --user ada",
        "list --store sqlite:y --user",
        "copy --from sqlite:x --to sqlite:x",
        "copy --from sqlite:y --to sqlite:x --after xyz",
        "copy --from sqlite:y --to sqlite:x --page 0",
        &format!("revoke --store sqlite:y --id {session} --keep {session}"),
        &format!("revoke --store sqlite:y --all --yes --keep {session}"),
        &format!("revoke --store sqlite:y --keep {session}"),
    ] {
        let ran = tower_keep(words).await;
        assert_eq!(ran.code, Some(2), "{words}: {ran}");
        assert_eq!(ran.stdout, "", "{words}");
    }
}

#[tokio::test]
async fn what_memcached_can_not_do_is_refused() {
    let place = Place::new("memcached").await;
    place.put(&three()).await;
    let url = &place.url;
    let mut said = String::new();
    for words in [
        "stats",
        "list",
        "list --user ada",
        "revoke --user ada --yes",
        "revoke --all --yes",
    ] {
        said += &format!("{}\n", tower_keep(&format!("{words} --store {url}")).await);
    }
    expect![[r#"
        tower-keep: memcached can not be read from one end to the other

        exit code 4
        tower-keep: memcached can not be read from one end to the other

        exit code 4
        tower-keep: memcached does not find the sessions of a user

        exit code 4
        tower-keep: memcached does not find the sessions of a user

        exit code 4
        tower-keep: memcached can not be read from one end to the other

        exit code 4
    "#]]
    .assert_eq(&said);
    let one = tower_keep(&format!("revoke --id {} --store {url}", id('1'))).await;
    assert_eq!(one.stdout(), "ended: 1\n");
}

#[tokio::test]
async fn a_full_store_stops_a_copy_and_says_how_to_go_on() {
    let full = Server::start_with(Kind::Redis, &["--maxmemory", "3mb"]).await;
    let from = Place::new("sqlite").await;
    from.put(&many(6000).collect::<Vec<_>>()).await;
    let copy = format!("copy --page 100 --from {} --to {}", from.url, full.url());
    let ran = tower_keep(&copy).await;
    assert_eq!(ran.code, Some(3), "{ran}");
    assert!(ran.stderr.contains("to go on, add --after "), "{ran}");
    assert!(ran.stderr.contains("OOM"), "{ran}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
}

#[tokio::test]
async fn a_full_disk_stops_a_copy_that_goes_on_when_there_is_room() {
    for kind in ["sqlite", "file"] {
        let from = Place::new("sqlite").await;
        from.put(&many(200).collect::<Vec<_>>()).await;
        let folder = temporary_folder();
        let Some(disk) = SmallDisk::mount(folder.path()) else {
            // Not root, or not allowed to mount: the test of a full server has to do.
            return;
        };
        let to = format!("{kind}://{}/sessions", folder.path().display());
        tower_keep(&format!("migrate --store {to}")).await.stdout();
        disk.fill_but(100_000);
        let copy = format!("copy --page 10 --from {} --to {to}", from.url);
        let ran = tower_keep(&copy).await;
        assert_eq!(ran.code, Some(3), "{kind}: {ran}");
        assert!(ran.stderr.contains("to go on, "), "{kind}: {ran}");
        assert!(
            ran.stderr.contains(" full") || ran.stderr.contains("No space"),
            "{kind}: {ran}"
        );
        assert_eq!(ran.stderr.lines().count(), 1, "{kind}: {ran}");
        disk.make_room();
        tower_keep(&format!("{copy} --verify")).await.stdout();
    }
}

#[tokio::test]
async fn a_folder_that_can_not_be_is_refused() {
    let ran = tower_keep("migrate --store file:///dev/null/sessions").await;
    expect![[r#"
        tower-keep: file: the operation failed: making the folder of the store: Not a directory (os error 20)

        exit code 4"#]].assert_eq(&ran.to_string());
    let ran = tower_keep("migrate --store sqlite:///dev/null/sessions").await;
    expect![[r#"
        tower-keep: sqlite: the store is unavailable: Not a directory (os error 20)

        exit code 3"#]]
    .assert_eq(&ran.to_string());
}

#[tokio::test]
async fn a_mistyped_store_is_not_made_and_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("typo");
    let to = Place::new("sqlite").await;
    for url in [
        format!("file://{}", path.display()),
        format!("sqlite:{}", path.display()),
        format!("sqlite://{}?mode=rwc#sessions", path.display()),
    ] {
        for words in [
            format!("stats --store {url}"),
            format!("copy --from {url} --to {}", to.url),
            format!("copy --from {} --to {url}", to.url),
        ] {
            let ran = tower_keep(&words).await;
            assert_eq!(ran.code, Some(4), "{words}: {ran}");
            assert!(ran.stderr.contains("typo is not there"), "{ran}");
            assert!(!path.exists(), "{words}");
        }
    }
}

/// They may be an address with a password, or a cookie.
#[tokio::test]
async fn words_in_a_wrong_place_are_not_repeated() {
    const ID: &str = "YB2buuQPMwfiA4TnzmHZpQKbHRIBcw0pu15b1bGeQc4";
    for words in [
        "postgres://app:hunter2@db/app".to_owned(),
        "stats postgres://app:hunter2@db/app".to_owned(),
        "stats --json=hunter2".to_owned(),
        "show postgres://app:hunter2@db/app".to_owned(),
        "show hunter2 --store sqlite:x".to_owned(),
        "revoke --id hunter2".to_owned(),
        "copy --after hunter2".to_owned(),
        "copy --page hunter2".to_owned(),
        format!("show {ID} --store sqlite:x"),
        format!("{ID} --store sqlite:x"),
    ] {
        let ran = tower_keep(&words).await;
        assert_eq!(ran.code, Some(2), "{ran}");
        assert!(!ran.stderr.is_empty());
        for secret in ["hunter2", ID] {
            assert!(!ran.to_string().contains(secret), "{ran}");
        }
    }
}

#[tokio::test]
async fn a_copy_that_fails_is_an_error_though_nobody_reads_what_it_says() {
    let full = Server::start_with(Kind::Redis, &["--maxmemory", "3mb"]).await;
    let from = Place::new("sqlite").await;
    from.put(&many(6000).collect::<Vec<_>>()).await;
    let copy = format!("copy --page 100 --from {} --to {}", from.url, full.url());
    let mut running = command(&copy).spawn().unwrap();
    drop(running.stdout.take());
    let ran = Ran::from(running.wait_with_output().await.unwrap());
    assert_eq!(ran.code, Some(3), "{ran}");
    assert!(ran.stderr.contains("to go on, add --after "), "{ran}");
}

#[tokio::test]
async fn a_copy_out_of_redis_begins_again() {
    let [from, to] = [Place::new("redis").await, Place::new("sqlite").await];
    let copy = format!("copy --from {} --to {}", from.url, to.url);
    let ran = tower_keep(&format!("{copy} --after 0000")).await;
    assert_eq!(ran.code, Some(2), "{ran}");
    assert!(ran.stderr.contains("begin again"), "{ran}");
}

/// The note of it is remembered for a while.
#[tokio::test]
async fn a_session_that_has_ended_in_the_destination_does_not_come_back() {
    for kind in ["redis", "memcached"] {
        let [from, to] = [Place::new("sqlite").await, Place::new(kind).await];
        from.put(&three()).await;
        to.put(&three()).await;
        let ended = &three()[0].id;
        // Also if it is sent twice, and is gone by then.
        let _ended: bool = patiently(|| to.store.delete(ended)).await.unwrap();
        let copy = format!("copy --json --from {} --to {}", from.url, to.url);
        let told = tower_keep(&copy).await.json();
        assert_eq!(told["left_alone"], 1, "{kind}: {told}");
        assert_eq!(patiently(|| to.store.load(ended)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_store_that_can_only_be_read_takes_no_copy() {
    let [from, to] = [Place::new("sqlite").await, Place::new("sqlite").await];
    from.put(&three()).await;
    let copy = format!("copy --from {} --to {}?mode=ro", from.url, to.url);
    let ran = tower_keep(&copy).await;
    assert!(matches!(ran.code, Some(3 | 4)), "{ran}");
    assert!(ran.stderr.contains("readonly"), "{ran}");
}

#[tokio::test]
async fn output_that_can_not_be_written_is_an_error() {
    let place = Place::new("sqlite").await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = command(&format!("stats --store {}", place.url));
    // `output` would put a pipe in its place.
    let running = command.stdout(full).spawn().unwrap();
    let ran = Ran::from(running.wait_with_output().await.unwrap());
    expect![[r#"
        tower-keep: No space left on device (os error 28)

        exit code 1"#]]
    .assert_eq(&ran.to_string());
}

#[tokio::test]
async fn a_damaged_session_is_told_of_and_left_out() {
    let place = Place::new("redis").await;
    place.put(&three()).await;
    let server = Server::shared(Kind::Redis).await;
    let (_, prefix) = place.url.split_once('#').unwrap();
    let keys = server
        .redis_command(&["KEYS", &format!("{prefix}:session:ERER*")])
        .await;
    let keys = keys.unwrap();
    server
        .redis_command(&["SET", keys.trim(), "junk"])
        .await
        .unwrap();
    let ran = tower_keep(&format!("list --json --store {}", place.url)).await;
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_eq!(ran.stdout.lines().count(), 2, "{ran}");
    assert!(ran.stderr.contains("damaged"), "{ran}");
    // What was left out may live, or be missing.
    let [to, elsewhere] = [Place::new("sqlite").await, Place::new("sqlite").await];
    for (words, told) in [
        (
            format!("copy --from {} --to {}", place.url, to.url),
            "created",
        ),
        (
            format!("copy --move --from {} --to {}", place.url, elsewhere.url),
            "moved      2",
        ),
        (
            format!("revoke --all --yes --store {}", place.url),
            "ended: 0",
        ),
    ] {
        let ran = tower_keep(&words).await;
        assert_eq!(ran.code, Some(1), "{ran}");
        assert!(ran.stdout.contains(told), "{ran}");
        assert!(ran.stderr.contains("damaged"), "{ran}");
    }
}

#[tokio::test]
async fn keygen_makes_secrets_that_a_keyring_takes() {
    let [one, other] = [tower_keep("keygen").await, tower_keep("keygen").await];
    let [one, other] = [one.stdout(), other.stdout()];
    assert_ne!(one, other);
    for secret in [one, other] {
        assert_eq!(secret.trim_end().len(), 86);
        tower_keep::Keyring::new(secret.trim_end()).unwrap();
    }
    let json = tower_keep("keygen --json").await.json();
    assert_eq!(json["secret"].as_str().unwrap().len(), 86);
}

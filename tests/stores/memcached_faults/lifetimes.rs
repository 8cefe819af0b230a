//! How long the server keeps what.

use std::time::Duration;

use tower_keep::{Clock, Record, Rotated, SessionStore, SystemClock, Timestamp, Updated};
use tower_keep_servers::{Kind, Server};

use super::{item, new_id, open, put_record};
use crate::{file_faults::record, support::eventually};

#[tokio::test]
async fn an_item_lives_five_minutes_longer_than_its_record() {
    let server = Server::shared(Kind::Memcached).await;
    let store = open(&[server.port()]);
    for left in [
        60,
        3600,
        29 * DAY,
        30 * DAY - SLACK - 1,
        30 * DAY - SLACK,
        30 * DAY - SLACK + 1,
        30 * DAY - 1,
        30 * DAY,
        30 * DAY + 1,
        31 * DAY,
        400 * DAY,
        3650 * DAY,
    ] {
        let id = new_id();
        let first = expiring(1, left);
        put_record(&store, &id, &first).await;
        is_about(server, &id, left, "create").await;
        assert_eq!(store.load(&id).await.unwrap(), Some(first));
    }
}

#[tokio::test]
async fn each_write_moves_the_life_of_the_item() {
    let server = Server::shared(Kind::Memcached).await;
    let store = open(&[server.port()]);
    for (before, after) in [(60, 7200), (60, 40 * DAY), (40 * DAY, 400 * DAY)] {
        let (id, new) = (new_id(), new_id());
        let first = expiring(1, before);
        put_record(&store, &id, &first).await;
        let second = expiring(2, after);
        let touched = store.touch(&id, second.expires_at, first.version);
        assert!(touched.await.unwrap());
        is_about(server, &id, after, "touch").await;
        let third = expiring(2, before);
        let updated = store.update(&id, &third, first.version).await.unwrap();
        assert_eq!(updated, Updated::Done);
        is_about(server, &id, before, "update").await;
        let fourth = expiring(3, after);
        let rotated = store.rotate(&id, &new, &fourth, third.version).await;
        assert_eq!(rotated.unwrap(), Rotated::Done);
        is_about(server, &new, after, "rotate").await;
        eventually("a note of a minute", || async {
            let note = item(server, &id).await.unwrap();
            let is_so = note.value.starts_with(b"\0m") && (50..=60).contains(&note.ttl);
            is_so.then_some(())
        })
        .await;
        assert!(store.delete(&new).await.unwrap());
        let note = item(server, &new).await.unwrap();
        assert_eq!(note.value, b"\0e");
        assert!((50..=60).contains(&note.ttl), "{note:?}");
    }
}

/// The times of memcached have 31 bits.
#[tokio::test]
async fn a_record_that_expires_after_2038_is_kept() {
    let server = Server::shared(Kind::Memcached).await;
    let store = open(&[server.port()]);
    let years = Duration::from_secs(30 * 365 * DAY);
    let now = Timestamp::from(SystemClock.now());
    for end in [now.saturating_add(years), Timestamp::from_millis(i64::MAX)] {
        let id = new_id();
        let mut first = expiring(1, 3600);
        first.expires_at = end;
        put_record(&store, &id, &first).await;
        assert_eq!(store.load(&id).await.unwrap(), Some(first), "create");

        let id = new_id();
        let first = expiring(1, 3600);
        put_record(&store, &id, &first).await;
        assert!(store.touch(&id, end, first.version).await.unwrap());
        assert!(store.load(&id).await.unwrap().is_some(), "touch");
    }
}

async fn is_about(server: &Server, id: &tower_keep::RecordId, left: u64, what: &str) {
    let ttl = item(server, id).await.unwrap().ttl;
    let expected = i64::try_from(left + SLACK).unwrap();
    let late = expected - ttl;
    assert!((-2..20).contains(&late), "{what} {left}: {ttl}");
}

fn expiring(revision: u64, left: u64) -> Record {
    let now = Timestamp::from(SystemClock.now());
    let mut record = record(revision, b"".as_slice());
    record.expires_at = now.saturating_add(Duration::from_secs(left));
    record.absolute_deadline = record.expires_at;
    record
}

const DAY: u64 = 24 * 60 * 60;
const SLACK: u64 = 300;

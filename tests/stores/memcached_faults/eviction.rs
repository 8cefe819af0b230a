//! A server with too little memory.

use std::collections::BTreeSet;

use tower_keep::{Created, Rotated, SessionStore, StoreErrorKind, Updated};
use tower_keep_servers::{Kind, Server};

use super::{new_id, open, quiet};
use crate::file_faults::record;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_evicted_session_is_anonymous_and_no_ended_one_comes_back() {
    let server = Server::start_with(Kind::Memcached, &["-m", "2"]).await;
    let store = open(&[server.port()]);
    let mut sessions = Vec::new();
    let mut ended = BTreeSet::new();
    let mut errors = 0;
    for number in 0..4000_usize {
        let id = new_id();
        let first = record(1, vec![1; 200 + number % 2000]);
        match store.create(&id, &first).await {
            Ok(created) => assert_eq!(created, Created::Done),
            Err(error) => {
                assert_eq!(quiet(&error), StoreErrorKind::Unavailable);
                errors += 1;
                continue;
            }
        }
        let next = record(2, vec![2; 200 + (number * 7) % 2000]);
        let other = new_id();
        match number % 4 {
            0 => match store.update(&id, &next, first.version).await {
                Ok(updated) => assert!(matches!(updated, Updated::Done | Updated::Gone)),
                Err(error) => {
                    assert_eq!(quiet(&error), StoreErrorKind::Unavailable);
                    errors += 1;
                }
            },
            1 => match store.rotate(&id, &other, &next, first.version).await {
                Ok(Rotated::Done) => drop(ended.insert(id)),
                Ok(rotated) => assert_eq!(rotated, Rotated::Gone),
                Err(error) => {
                    assert_eq!(quiet(&error), StoreErrorKind::Unavailable);
                    errors += 1;
                }
            },
            2 => {
                store.delete(&id).await.unwrap();
                ended.insert(id);
            }
            _ => {}
        }
        sessions.push((id, first.clone(), next.clone()));
        sessions.push((other, next, first));
    }
    let (mut live, mut gone) = (0, 0);
    for (id, one, other) in &sessions {
        match store.load(id).await.unwrap() {
            None => gone += 1,
            Some(record) => {
                assert!(!ended.contains(id));
                assert!(record == *one || record == *other, "another's record");
                live += 1;
            }
        }
    }
    eprintln!("{live} live, {gone} gone, {errors} errors");
    assert!(live > 100 && gone > 1000);
    for id in &ended {
        let next = record(3, b"".as_slice());
        let update = store.update(id, &next, next.version).await.unwrap();
        assert_eq!(update, Updated::Gone);
        assert_eq!(store.load(id).await.unwrap(), None);
    }
}

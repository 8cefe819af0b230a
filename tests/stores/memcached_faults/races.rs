//! Operations on one session at the same time.

use std::time::Duration;

use tower_keep::{Created, Rotated, SessionStore, Updated};
use tower_keep_servers::Server;

use super::{Nodes, open, put_record};
use crate::file_faults::record;

/// Each by a store with connections of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_an_update_two_rotations_a_touch_and_an_end_each_answer_is_true() {
    let nodes = Nodes::start().await;
    let [one, other] = nodes.servers.each_ref().map(Server::port);
    let stores: Vec<_> = (0..5).map(|_| open(&[one, other])).collect();
    let mut outcomes = std::collections::BTreeMap::new();
    for round in 0..400 {
        let ids = [super::new_id(), super::new_id(), super::new_id()];
        let old = record(1, b"old".as_slice());
        put_record(&stores[0], &ids[0], &old).await;
        let [updated, first, second] = [0, 1, 2].map(|n| record(2, vec![n]));
        let expected = old.version;
        let later = old.expires_at.saturating_add(Duration::from_secs(9));
        let is_deleted = round % 2 == 0;
        let (update, one, two, touch, delete) = tokio::join!(
            stores[0].update(&ids[0], &updated, expected),
            stores[1].rotate(&ids[0], &ids[1], &first, expected),
            stores[2].rotate(&ids[0], &ids[2], &second, expected),
            stores[3].touch(&ids[0], later, expected),
            async {
                match is_deleted {
                    true => stores[4].delete(&ids[0]).await.map(Some),
                    false => Ok(None),
                }
            },
        );
        let (update, one, two) = (update.unwrap(), one.unwrap(), two.unwrap());
        let (_, delete) = (touch.unwrap(), delete.unwrap());
        let won = [
            update == Updated::Done,
            one == Rotated::Done,
            two == Rotated::Done,
        ];
        let mut found = Vec::new();
        for id in &ids {
            found.push(stores[0].load(id).await.unwrap());
        }
        let place = format!("{update:?} {one:?} {two:?} {delete:?} {found:?}");
        let wins = won.iter().filter(|won| **won).count();
        assert!(wins <= 1, "{place}");
        let live = found.iter().flatten().count();
        match delete {
            None => {
                assert_eq!((wins, live), (1, 1), "{place}");
            }
            Some(true) => {
                assert_eq!(live, 0, "{place}");
                assert!(!won[1] && !won[2], "it was not there any more: {place}");
            }
            Some(false) => assert_eq!(live, 1, "it had moved: {place}"),
        }
        for (id, (won, record)) in [
            (0, (won[0], &updated)),
            (1, (won[1], &first)),
            (2, (won[2], &second)),
        ] {
            if won && delete != Some(true) {
                assert_eq!(
                    found[id].as_ref().map(|r| r.version),
                    Some(record.version),
                    "{place}"
                );
            }
        }
        *outcomes.entry((won, delete)).or_insert(0) += 1;
    }
    eprintln!("{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_create_one_id_one_wins() {
    let nodes = Nodes::start().await;
    for _ in 0..50 {
        let id = super::new_id();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..8_u8 {
            let store = nodes.store.clone();
            tasks.spawn(async move {
                let record = record(1, vec![number]);
                (store.create(&id, &record).await.unwrap(), record)
            });
        }
        let mut done = tasks.join_all().await;
        done.retain(|(created, _)| *created == Created::Done);
        assert_eq!(done.len(), 1);
        assert_eq!(nodes.store.load(&id).await.unwrap(), Some(done.remove(0).1));
    }
}

//! Every interleaving of moves with what else happens to a session, at every call to either store.

mod back;
mod stepped;

use std::{
    cell::RefCell,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use tower_keep::{
    MemoryStore, MigratingStore, Payload, Record, RecordId, Rotated, ScanSessions, SessionStore,
    StoreErrorKind, Updated, UserId, UserSessions, Version, WriteToken, testing::CountingStore,
};

use self::stepped::{Actor, Stepped, explore, poll_once, turn};

type Store = MigratingStore<Stepped, Stepped>;

/// Two empty stores, and the one of the two; each call to either waits for one more turn.
#[derive(Clone)]
struct Place {
    new: Arc<MemoryStore>,
    old: Arc<MemoryStore>,
    store: Arc<Store>,
}

impl Place {
    /// With a session in the old store.
    async fn new() -> Self {
        let [new, old] = [(); 2].map(|()| Arc::new(MemoryStore::new().with_entries_max(8)));
        let store = MigratingStore::new(Stepped(Arc::clone(&new)), Stepped(Arc::clone(&old)));
        let _ = old.create(&ID, &record()).await.unwrap();
        Self {
            new,
            old,
            store: Arc::new(store),
        }
    }

    /// What is there when all is over, by a way that never waits for a turn, and however it is asked for.
    async fn found(&self, id: &RecordId) -> Option<Record> {
        let store = MigratingStore::new(Arc::clone(&self.new), Arc::clone(&self.old));
        let listed = store.sessions_of(&ada()).await.unwrap();
        let mut scanned = Vec::new();
        let mut after = None;
        loop {
            let page = store.scan(after.as_ref(), 10).await.unwrap();
            scanned.extend(page.sessions);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let found = store.load(id).await.unwrap();
        for others in [listed, scanned] {
            let others = others.into_iter().filter(|session| session.id == *id);
            let others: Vec<_> = others.map(|session| session.record).collect();
            assert_eq!(others, Vec::from_iter(found.clone()), "once each");
        }
        found
    }
}

impl Place {
    async fn loaded(&self, id: &RecordId) -> Option<Record> {
        let store = MigratingStore::new(Arc::clone(&self.new), Arc::clone(&self.old));
        store.load(id).await.unwrap()
    }
}

/// What needs no turn of anybody.
fn now<T>(work: impl Future<Output = T>) -> T {
    let mut work = Box::pin(work);
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for somebody"),
    }
}

fn load(place: &Place) -> Actor {
    let store = Arc::clone(&place.store);
    Box::pin(async move {
        let found = store.load(&ID).await.unwrap();
        assert!(found.is_none_or(|found| found.user == Some(ada())));
    })
}

/// A load that is dropped after so many turns.
fn dropped_load(place: &Place, turns: usize) -> Actor {
    let mut load = load(place);
    let mut left = turns;
    Box::pin(poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        load.as_mut().poll(cx)
    }))
}

fn delete(place: &Place) -> Actor {
    let store = Arc::clone(&place.store);
    Box::pin(async move {
        let _ended: bool = store.delete(&ID).await.unwrap();
    })
}

/// The other load stands still after some of its turns, and goes on when all else is over.
#[test]
fn a_load_and_a_logout_in_any_order_and_another_load_that_stands_still_leave_nothing_alive() {
    let mut runs = 0;
    for turns in 0..8 {
        let still = RefCell::new(None);
        runs += explore(
            |place| {
                let mut other = load(place);
                let is_over = (0..turns).any(|_| poll_once(&mut other));
                still.replace((!is_over).then_some(other));
                vec![load(place), delete(place)]
            },
            &async |place: &Place| {
                if let Some(mut other) = still.take() {
                    while !poll_once(&mut other) {}
                }
                assert_eq!(place.loaded(&ID).await, None);
            },
        );
    }
    assert!(runs > 1000, "{runs}");
}

#[test]
fn two_loads_in_any_order_leave_the_session_as_it_was_in_the_new_store_alone() {
    let runs = explore(
        |place| vec![load(place), load(place)],
        &async |place: &Place| {
            assert_eq!(place.new.load(&ID).await.unwrap(), Some(record()));
            assert_eq!(place.old.load(&ID).await.unwrap(), None);
            assert_eq!(place.found(&ID).await, Some(record()));
        },
    );
    assert!(runs > 100, "{runs}");
}

#[test]
fn a_load_that_is_dropped_anywhere_loses_nothing_and_undoes_no_logout() {
    for turns in 0..7 {
        explore(
            |place| vec![dropped_load(place, turns), load(place)],
            &async |place: &Place| assert_eq!(place.found(&ID).await, Some(record())),
        );
        explore(
            |place| vec![dropped_load(place, turns), delete(place)],
            &async |place: &Place| assert_eq!(place.found(&ID).await, None),
        );
        explore(
            |place| vec![dropped_load(place, turns)],
            &async |place: &Place| assert_eq!(place.found(&ID).await, Some(record())),
        );
    }
}

#[test]
fn a_change_that_meets_a_move_in_any_order_is_made_once() {
    let next = changed(2, b"changed");
    let update = |place: &Place| -> Actor {
        let (store, next) = (Arc::clone(&place.store), changed(2, b"changed"));
        Box::pin(async move {
            let updated = store.update(&ID, &next, record().version).await.unwrap();
            assert_eq!(updated, Updated::Done);
        })
    };
    for turns in 1..8 {
        explore(
            |place| vec![dropped_load(place, turns), update(place)],
            &async |place: &Place| assert_eq!(place.found(&ID).await.as_ref(), Some(&next)),
        );
    }
}

#[test]
fn of_two_changes_that_meet_a_move_one_is_told_of_the_other() {
    let write = |place: &Place, token: u8| -> Actor {
        let store = Arc::clone(&place.store);
        Box::pin(async move {
            let mut next = changed(token, &[token]);
            let first = store.update(&ID, &next, record().version).await.unwrap();
            if let Updated::Conflict(present) = first {
                next.payload = [present.payload.as_bytes(), &[token]].concat().into();
                next.version.revision = present.version.revision + 1;
                let second = store.update(&ID, &next, present.version).await.unwrap();
                assert_eq!(second, Updated::Done);
            } else {
                assert_eq!(first, Updated::Done);
            }
        })
    };
    let runs = explore(
        |place| vec![write(place, 2), write(place, 3)],
        &async |place: &Place| {
            let found = place.found(&ID).await.unwrap();
            let mut payload = found.payload.as_bytes().to_vec();
            payload.sort_unstable();
            assert_eq!((payload, found.version.revision), (vec![2, 3], 7));
        },
    );
    assert!(runs > 100, "{runs}");
}

#[test]
fn a_rotation_that_meets_a_move_in_any_order_leaves_the_new_id_alone() {
    let rotate = |place: &Place| -> Actor {
        let (store, next) = (Arc::clone(&place.store), changed(2, b"rotated"));
        Box::pin(async move {
            let rotated = store.rotate(&ID, &OTHER, &next, record().version).await;
            assert_eq!(rotated.unwrap(), Rotated::Done);
        })
    };
    for turns in 1..8 {
        explore(
            |place| vec![dropped_load(place, turns), rotate(place)],
            &async |place: &Place| {
                assert_eq!(place.found(&ID).await, None);
                assert_eq!(place.found(&OTHER).await, Some(changed(2, b"rotated")));
            },
        );
    }
}

/// One of them has seen the session before the other has moved it, and makes a copy of it when it is gone.
#[test]
fn a_load_that_stands_still_brings_back_no_id_that_was_rotated_or_ended() {
    for (first_turns, second_turns) in (0..8).flat_map(|a| (0..8).map(move |b| (a, b))) {
        for ends in [false, true] {
            let place = now(Place::new());
            let mut first = load(&place);
            let mut is_over = (0..first_turns).any(|_| poll_once(&mut first));
            let mut second = load(&place);
            let _over = (0..second_turns).any(|_| poll_once(&mut second));
            drop(second);
            let store = MigratingStore::new(Arc::clone(&place.new), Arc::clone(&place.old));
            let (next, expected) = (changed(2, b"rotated"), record().version);
            let rotated = now(store.rotate(&ID, &OTHER, &next, expected)).unwrap();
            assert_eq!(rotated, Rotated::Done);
            // With the old cookie.
            if ends {
                assert!(!now(store.delete(&ID)).unwrap());
            }
            while !is_over {
                is_over = poll_once(&mut first);
            }
            let turns = (first_turns, second_turns, ends);
            assert_eq!(now(place.found(&ID)), None, "{turns:?}");
            assert_eq!(now(place.found(&OTHER)).as_ref(), Some(&next), "{turns:?}");
        }
    }
}

#[test]
fn ending_all_sessions_of_a_user_during_a_move_ends_them_and_tells_which() {
    let ended: Arc<std::sync::Mutex<Vec<RecordId>>> = Arc::default();
    let runs = explore(
        |place| vec![load(place), end_all(place, &ended)],
        &async |place: &Place| {
            assert_eq!(*ended.lock().unwrap(), [ID]);
            assert_eq!(place.found(&ID).await, None);
        },
    );
    assert!(runs > 100, "{runs}");
    for turns in 1..8 {
        explore(
            |place| vec![dropped_load(place, turns), end_all(place, &ended)],
            &async |place: &Place| {
                assert_eq!(*ended.lock().unwrap(), [ID]);
                assert_eq!(place.found(&ID).await, None);
            },
        );
    }
}

#[test]
fn ending_all_sessions_of_a_user_during_a_rotation_ends_the_id_that_lives_and_tells_it_alone() {
    let ended: Arc<std::sync::Mutex<Vec<RecordId>>> = Arc::default();
    let rotated: Arc<std::sync::Mutex<Option<Rotated>>> = Arc::default();
    let rotate = |place: &Place| -> Actor {
        let (store, next) = (Arc::clone(&place.store), changed(2, b"rotated"));
        let rotated = Arc::clone(&rotated);
        Box::pin(async move {
            let answer = store.rotate(&ID, &OTHER, &next, record().version).await;
            *rotated.lock().unwrap() = Some(answer.unwrap());
        })
    };
    let runs = explore(
        |place| vec![rotate(place), end_all(place, &ended)],
        &async |place: &Place| {
            let last = match rotated.lock().unwrap().take().unwrap() {
                Rotated::Done => OTHER,
                Rotated::Gone => ID,
                other => panic!("{other:?}"),
            };
            assert_eq!(*ended.lock().unwrap(), [last]);
            assert_eq!(place.found(&ID).await, None);
            assert_eq!(place.found(&OTHER).await, None);
        },
    );
    assert!(runs > 100, "{runs}");
}

fn end_all(place: &Place, ended: &Arc<std::sync::Mutex<Vec<RecordId>>>) -> Actor {
    let (store, ended) = (Arc::clone(&place.store), Arc::clone(ended));
    Box::pin(async move {
        let ids = store.delete_all_of(&ada(), None).await.unwrap();
        *ended.lock().unwrap() = ids;
    })
}

/// An instance that has not been told of the new store.
#[test]
fn a_change_in_the_old_store_alone_is_moved_or_refused_and_never_lost() {
    let outdated = |place: &Place, done: &Arc<std::sync::Mutex<Option<Updated>>>| -> Actor {
        let (old, done) = (Arc::clone(&place.old), Arc::clone(done));
        Box::pin(async move {
            let next = changed(9, b"by an old instance");
            turn().await;
            let updated = old.update(&ID, &next, record().version).await.unwrap();
            *done.lock().unwrap() = Some(updated);
        })
    };
    let done: Arc<std::sync::Mutex<Option<Updated>>> = Arc::default();
    explore(
        |place| vec![load(place), outdated(place, &done), dropped_load(place, 3)],
        &async |place: &Place| {
            let expected = match done.lock().unwrap().take().unwrap() {
                Updated::Done => changed(9, b"by an old instance"),
                Updated::Conflict(_) | Updated::Gone => record(),
            };
            assert_eq!(place.found(&ID).await, Some(expected));
        },
    );
}

#[tokio::test]
async fn all_sessions_are_moved_page_by_page_and_a_second_time_none() {
    let [new, old] = [(); 2].map(|()| MemoryStore::new());
    let store = MigratingStore::new(new.clone(), old.clone());
    for number in 0..100_u8 {
        let id = RecordId::from_bytes([number; 32]);
        let _ = old.create(&id, &record()).await.unwrap();
    }
    for expected in [100, 0] {
        let (mut moved, mut after) = (0, None);
        loop {
            let page = store.move_sessions(after.as_ref(), 7).await.unwrap();
            moved += page.moved;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(moved, expected);
    }
    assert_eq!(old.scan(None, 10).await.unwrap().sessions, []);
    let there = new.scan(None, 1000).await.unwrap().sessions;
    assert_eq!(there.len(), 100);
    assert!(there.iter().all(|session| session.record == record()));
}

/// Whoever wants such a session out of the world gets it out.
#[tokio::test]
async fn a_session_that_the_new_store_does_not_take_can_be_ended() {
    let large = Record {
        payload: vec![7; 2 * 1024 * 1024].into(),
        ..record()
    };
    let old = MemoryStore::new();
    let new = MemoryStore::new().with_bytes_max(1024 * 1024);
    let store = MigratingStore::new(new, old.clone());
    let _ = old.create(&ID, &large).await.unwrap();
    let page = store.move_sessions(None, 10).await.unwrap();
    assert_eq!((page.moved, page.failed), (0, 1));
    let error = store.load(&ID).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TooLarge);
    assert!(store.delete(&ID).await.unwrap());
    assert!(!store.delete(&ID).await.unwrap());
    let _ = old.create(&OTHER, &large).await.unwrap();
    let ended = store.delete_all_of(&ada(), None).await.unwrap();
    assert_eq!(ended, [OTHER]);
    assert_eq!(store.load(&OTHER).await.unwrap(), None);
}

/// Sessions that are moved back, over what the first move has left.
#[tokio::test]
async fn what_was_moved_can_be_moved_back() {
    let place = Place::new().await;
    let there = MigratingStore::new(Arc::clone(&place.new), Arc::clone(&place.old));
    assert_eq!(there.load(&ID).await.unwrap(), Some(record()));
    // A note that stayed.
    let payload = [&b"\xfftower-keep left"[..], &[3; 16]].concat();
    let note = Record {
        payload: Payload::from(payload),
        ..changed(8, b"")
    };
    let _ = place.old.create(&ID, &note).await.unwrap();
    let back = MigratingStore::new(Arc::clone(&place.old), Arc::clone(&place.new));
    assert_eq!(back.load(&ID).await.unwrap(), Some(record()));
    assert_eq!(place.old.load(&ID).await.unwrap(), Some(record()));
    assert_eq!(place.new.load(&ID).await.unwrap(), None);
}

/// What the page of the store says of its cost.
#[tokio::test]
async fn a_session_that_has_been_moved_costs_what_the_documentation_says() {
    let [new, old] = [(); 2].map(|()| Arc::new(CountingStore::new(MemoryStore::new())));
    let _ = old.create(&ID, &record()).await.unwrap();
    let store = MigratingStore::new(Arc::clone(&new), Arc::clone(&old));
    let calls = || new.take().total() + old.take().total();
    calls();
    assert!(store.load(&ID).await.unwrap().is_some());
    assert_eq!(calls(), 6, "a move");
    assert!(store.load(&ID).await.unwrap().is_some());
    assert_eq!(calls(), 1, "a load");
    let next = changed(2, b"changed");
    let updated = store.update(&ID, &next, record().version).await.unwrap();
    assert_eq!((updated, calls()), (Updated::Done, 1));
    let mut last = changed(3, b"rotated");
    last.version.revision += 1;
    let rotated = store.rotate(&ID, &OTHER, &last, next.version).await;
    assert_eq!((rotated.unwrap(), calls()), (Rotated::Done, 2));
    assert!(store.delete(&OTHER).await.unwrap());
    assert_eq!(calls(), 3, "an end");
    assert_eq!(store.load(&ID).await.unwrap(), None);
    assert_eq!(calls(), 3, "in neither");
    let third = RecordId::from_bytes([9; 32]);
    let _ = store.create(&third, &record()).await.unwrap();
    assert_eq!(calls(), 4, "a new one");
}

fn ada() -> UserId {
    UserId::new("ada").unwrap()
}

/// The same at every call.
fn record() -> Record {
    // Far enough.
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33);
    Record {
        version: Version {
            revision: 5,
            token: WriteToken::from_bytes([1; 16]),
        },
        user: Some(ada()),
        created_at: SystemTime::UNIX_EPOCH.into(),
        expires_at: later.into(),
        absolute_deadline: later.into(),
        payload: Payload::from(&b"cart"[..]),
    }
}

fn changed(token: u8, payload: &[u8]) -> Record {
    Record {
        version: Version {
            revision: 6,
            token: WriteToken::from_bytes([token; 16]),
        },
        payload: Payload::from(payload),
        ..record()
    }
}

const ID: RecordId = RecordId::from_bytes([7; 32]);
const OTHER: RecordId = RecordId::from_bytes([8; 32]);

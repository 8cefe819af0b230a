//! Moves in the other direction that nobody has brought to their end.

use std::sync::Arc;

use tower_keep::{MigratingStore, SessionStore, UserSessions};

use super::{
    Actor, ID, Place, ada, load, now, record,
    stepped::{Stepped, explore, poll_once},
};

/// The session has been moved, and then been moved back for so many turns.
fn half_moved_back(place: &Place, turns: usize) {
    let there = MigratingStore::new(Arc::clone(&place.new), Arc::clone(&place.old));
    assert_eq!(now(there.load(&ID)).unwrap(), Some(record()));
    let [new, old] = [&place.old, &place.new].map(|store| Stepped(Arc::clone(store)));
    let back = MigratingStore::new(new, old);
    let mut load: Actor = Box::pin(async move { drop(back.load(&ID).await) });
    let _is_over = (0..turns).any(|_| poll_once(&mut load));
}

/// By whichever way it is asked for, it is there, and it can be ended.
#[test]
fn a_move_back_that_stopped_anywhere_leaves_the_session_there() {
    for (turns, ends) in (0..8).flat_map(|turns| [false, true].map(|ends| (turns, ends))) {
        let place = now(Place::new());
        half_moved_back(&place, turns);
        if ends {
            let there = MigratingStore::new(Arc::clone(&place.new), Arc::clone(&place.old));
            let ended = now(there.delete_all_of(&ada(), None)).unwrap();
            assert_eq!(ended, [ID], "{turns}");
        }
        let expected = (!ends).then(record);
        assert_eq!(now(place.found(&ID)), expected, "{turns}");
    }
}

/// The load brings the move back to its end, and the session over again.
#[test]
fn a_list_that_meets_a_session_which_turns_around_has_it() {
    let mut runs = 0;
    for turns in 0..8 {
        let list = |place: &Place| -> Actor {
            let store = Arc::clone(&place.store);
            Box::pin(async move {
                let listed = store.sessions_of(&ada()).await.unwrap();
                let ids: Vec<_> = listed.iter().map(|session| session.id).collect();
                assert_eq!(ids, [ID], "{turns}");
            })
        };
        runs += explore(
            |place| {
                half_moved_back(place, turns);
                vec![list(place), load(place)]
            },
            &async |place: &Place| assert_eq!(place.found(&ID).await, Some(record())),
        );
    }
    assert!(runs > 100, "{runs}");
}

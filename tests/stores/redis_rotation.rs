//! Rotations in a cluster whose process has died between two steps.
//!
//! What such a process leaves is written here byte for byte, as `stores/keyed/value.rs` has it.

use tower_keep::{
    Created, Record, RecordId, RedisStore, Rotated, ScanSessions, SessionStore, Updated, UserId,
    UserSessions,
};

use crate::{
    redis_places::{Place, Which},
    sql_places::{HOUR, new_id, next, now, record},
};

/// A session that was on its way from one id to another.
struct Scene {
    place: Place,
    store: RedisStore,
    old: RecordId,
    new: RecordId,
    before: Record,
    after: Record,
    user: UserId,
}

impl Scene {
    /// The new key has the record as pending, and the old one has not been touched.
    async fn placed() -> Self {
        let place = Place::new(Which::Cluster).await;
        let store = place.store();
        let (old, new) = (new_id(), new_id());
        let before = record(now(), HOUR, Some("ada"));
        let after = next(&before);
        assert_eq!(store.create(&old, &before).await.unwrap(), Created::Done);
        let pending = [b"\0p", &old.as_bytes()[..], &after.to_bytes()].concat();
        place.set(&place.session_key(&new), &pending).await;
        Self {
            place,
            store,
            old,
            new,
            user: before.user.clone().unwrap(),
            before,
            after,
        }
    }

    /// The index of the user knows of it besides.
    async fn noted() -> Self {
        let scene = Self::placed().await;
        let key = scene.place.user_key(&scene.user);
        let score = scene.after.absolute_deadline.as_millis().to_string();
        let words = [score.as_bytes(), scene.new.as_bytes()];
        scene.place.raw("ZADD", &key, &words).await;
        scene
    }

    /// The old key has become a note besides.
    async fn retired() -> Self {
        let scene = Self::noted().await;
        let version = &scene.after.to_bytes()[1..25];
        let moved = [b"\0m", version, &scene.new.as_bytes()[..]].concat();
        scene
            .place
            .set(&scene.place.session_key(&scene.old), &moved)
            .await;
        scene
    }

    /// By load, by the user and by a scan exactly this one is alive.
    async fn assert_alive(&self, id: &RecordId, record: &Record) {
        let other = if *id == self.old { self.new } else { self.old };
        assert_eq!(self.store.load(id).await.unwrap().as_ref(), Some(record));
        assert_eq!(self.store.load(&other).await.unwrap(), None);
        assert_eq!(self.by_user().await, [(*id, record.clone())]);
        assert_eq!(self.by_scan().await, [(*id, record.clone())]);
    }

    async fn by_user(&self) -> Vec<(RecordId, Record)> {
        let sessions = self.store.sessions_of(&self.user).await.unwrap();
        sessions.into_iter().map(|s| (s.id, s.record)).collect()
    }

    async fn by_scan(&self) -> Vec<(RecordId, Record)> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.scan(after.as_ref(), 1000).await.unwrap();
            found.extend(page.sessions.into_iter().map(|s| (s.id, s.record)));
            match page.next {
                Some(next) => after = Some(next),
                None => return found,
            }
        }
    }

    async fn rotate(&self) -> Rotated {
        let Self { old, new, .. } = self;
        let rotated = self
            .store
            .rotate(old, new, &self.after, self.before.version);
        rotated.await.unwrap()
    }
}

#[tokio::test]
async fn before_the_old_key_is_retired_the_old_id_lives_and_the_new_one_does_not() {
    for scene in [Scene::placed().await, Scene::noted().await] {
        scene.assert_alive(&scene.old, &scene.before).await;
        let Scene { store, new, .. } = &scene;
        let version = scene.after.version;
        let late = next(&scene.after);
        let updated = store.update(new, &late, version).await.unwrap();
        assert_eq!(updated, Updated::Gone);
        let later = scene.after.expires_at.saturating_add(HOUR / 2);
        assert!(!store.touch(new, later, version).await.unwrap());
        let rotated = store.rotate(new, &new_id(), &late, version).await.unwrap();
        assert_eq!(rotated, Rotated::Gone);
        scene.assert_alive(&scene.old, &scene.before).await;
    }
}

/// Nothing but the note at the old key makes the new id alive.
#[tokio::test]
async fn an_id_that_a_session_has_left_is_not_given_again() {
    let scene = Scene::retired().await;
    let another = record(now(), HOUR, None);
    let created = scene.store.create(&scene.old, &another).await.unwrap();
    assert_eq!(created, Created::Exists);
    scene.assert_alive(&scene.new, &scene.after).await;
}

#[tokio::test]
async fn before_the_old_key_is_retired_the_session_goes_on_to_be_written() {
    let scene = Scene::noted().await;
    let Scene { store, old, .. } = &scene;
    let newer = next(&scene.before);
    let updated = store.update(old, &newer, scene.before.version).await;
    assert_eq!(updated.unwrap(), Updated::Done);
    scene.assert_alive(old, &newer).await;
    // What is late is told so, and leaves nothing.
    assert_eq!(scene.rotate().await, Rotated::Conflict(newer.clone()));
    scene.assert_alive(old, &newer).await;
    assert_eq!(
        scene.place.get(&scene.place.session_key(&scene.new)).await,
        None
    );
}

#[tokio::test]
async fn a_rotation_sent_again_is_finished_wherever_it_was_interrupted() {
    for scene in [
        Scene::placed().await,
        Scene::noted().await,
        Scene::retired().await,
    ] {
        for _ in 0..2 {
            assert_eq!(scene.rotate().await, Rotated::Done);
            scene.assert_alive(&scene.new, &scene.after).await;
        }
    }
}

#[tokio::test]
async fn a_rotation_to_yet_another_id_leaves_the_placed_one_dead_for_ever() {
    let scene = Scene::noted().await;
    let third = new_id();
    let third_record = next(&scene.before);
    let rotated = scene
        .store
        .rotate(&scene.old, &third, &third_record, scene.before.version);
    assert_eq!(rotated.await.unwrap(), Rotated::Done);
    for dead in [&scene.old, &scene.new] {
        assert_eq!(scene.store.load(dead).await.unwrap(), None);
    }
    assert_eq!(scene.by_user().await, [(third, third_record.clone())]);
    // Not by the note of this rotation, either, which tells of another one.
    let late = scene.rotate().await;
    assert_eq!(late, Rotated::Gone);
    assert_eq!(scene.by_scan().await, [(third, third_record)]);
}

#[tokio::test]
async fn once_the_old_key_is_retired_the_new_id_lives_by_load_by_user_and_by_scan() {
    let scene = Scene::retired().await;
    assert_eq!(scene.by_scan().await, [(scene.new, scene.after.clone())]);
    let scene = Scene::retired().await;
    assert_eq!(scene.by_user().await, [(scene.new, scene.after.clone())]);
    let scene = Scene::retired().await;
    scene.assert_alive(&scene.new, &scene.after).await;
    // The first look has finished the rotation.
    let key = scene.place.session_key(&scene.new);
    assert_eq!(scene.place.get(&key).await.unwrap(), scene.after.to_bytes());
    assert!(scene.place.pttl(&key).await > 0);
}

#[tokio::test]
async fn once_the_old_key_is_retired_the_session_is_found_by_the_user_even_from_the_old_entry_alone()
 {
    let scene = Scene::retired().await;
    let key = scene.place.user_key(&scene.user);
    scene.place.raw("ZREM", &key, &[scene.new.as_bytes()]).await;
    assert_eq!(scene.by_user().await, [(scene.new, scene.after.clone())]);
}

#[tokio::test]
async fn once_the_old_key_is_retired_the_new_one_is_updated() {
    let scene = Scene::retired().await;
    let newer = next(&scene.after);
    let updated = scene.store.update(&scene.new, &newer, scene.after.version);
    assert_eq!(updated.await.unwrap(), Updated::Done);
    scene.assert_alive(&scene.new, &newer).await;
}

#[tokio::test]
async fn once_the_old_key_is_retired_the_new_one_is_rotated_on() {
    let scene = Scene::retired().await;
    let (third, newer) = (new_id(), next(&scene.after));
    let rotated = scene
        .store
        .rotate(&scene.new, &third, &newer, scene.after.version);
    assert_eq!(rotated.await.unwrap(), Rotated::Done);
    assert_eq!(scene.by_user().await, [(third, newer)]);
    assert_eq!(scene.store.load(&scene.new).await.unwrap(), None);
}

#[tokio::test]
async fn once_the_old_key_is_retired_the_new_one_is_touched() {
    let scene = Scene::retired().await;
    let later = scene.after.expires_at.saturating_add(HOUR / 2);
    let touched = scene.store.touch(&scene.new, later, scene.after.version);
    assert!(touched.await.unwrap(), "there is a live one");
    let found = scene.store.load(&scene.new).await.unwrap().unwrap();
    assert_eq!(found.expires_at, later);
}

#[tokio::test]
async fn once_the_old_key_is_retired_the_new_one_is_ended_and_does_not_come_back() {
    let scene = Scene::retired().await;
    assert!(scene.store.delete(&scene.new).await.unwrap(), "it was live");
    assert_eq!(scene.store.load(&scene.new).await.unwrap(), None);
    let _ = scene.rotate().await;
    assert_eq!(scene.store.load(&scene.new).await.unwrap(), None);
    assert_eq!(scene.by_user().await, []);
    assert_eq!(scene.by_scan().await, []);
}

#[tokio::test]
async fn all_sessions_of_a_user_end_wherever_a_rotation_was_interrupted() {
    for scene in [
        Scene::placed().await,
        Scene::noted().await,
        Scene::retired().await,
    ] {
        let ended = scene.store.delete_all_of(&scene.user, None).await;
        assert_eq!(ended.unwrap().len(), 1);
        assert_eq!(scene.by_scan().await, []);
        // The rotation that was interrupted goes on after all.
        let _ = scene.rotate().await;
        assert_eq!(scene.by_scan().await, []);
        assert_eq!(scene.by_user().await, []);
    }
}

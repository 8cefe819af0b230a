//! Records about as large as the server takes, and larger ones.

use std::ops::Range;

use tower_keep::{
    Created, MemcachedStore, Record, RecordId, Rotated, SessionStore, StoreErrorKind, Updated,
};
use tower_keep_servers::{Kind, Server};

use super::{CANARY, item, new_id, open, put_record, quiet};
use crate::file_faults::record;

#[tokio::test]
async fn a_record_over_the_limit_of_the_server_is_too_large_and_the_old_one_stands() {
    let (server, store) = small().await;
    let tried = try_size(&server, &store, 40 * 1024).await;
    assert_eq!(tried, [false; 3]);
}

#[tokio::test]
async fn at_the_edge_of_the_limit_a_record_is_taken_whole_or_refused_and_no_session_is_lost() {
    let (server, store) = small().await;
    let taken = try_sizes(&server, &store, 16_384 - 300..16_384 + 50, 1).await;
    eprintln!("of 16 KiB: {taken:?} by create, update and rotate");
    let server = Server::shared(Kind::Memcached).await;
    let store = open(&[server.port()]);
    let limit = 1024 * 1024;
    let taken = try_sizes(server, &store, limit - 300..limit + 50, 31).await;
    eprintln!("of 1 MiB: {taken:?} by create, update and rotate");
}

/// The largest payloads that were taken.
async fn try_sizes(
    server: &Server,
    store: &MemcachedStore,
    sizes: Range<usize>,
    step: usize,
) -> [usize; 3] {
    let mut largest = [0; 3];
    for size in sizes.clone().step_by(step) {
        let tried = try_size(server, store, size).await;
        for (largest, is_taken) in largest.iter_mut().zip(tried) {
            if is_taken {
                *largest = size;
            }
        }
    }
    assert!(
        largest.iter().all(|size| sizes.contains(size)),
        "{largest:?}"
    );
    largest
}

/// Whether the payload was taken by a create, an update, a rotation.
async fn try_size(server: &Server, store: &MemcachedStore, size: usize) -> [bool; 3] {
    let mut payload = CANARY.as_bytes().to_vec();
    payload.resize(size, 0xA5);
    let large = record(2, payload);
    let small = record(1, b"small".as_slice());

    let id = new_id();
    let created = match store.create(&id, &large).await {
        Ok(created) => {
            assert_eq!(created, Created::Done);
            assert_eq!(store.load(&id).await.unwrap().as_ref(), Some(&large));
            true
        }
        Err(error) => {
            assert_eq!(quiet(&error), StoreErrorKind::TooLarge, "{size}");
            assert_eq!(item(server, &id).await, None);
            false
        }
    };
    assert_eq!(store.delete(&id).await.unwrap(), created);

    let id = new_id();
    put_record(store, &id, &small).await;
    let updated = match store.update(&id, &large, small.version).await {
        Ok(updated) => {
            assert_eq!(updated, Updated::Done);
            true
        }
        Err(error) => {
            assert_eq!(quiet(&error), StoreErrorKind::TooLarge, "{size}");
            false
        }
    };
    is_one_of(store, &id, &small, &large, updated).await;

    let (id, new) = (new_id(), new_id());
    put_record(store, &id, &small).await;
    let rotated = match store.rotate(&id, &new, &large, small.version).await {
        Ok(rotated) => {
            assert_eq!(rotated, Rotated::Done);
            assert_eq!(store.load(&id).await.unwrap(), None);
            assert_eq!(store.load(&new).await.unwrap().as_ref(), Some(&large));
            true
        }
        Err(error) => {
            assert_eq!(quiet(&error), StoreErrorKind::TooLarge, "{size}");
            assert_eq!(store.load(&id).await.unwrap().as_ref(), Some(&small));
            assert_eq!(store.load(&new).await.unwrap(), None);
            false
        }
    };
    [created, updated, rotated]
}

/// And it can be touched, and ended.
async fn is_one_of(
    store: &MemcachedStore,
    id: &RecordId,
    small: &Record,
    large: &Record,
    is_large: bool,
) {
    let mut expected = if is_large { large } else { small }.clone();
    assert_eq!(store.load(id).await.unwrap().as_ref(), Some(&expected));
    let minute = std::time::Duration::from_secs(60);
    expected.expires_at = expected.expires_at.saturating_add(minute);
    let touched = store.touch(id, expected.expires_at, expected.version);
    assert!(touched.await.unwrap());
    assert_eq!(store.load(id).await.unwrap().as_ref(), Some(&expected));
    assert!(store.delete(id).await.unwrap());
    assert_eq!(store.load(id).await.unwrap(), None);
}

async fn small() -> (Server, MemcachedStore) {
    let arguments = ["-I", "16k", "-o", "slab_chunk_max=8192"];
    let server = Server::start_with(Kind::Memcached, &arguments).await;
    let store = open(&[server.port()]);
    (server, store)
}

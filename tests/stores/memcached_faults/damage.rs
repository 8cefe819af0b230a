//! Items that the store has not written, or not so.

use tower_keep::{Record, RecordId, SessionStore, StoreError, StoreErrorKind, UserId};
use tower_keep_servers::{Kind, Server};

use super::{CANARY, Nodes, ask, item, moved, new_id, open, pending, put, put_record, quiet};
use crate::{file_faults::record, support::eventually};

#[tokio::test]
async fn what_can_not_be_read_is_a_typed_error_and_nothing_is_written_over_it() {
    let server = Server::shared(Kind::Memcached).await;
    let store = open(&[server.port()]);
    let mut whole = record(1, CANARY.as_bytes());
    whole.user = Some(UserId::new("ada").unwrap());
    for (value, kind) in unreadable(&whole) {
        let shown = format!("{value:?}");
        let id = new_id();
        put(server, &id, &value).await;
        let before = item(server, &id).await.unwrap().value;
        let next = record(2, CANARY.as_bytes());
        let (healthy, free) = (new_id(), new_id());
        put_record(&store, &healthy, &whole).await;
        let version = whole.version;

        let is_refused = |error: StoreError| assert_eq!(quiet(&error), kind, "{shown}");
        is_refused(store.load(&id).await.unwrap_err());
        is_refused(store.create(&id, &next).await.unwrap_err());
        is_refused(store.update(&id, &next, version).await.unwrap_err());
        is_refused(
            store
                .touch(&id, next.expires_at, version)
                .await
                .unwrap_err(),
        );
        is_refused(store.rotate(&id, &free, &next, version).await.unwrap_err());
        is_refused(
            store
                .rotate(&healthy, &id, &next, version)
                .await
                .unwrap_err(),
        );
        assert_eq!(item(server, &id).await.unwrap().value, before, "{shown}");
        assert_eq!(store.load(&healthy).await.unwrap().as_ref(), Some(&whole));

        assert!(store.delete(&id).await.unwrap());
        assert_eq!(store.load(&id).await.unwrap(), None, "{shown}");
        assert!(!store.delete(&id).await.unwrap());
        assert_eq!(store.load(&free).await.unwrap(), None, "{shown}");
    }
}

fn unreadable(whole: &Record) -> Vec<(Vec<u8>, StoreErrorKind)> {
    let whole_bytes = whole.to_bytes();
    let mut newer = whole_bytes.clone();
    newer[0] = 2;
    let mut values = vec![
        (vec![], StoreErrorKind::Corrupt),
        (b"a foreign value".to_vec(), StoreErrorKind::Unsupported),
        (newer.clone(), StoreErrorKind::Unsupported),
        (b"\0z".to_vec(), StoreErrorKind::Unsupported),
    ];
    let from = new_id();
    let header = Record::HEADER_LEN + "ada".len();
    let corrupt = |bytes: &[u8], whole: usize, from: usize| -> Vec<_> {
        let cut = (from..whole).map(|length| (bytes[..length].to_vec(), StoreErrorKind::Corrupt));
        cut.collect()
    };
    values.extend(corrupt(&whole_bytes, header, 1));
    let note = moved(whole, &from);
    values.extend(corrupt(&note, note.len(), 1));
    let note = pending(whole, &from);
    let head = note.len() - whole_bytes.len() + header;
    values.extend(corrupt(&note, head, 2));
    let mut note = pending(whole, &from);
    let format = note.len() - whole_bytes.len();
    note[format] = 2;
    values.push((note, StoreErrorKind::Unsupported));
    let mut long = moved(whole, &from);
    long.push(0);
    values.push((long, StoreErrorKind::Corrupt));
    values
}

#[tokio::test]
async fn after_a_flush_all_everybody_is_anonymous_and_new_sessions_work() {
    let nodes = Nodes::start().await;
    let mut ids: Vec<RecordId> = Vec::new();
    for node in [0, 1, 0, 1] {
        ids.push(nodes.session_at(node).await.0);
    }
    for server in &nodes.servers {
        assert_eq!(ask(server, b"flush_all\r\n").await, b"OK\r\n");
    }
    for id in &ids {
        let next = record(2, b"".as_slice());
        let store = &nodes.store;
        assert_eq!(store.load(id).await.unwrap(), None);
        let gone = store.update(id, &next, next.version).await.unwrap();
        assert_eq!(gone, tower_keep::Updated::Gone);
        let gone = store.rotate(id, &new_id(), &next, next.version).await;
        assert_eq!(gone.unwrap(), tower_keep::Rotated::Gone);
        assert!(!store.delete(id).await.unwrap());
        assert_eq!(store.load(id).await.unwrap(), None);
    }
    // memcached lets go of what was stored within the second of the flush.
    eventually("a session after the flush", || async {
        let (id, record) = (new_id(), record(1, b"".as_slice()));
        put_record(&nodes.store, &id, &record).await;
        (nodes.store.load(&id).await.unwrap() == Some(record)).then_some(())
    })
    .await;
}

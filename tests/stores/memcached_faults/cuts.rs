//! Connections that are cut at every byte of every operation.

use std::time::Duration;

use tokio::{task::JoinSet, time::timeout};
use tower_keep::{
    Created, MemcachedStore, Record, RecordId, Rotated, SessionStore, StoreError, StoreErrorKind,
    Updated, testing::Operation,
};
use tower_keep_servers::{
    Direction::{self, ToClient, ToServer},
    FaultProxy, Kind, Server,
};

use super::{CANARY, Nodes, ask, item, new_id, open, put_record, quiet};
use crate::{
    file_faults::record,
    support::{Browser, PATIENCE, app, eventually, layer_over},
};

const OPERATIONS: [Operation; 6] = [
    Operation::Load,
    Operation::Create,
    Operation::Update,
    Operation::Rotate,
    Operation::Touch,
    Operation::Delete,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_cut_once_at_any_byte_is_not_noticed_and_the_write_is_done_once() {
    let mut operations = JoinSet::new();
    for operation in OPERATIONS {
        operations.spawn(cut_once(operation));
    }
    operations.join_all().await;
}

async fn cut_once(operation: Operation) {
    let nodes = Nodes::start().await;
    let exchange = measure(&nodes, operation).await;
    for (node, direction, after) in places(&exchange) {
        let place = format!("{operation:?} {node} {direction:?} {after}");
        let proxy = &nodes.proxies[node];
        let case = Case::new(&nodes, operation).await;
        let cuts = proxy.traffic().cuts;
        match after % 2 {
            0 => proxy.cut_after(direction, after),
            _ => proxy.reset_after(direction, after),
        }
        let run = timeout(PATIENCE, case.run(&nodes.store)).await;
        let run = run.unwrap_or_else(|_| panic!("{place}: no answer"));
        run.unwrap_or_else(|error| panic!("{place}: {error:?}"));
        let cut = timeout(PATIENCE, proxy.wait_until(|t| t.cuts > cuts)).await;
        cut.unwrap_or_else(|_| panic!("{place}: no cut"));
        case.is_settled(&nodes).await;
        assert_eq!(case.state(&nodes.store).await, case.after, "{place}");
    }
    eprintln!("{operation:?}: {exchange:?}");
}

/// The connection ends at that byte, and no other can be made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_lost_in_the_middle_of_an_operation_leaves_the_old_state_or_the_new() {
    let mut operations = JoinSet::new();
    for operation in OPERATIONS {
        operations.spawn(lose(operation));
    }
    operations.join_all().await;
}

async fn lose(operation: Operation) {
    let nodes = Nodes::start().await;
    let exchange = measure(&nodes, operation).await;
    let (mut errors, mut applied) = (0, 0);
    for (node, direction, after) in places(&exchange).step_by(STEP) {
        let place = format!("{operation:?} {node} {direction:?} {after}");
        let proxy = &nodes.proxies[node];
        // One idle connection each.
        let case = Case::new(&nodes, operation).await;
        let cuts = proxy.traffic().cuts;
        proxy.refuse();
        proxy.cut_after(direction, after);
        let run = timeout(PATIENCE, case.run(&nodes.store)).await;
        let run = run.unwrap_or_else(|_| panic!("{place}: no answer"));
        let cut = timeout(PATIENCE, proxy.wait_until(|t| t.cuts > cuts)).await;
        cut.unwrap_or_else(|_| panic!("{place}: no cut"));
        proxy.heal();
        let state = case.state(&nodes.store).await;
        match run {
            Ok(()) => {
                assert_eq!(state, case.after, "{place}");
                // Perhaps it was the note that was cut.
                let _ = timeout(Duration::from_millis(100), case.is_settled(&nodes)).await;
            }
            Err(error) => {
                assert_eq!(quiet(&error), StoreErrorKind::Unavailable, "{place}");
                errors += 1;
                assert!([&case.before, &case.after].contains(&&state), "{place}");
                // Once the old node has let go of it, the new one is not needed any more.
                let is_to_new = operation == Operation::Rotate && node == 1;
                assert!(!is_to_new || state == case.before, "{place}");
                applied += u32::from(case.before != case.after && state == case.after);
                let again = case.run(&nodes.store).await;
                again.unwrap_or_else(|error| panic!("{place}: {error:?}"));
                case.is_settled(&nodes).await;
                assert_eq!(case.state(&nodes.store).await, case.after, "{place}");
            }
        }
    }
    eprintln!("{operation:?}: {errors} errors, {applied} of them after it was applied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_counter_whose_replies_are_swallowed_counts_each_request_once() {
    let nodes = Nodes::start().await;
    let mut browser = Browser::new(&app(layer_over(nodes.store.clone())));
    browser.post("/count/n").await.assert_ok();
    for number in 2..200_u64 {
        for proxy in &nodes.proxies {
            // The reply to the load, to the read before the write, to the write.
            proxy.cut_after(ToClient, number % 170);
        }
        let answer = browser.post("/count/n").await.assert_ok();
        assert_eq!(answer.body, number.to_string());
    }
    for proxy in &nodes.proxies {
        proxy.heal();
    }
    let found = browser.get("/get/n").await.assert_ok();
    assert_eq!(found.body, "199");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_whose_settings_were_read_in_part_takes_what_it_always_takes() {
    let server = Server::shared(Kind::Memcached).await;
    let proxy = FaultProxy::to(server.address()).await;
    let settings = ask(server, b"stats settings\r\n").await;
    let settings = String::from_utf8(settings).unwrap();
    let line = settings.find("STAT item_size_max").unwrap() as u64;
    let large = record(1, vec![7; 100 * 1024]);
    for direction in [ToServer, ToClient] {
        let bytes = match direction {
            ToServer => 0..16,
            ToClient => line..line + 30,
        };
        for after in bytes {
            let store = open(&[proxy.port()]);
            proxy.cut_after(direction, after);
            for _ in 0..2 {
                let id = new_id();
                match store.create(&id, &large).await {
                    Ok(created) => assert_eq!(created, Created::Done),
                    Err(error) => {
                        let kind = quiet(&error);
                        assert_eq!(kind, StoreErrorKind::Unavailable, "{direction:?} {after}");
                    }
                }
                proxy.heal();
            }
            let id = new_id();
            put_record(&store, &id, &large).await;
            assert!(store.delete(&id).await.unwrap());
        }
    }
}

/// How many bytes go to each node and back, once all is connected.
type Exchange = Vec<(usize, Direction, u64)>;

async fn measure(nodes: &Nodes, operation: Operation) -> Exchange {
    let case = Case::new(nodes, operation).await;
    let before = nodes.proxies.each_ref().map(FaultProxy::traffic);
    case.run(&nodes.store).await.unwrap();
    case.is_settled(nodes).await;
    let after = nodes.proxies.each_ref().map(FaultProxy::traffic);
    let mut exchange = Vec::new();
    for node in 0..2 {
        let (before, after) = (before[node], after[node]);
        exchange.push((node, ToServer, after.to_server - before.to_server));
        exchange.push((node, ToClient, after.to_client - before.to_client));
    }
    exchange
}

fn places(exchange: &Exchange) -> impl Iterator<Item = (usize, Direction, u64)> {
    exchange
        .iter()
        .flat_map(|(node, direction, bytes)| (0..*bytes).map(|after| (*node, *direction, after)))
}

/// One operation on a session of the first node; a rotation takes it to the second.
struct Case {
    operation: Operation,
    id: RecordId,
    new_id: RecordId,
    old: Record,
    new: Record,
    /// What is under the two ids.
    before: [Option<Record>; 2],
    after: [Option<Record>; 2],
}

impl Case {
    async fn new(nodes: &Nodes, operation: Operation) -> Self {
        let (id, new_id) = (nodes.id_at(0).await, nodes.id_at(1).await);
        let old = record(1, CANARY.as_bytes());
        let mut new = record(2, b"new".as_slice());
        new.expires_at = old.expires_at.saturating_add(Duration::from_secs(1));
        let touched = Record {
            expires_at: new.expires_at,
            ..old.clone()
        };
        let there = [Some(old.clone()), None];
        let (before, after) = match operation {
            Operation::Create => ([None, None], there),
            Operation::Update => (there, [Some(new.clone()), None]),
            Operation::Rotate => (there, [None, Some(new.clone())]),
            Operation::Touch => (there, [Some(touched), None]),
            Operation::Delete => (there, [None, None]),
            _ => (there.clone(), there),
        };
        if before[0].is_some() {
            put_record(&nodes.store, &id, &old).await;
        }
        Self {
            operation,
            id,
            new_id,
            old,
            new,
            before,
            after,
        }
    }

    /// Does it, the second time with the same token as the first time.
    async fn run(&self, store: &MemcachedStore) -> Result<(), StoreError> {
        let (id, new, expected) = (&self.id, &self.new, self.old.version);
        match self.operation {
            Operation::Load => {
                assert_eq!(store.load(id).await?.as_ref(), Some(&self.old));
            }
            Operation::Create => assert_eq!(store.create(id, &self.old).await?, Created::Done),
            Operation::Update => {
                assert_eq!(store.update(id, new, expected).await?, Updated::Done);
            }
            Operation::Rotate => {
                let rotated = store.rotate(id, &self.new_id, new, expected).await?;
                assert_eq!(rotated, Rotated::Done);
            }
            Operation::Touch => assert!(store.touch(id, new.expires_at, expected).await?),
            // Whether there was one is not known the second time.
            _ => drop(store.delete(id).await?),
        }
        Ok(())
    }

    async fn state(&self, store: &MemcachedStore) -> [Option<Record>; 2] {
        [
            store.load(&self.id).await.unwrap(),
            store.load(&self.new_id).await.unwrap(),
        ]
    }

    /// What goes on after the answer is through: the note at the old key will go soon.
    async fn is_settled(&self, nodes: &Nodes) {
        if self.operation == Operation::Rotate {
            eventually("a note that goes soon", || async {
                let note = item(&nodes.servers[0], &self.id).await;
                note.is_none_or(|note| note.ttl <= 60).then_some(())
            })
            .await;
        }
    }
}

/// Each byte would take a minute.
const STEP: usize = 9;

//! Clients that use sessions through two nodes, and know what each of the two must find.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};

use tokio::task::JoinHandle;
use tower_keep::{
    CachedStore, Created, Record, RecordCache, RecordId, Rotated, SessionStore, StoreError, Updated,
};

use super::CACHE_TIMEOUT;
use crate::{
    sql_places::{HOUR, new_id, next, now, record},
    support::{TestStore, eventually},
};

/// Clients at work, each in sessions of its own.
pub(super) struct Crowd {
    members: Vec<(Arc<Progress>, JoinHandle<Vec<Fate>>)>,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    /// The cache is known to be away.
    is_away: AtomicBool,
    stop: AtomicBool,
}

#[derive(Default)]
struct Progress {
    operations: AtomicU64,
    /// Those from begin to end of which the cache was away, and how many of them may have waited for it.
    away: AtomicU64,
    slow: AtomicU64,
}

/// What is to be found in the end under an id, which was written by that node at last.
pub(super) struct Fate {
    pub(super) id: RecordId,
    pub(super) writer: usize,
    pub(super) record: Option<Record>,
}

impl Crowd {
    pub(super) fn start<C: RecordCache>(nodes: &[CachedStore<C, TestStore>; 2]) -> Self {
        let orders = Arc::<Orders>::default();
        let mut members = Vec::new();
        for _ in 0..CLIENTS {
            let progress = Arc::<Progress>::default();
            let client = Client {
                nodes: nodes.clone(),
                orders: Arc::clone(&orders),
                progress: Arc::clone(&progress),
                past: Vec::new(),
            };
            members.push((progress, tokio::spawn(client.run())));
        }
        Self { members, orders }
    }

    /// Waits until each client has done a lot more.
    pub(super) async fn works_on(&self) {
        let count = |progress: &Arc<Progress>| progress.operations.load(SeqCst);
        let members = self.members.iter();
        let before: Vec<u64> = members.map(|(progress, _)| count(progress)).collect();
        eventually("operations", || async {
            let mut pairs = self.members.iter().zip(&before);
            let all = pairs.all(|((progress, _), before)| count(progress) >= before + OPERATIONS);
            // One that has panicked is heard of by `stop`.
            let ended = self.members.iter().any(|(_, task)| task.is_finished());
            (all || ended).then_some(())
        })
        .await;
    }

    pub(super) fn is_told_that_the_cache_is_away(&self) {
        self.orders.is_away.store(true, SeqCst);
    }

    pub(super) fn is_told_that_the_cache_returns(&self) {
        self.orders.is_away.store(false, SeqCst);
    }

    /// Ends all clients, and answers what they have left in the store.
    pub(super) async fn stop(self) -> Vec<Fate> {
        self.orders.stop.store(true, SeqCst);
        let mut fates = Vec::new();
        let (mut away, mut slow) = (0, 0);
        for (progress, task) in self.members {
            fates.extend(task.await.unwrap());
            away += progress.away.load(SeqCst);
            slow += progress.slow.load(SeqCst);
        }
        eprintln!("{slow} of {away} operations may have waited for a cache that was away");
        assert!(slow * 2 < away, "{slow} of {away}");
        fates
    }
}

/// Uses one session after the other through both nodes, and knows what must be found there.
struct Client<C: RecordCache> {
    nodes: [CachedStore<C, TestStore>; 2],
    orders: Arc<Orders>,
    progress: Arc<Progress>,
    /// Ids that were ended or left.
    past: Vec<Fate>,
}

/// A session that lives.
struct Session {
    id: RecordId,
    /// Its states under this id, the present one last.
    states: Vec<Record>,
    /// What each node has last written, or knew from the start.
    known: [usize; 2],
    writer: usize,
}

impl Session {
    fn new(id: RecordId, first: Record, writer: usize) -> Self {
        Self {
            id,
            states: vec![first],
            known: [0; 2],
            writer,
        }
    }

    fn present(&self) -> &Record {
        &self.states[self.states.len() - 1]
    }

    fn is_now(&mut self, newer: Record, writer: usize) {
        self.known[writer] = self.states.len();
        self.states.push(newer);
        self.writer = writer;
    }

    /// A node finds what was written there last, or what is newer.
    #[track_caller]
    fn assert_found(&self, node: usize, found: Option<&Record>) {
        let (known, last) = (self.known[node], self.states.len() - 1);
        let place = self.states.iter().position(|state| Some(state) == found);
        assert!(place >= Some(known), "{place:?} of {known} to {last}");
    }
}

impl<C: RecordCache> Client<C> {
    async fn run(mut self) -> Vec<Fate> {
        let mut session = self.begin(0).await;
        while !self.orders.stop.load(SeqCst) {
            let [node, what, which, ..] = *new_id().as_bytes();
            let node = usize::from(node % 2);
            match what {
                0..128 => self.look_back(usize::from(which)).await,
                128..216 => self.update(node, &mut session).await,
                216..240 => session = self.rotate(node, session).await,
                240.. => session = self.end(node, session).await,
            }
            let found = self.done(self.nodes[node].load(&session.id)).await;
            session.assert_found(node, found.as_ref());
        }
        self.past.push(Fate {
            record: Some(session.present().clone()),
            id: session.id,
            writer: session.writer,
        });
        self.past
    }

    async fn begin(&self, node: usize) -> Session {
        let (id, first) = (new_id(), record(now(), HOUR, None));
        let created = self.done(self.nodes[node].create(&id, &first)).await;
        assert_eq!(created, Created::Done);
        Session::new(id, first, node)
    }

    async fn update(&self, node: usize, session: &mut Session) {
        let (present, newer) = (session.present(), next(session.present()));
        let update = self.nodes[node].update(&session.id, &newer, present.version);
        let (updated, ()) = tokio::join!(self.done(update), self.others_read(&session.id));
        assert_eq!(updated, Updated::Done);
        session.is_now(newer, node);
    }

    async fn rotate(&mut self, node: usize, session: Session) -> Session {
        let (new, newer) = (new_id(), next(session.present()));
        let expected = session.present().version;
        let rotate = self.nodes[node].rotate(&session.id, &new, &newer, expected);
        let (rotated, ()) = tokio::join!(self.done(rotate), self.others_read(&session.id));
        assert_eq!(rotated, Rotated::Done);
        self.is_past(node, session.id).await;
        Session::new(new, newer, node)
    }

    async fn end(&mut self, node: usize, session: Session) -> Session {
        let delete = self.nodes[node].delete(&session.id);
        let (deleted, ()) = tokio::join!(self.done(delete), self.others_read(&session.id));
        assert!(deleted, "it was alive");
        self.is_past(node, session.id).await;
        self.begin(node).await
    }

    async fn is_past(&mut self, writer: usize, id: RecordId) {
        assert_eq!(self.done(self.nodes[writer].load(&id)).await, None);
        let record = None;
        self.past.push(Fate { id, writer, record });
    }

    /// What was ended through a node is not found there again.
    async fn look_back(&self, which: usize) {
        let Some(number) = which.checked_rem(self.past.len()) else {
            return;
        };
        let Fate { id, writer, .. } = &self.past[number];
        assert_eq!(self.done(self.nodes[*writer].load(id)).await, None);
    }

    /// Readers on both nodes, which race with a write.
    async fn others_read(&self, id: &RecordId) {
        let [here, there] = &self.nodes;
        tokio::join!(self.done(here.load(id)), self.done(there.load(id)));
    }

    /// Waits for an operation, none of which fails.
    async fn done<T>(&self, operation: impl Future<Output = Result<T, StoreError>>) -> T {
        let was_away = self.orders.is_away.load(SeqCst);
        let began = Instant::now();
        let answer = operation.await.unwrap();
        let took = began.elapsed();
        self.progress.operations.fetch_add(1, SeqCst);
        if was_away && self.orders.is_away.load(SeqCst) {
            self.progress.away.fetch_add(1, SeqCst);
            let slow = u64::from(took >= CACHE_TIMEOUT);
            self.progress.slow.fetch_add(slow, SeqCst);
        }
        answer
    }
}

const CLIENTS: usize = 12;

/// Of each client before an outage, during it, and after it.
const OPERATIONS: u64 = 150;

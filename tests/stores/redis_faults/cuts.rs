//! Connections that are cut at every byte of every operation.

use std::time::{Duration, Instant};

use tokio::{task::JoinSet, time::timeout};
use tower_keep::{
    Created, Record, RecordId, RedisStore, Rotated, ScanSessions, SessionStore, StoreError,
    Updated, UserId, UserSessions, testing::Operation,
};
use tower_keep_servers::{Direction, FaultProxy, Kind, Server};

use crate::{
    redis_places::patient,
    sql_places::{HOUR, new_id, next, now, record},
    support::{Answer, Browser, PATIENCE, app, eventually, layer_over, one_in, some_of},
};

/// A store whose connection is cut, and the same one with a good connection.
struct Cutter {
    proxy: FaultProxy,
    behind: RedisStore,
    direct: RedisStore,
}

impl Cutter {
    async fn new(name: &str) -> Self {
        let server = Server::shared(Kind::Redis).await;
        let proxy = FaultProxy::to(server.address()).await;
        let prefix = format!("cut-{}", name.replace('/', "-"));
        let open = |url: &str| patient(url).with_prefix(&*prefix);
        Self {
            behind: open(&server.url_at(proxy.port())),
            direct: open(&server.url()),
            proxy,
        }
    }

    /// The next connection that gets so far ends there, in one of the two ways.
    fn cut_after(&self, direction: Direction, bytes: u64) {
        match bytes % 2 {
            0 => self.proxy.cut_after(direction, bytes),
            _ => self.proxy.reset_after(direction, bytes),
        }
    }

    /// How many bytes go each way while this is done by so many new connections. `None` if there were more, as when one was
    /// silent for long.
    async fn measure(
        &self,
        connections: u64,
        exchange: impl Future<Output = ()>,
    ) -> Option<Exchange> {
        let before = self.proxy.traffic();
        exchange.await;
        let after = self.proxy.traffic();
        let made = after.connections - before.connections;
        (made == connections).then_some([
            (Direction::ToServer, after.to_server - before.to_server),
            (Direction::ToClient, after.to_client - before.to_client),
        ])
    }
}

type Exchange = [(Direction, u64); 2];

const OPERATIONS: [Operation; 6] = [
    Operation::Load,
    Operation::Create,
    Operation::Update,
    Operation::Rotate,
    Operation::Touch,
    Operation::Delete,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_at_any_byte_costs_no_error_and_what_is_sent_again_is_done_once() {
    let mut operations = JoinSet::new();
    for operation in OPERATIONS {
        operations.spawn(async move {
            let cutter = Cutter::new(&format!("{operation:?}")).await;
            // Connects, and has the script remembered by the server.
            Case::new(operation, &cutter)
                .await
                .run(&cutter.behind)
                .await
                .unwrap();
            let exchange = eventually("an exchange", || async {
                let case = Case::new(operation, &cutter).await;
                let run = async { case.run(&cutter.behind).await.unwrap() };
                cutter.measure(0, run).await
            });
            let exchange = exchange.await;
            for (direction, bytes) in exchange {
                for after in some_of(0..bytes, one_in(3)) {
                    let cut = cut(operation, &cutter, direction, after);
                    let cut = timeout(PATIENCE, cut).await;
                    cut.unwrap_or_else(|_| panic!("{operation:?} {direction:?} {after}"));
                }
            }
            eprintln!("{operation:?}: {exchange:?}");
        });
    }
    while let Some(cut) = operations.join_next().await {
        cut.unwrap();
    }
}

async fn cut(operation: Operation, cutter: &Cutter, direction: Direction, after: u64) {
    let place = format!("{operation:?} {direction:?} {after}");
    let case = Case::new(operation, cutter).await;
    let cuts = cutter.proxy.traffic().cuts;
    cutter.cut_after(direction, after);
    let done = case.run(&cutter.behind).await;
    done.unwrap_or_else(|error| panic!("{place}: {error:?}"));
    cutter.proxy.wait_until(|t| t.cuts > cuts).await;
    assert_eq!(case.state(&cutter.direct).await, case.after, "{place}");
    // What the layer may send again.
    let again = case.run(&cutter.behind).await;
    again.unwrap_or_else(|error| panic!("{place}: {error:?}"));
    assert_eq!(case.state(&cutter.direct).await, case.after, "{place}");
    cutter.direct.delete_all_of(&case.user, None).await.unwrap();
}

/// One operation on the session of a user who has no other.
struct Case {
    operation: Operation,
    user: UserId,
    id: RecordId,
    new_id: RecordId,
    old: Record,
    new: Record,
    after: Vec<(RecordId, Record)>,
}

impl Case {
    async fn new(operation: Operation, cutter: &Cutter) -> Self {
        let (id, new_id) = (new_id(), new_id());
        let name = format!("user-{}", &id.to_hex()[..16]);
        let old = record(now(), HOUR, Some(&name));
        let mut new = next(&old);
        new.expires_at = old.expires_at.saturating_add(Duration::from_secs(1));
        let mut touched = old.clone();
        touched.expires_at = new.expires_at;
        let after = match operation {
            Operation::Update => vec![(id, new.clone())],
            Operation::Rotate => vec![(new_id, new.clone())],
            Operation::Touch => vec![(id, touched)],
            Operation::Delete => vec![],
            _ => vec![(id, old.clone())],
        };
        if operation != Operation::Create {
            let created = cutter.direct.create(&id, &old).await.unwrap();
            assert_eq!(created, Created::Done);
        }
        Self {
            operation,
            user: old.user.clone().unwrap(),
            id,
            new_id,
            old,
            new,
            after,
        }
    }

    /// Does it, the second time with the same token as the first time.
    async fn run(&self, store: &RedisStore) -> Result<(), StoreError> {
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

    /// What is there, by the index of the user and by each of the ids.
    async fn state(&self, direct: &RedisStore) -> Vec<(RecordId, Record)> {
        let found = direct.sessions_of(&self.user).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|s| (s.id, s.record)).collect();
        for id in [self.id, self.new_id] {
            let loaded = direct.load(&id).await.unwrap();
            let listed = found.iter().find(|(listed, _)| *listed == id);
            assert_eq!(loaded.as_ref(), listed.map(|(_, record)| record));
        }
        found
    }
}

const COOKIE: &str = "__Host-id";
const REQUESTS: [&str; 4] = ["/count/n", "/cycle", "/logout", "/login/ada"];

/// Each place of a cut costs several requests, so not all places are tried here; the operations above
/// are cut at each of them.
const STEP: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_connection_is_cut_is_done_once_and_hands_out_an_id_that_lives() {
    let mut requests = JoinSet::new();
    for path in REQUESTS {
        requests.spawn(async move {
            let site = CutSite::new(path).await;
            site.served(site.known().await).await;
            let exchange = eventually("an exchange", || async {
                let known = site.known().await;
                let request = async { drop(site.served(known).await) };
                site.cutter.measure(0, request).await
            });
            let exchange = exchange.await;
            for (direction, bytes) in exchange {
                for after in (0..bytes).step_by(STEP) {
                    let cut = timeout(PATIENCE, site.cut(direction, after)).await;
                    cut.unwrap_or_else(|_| panic!("{path} {direction:?} {after}"));
                }
            }
            eprintln!("{path}: {exchange:?}");
        });
    }
    while let Some(cut) = requests.join_next().await {
        cut.unwrap();
    }
}

/// An application whose connection to the store is cut, and the same one with a good connection.
struct CutSite {
    path: &'static str,
    cutter: Cutter,
    behind: Browser,
    direct: Browser,
}

impl CutSite {
    async fn new(path: &'static str) -> Self {
        let cutter = Cutter::new(path).await;
        let browser = |store: &RedisStore| Browser::new(&app(layer_over(store.clone())));
        Self {
            path,
            behind: browser(&cutter.behind),
            direct: browser(&cutter.direct),
            cutter,
        }
    }

    /// A browser with a session, over the good connection.
    async fn known(&self) -> Browser {
        let mut known = self.direct.stranger();
        known.post("/put/who/me").await.assert_ok();
        known
    }

    /// The request, over the bad connection.
    async fn served(&self, known: Browser) -> (Browser, Answer) {
        let mut browser = self.behind.stranger();
        browser.set_cookie(COOKIE, known.id().unwrap());
        let answer = browser.post(self.path).await;
        (browser, answer)
    }

    async fn cut(&self, direction: Direction, after: u64) {
        let place = format!("{} {direction:?} {after}", self.path);
        let mut known = self.known().await;
        let old = known.id().unwrap().to_owned();
        let cuts = self.cutter.proxy.traffic().cuts;
        self.cutter.cut_after(direction, after);
        let (browser, answer) = self.served(known.clone()).await;
        self.cutter.proxy.wait_until(|t| t.cuts > cuts).await;
        assert_eq!(answer.status, 200, "{place}: {answer:?}");

        let of_the_old = known.get("/dump").await.assert_ok().body;
        if self.path == "/count/n" {
            assert_eq!(answer.body, "1", "{place}");
            assert_eq!(of_the_old, r#"{"n":1,"who":"me"}"#, "{place}");
            return;
        }
        assert_eq!(of_the_old, "{}", "{place}: the old id is dead");
        answer.the_cookie();
        let Some(new) = browser.id() else {
            assert_eq!(self.path, "/logout", "{place}");
            return;
        };
        assert_ne!(new, old, "{place}");
        known.set_cookie(COOKIE, new);
        let found = known.get("/dump").await.assert_ok().body;
        assert_eq!(found, r#"{"who":"me"}"#, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_while_it_is_made_is_made_again() {
    let cutter = Cutter::new("connect").await;
    let exchange = cutter.measure_connect().await;
    for (direction, bytes) in exchange {
        for after in some_of(0..bytes, one_in(3)) {
            cutter.proxy.cut_now();
            cutter.cut_after(direction, after);
            let cuts = cutter.proxy.traffic().cuts;
            let store = cutter.fresh();
            let found = timeout(PATIENCE, store.load(&new_id())).await;
            assert_eq!(found.unwrap().unwrap(), None, "{direction:?} {after}");
            assert!(cutter.proxy.traffic().cuts > cuts);
        }
    }
    eprintln!("connect: {exchange:?}");
}

impl Cutter {
    /// The same store that has not connected yet.
    fn fresh(&self) -> RedisStore {
        patient(&format!("redis://127.0.0.1:{}", self.proxy.port()))
    }

    async fn measure_connect(&self) -> Exchange {
        eventually("a connection", || async {
            let load = async { drop(self.fresh().load(&new_id()).await.unwrap()) };
            self.measure(1, load).await
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_goes_silent_is_replaced_within_the_timeout() {
    let cutter = Cutter::new("silent").await;
    assert_eq!(cutter.behind.load(&new_id()).await.unwrap(), None);
    let store = cutter.behind.clone().with_timeout(Duration::from_secs(2));
    cutter.proxy.pause();
    // Of the host that has gone nobody says so; from another one there would be an answer.
    let nobody = new_id();
    let silent = store.load(&nobody);
    super::in_time(Duration::from_secs(2), silent)
        .await
        .unwrap_err();
    cutter.proxy.resume();
    super::recovers("a silent network", Instant::now(), || async {
        super::in_time(Duration::from_secs(2), store.load(&new_id()))
            .await
            .ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_scan_that_is_cut_are_complete() {
    let cutter = Cutter::new("scan").await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        let id = new_id();
        let created = cutter.direct.create(&id, &record(now(), HOUR, None)).await;
        assert_eq!(created.unwrap(), Created::Done);
        ids.push(id);
    }
    ids.sort();
    let scan = async || {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = cutter.behind.scan(after.as_ref(), 10_000).await.unwrap();
            found.extend(page.sessions.iter().map(|session| session.id));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        found.sort();
        found.dedup();
        found
    };
    assert_eq!(scan().await, ids);
    for (direction, step) in [(Direction::ToServer, 97), (Direction::ToClient, 211)] {
        for after in (0..2000).step_by(step) {
            cutter.cut_after(direction, after);
            assert_eq!(scan().await, ids, "{direction:?} {after}");
            cutter.proxy.heal();
        }
    }
}

/// redis-rs 1.8 drops a command without a word that is handed to a connection just when that ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_many_operations_in_parallel_waits_for_its_time_when_the_connection_is_cut() {
    const ROUNDS: u64 = 300;
    const CALLERS: usize = 20;
    let cutter = Cutter::new("crowd").await;
    let (mut began, mut failed) = (0, Vec::<(u64, (Duration, StoreError))>::new());
    for round in 0..ROUNDS {
        let cuts = cutter.proxy.traffic().cuts;
        cutter
            .proxy
            .cut_after(Direction::ToServer, 97 * (round % 20));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let store = cutter.behind.clone().with_timeout(Duration::from_secs(10));
            callers.spawn(async move {
                let started = Instant::now();
                let loads = [new_id(), new_id(), new_id()];
                for id in &loads {
                    store
                        .load(id)
                        .await
                        .map_err(|error| (started.elapsed(), error))?;
                }
                Ok::<_, (Duration, StoreError)>(loads.len())
            });
        }
        while let Some(loaded) = callers.join_next().await {
            match loaded.unwrap() {
                Ok(loads) => began += loads,
                Err(error) => failed.push((round, error)),
            }
        }
        cutter.proxy.wait_until(|t| t.cuts > cuts).await;
    }
    assert!(failed.is_empty(), "{} of {began}: {failed:?}", failed.len());
}

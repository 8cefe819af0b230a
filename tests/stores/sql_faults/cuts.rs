//! Connections that are cut at every byte of every operation.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use tower_keep::{
    Created, Record, RecordId, Rotated, SessionLayer, StoreError, StoreErrorKind, Updated, UserId,
    UserSessions, testing::Operation,
};
use tower_keep_servers::{Direction, FaultProxy, Kind, Server};

use super::{Opened, Pool, new_id, new_user, on_each_server, record_of};
use crate::support::{Answer, Browser, PATIENCE, app, new_table, one_in, some_of};

on_each_server! {
    a_connection_cut_at_any_byte_leaves_the_old_state_or_the_new_and_what_is_sent_again_is_done_once
    a_request_whose_connection_is_cut_at_any_byte_loses_no_session_and_hands_out_no_dead_id
}

const OPERATIONS: [Operation; 6] = [
    Operation::Load,
    Operation::Create,
    Operation::Update,
    Operation::Rotate,
    Operation::Touch,
    Operation::Delete,
];

/// One connection, which is not asked whether it is alive: the bytes are those of the operation,
/// and of the question that the pool asks when it gets the connection back.
const ONE: Pool = Pool {
    connections: 1,
    test_before_acquire: false,
    acquire_timeout: PATIENCE,
};

async fn a_connection_cut_at_any_byte_leaves_the_old_state_or_the_new_and_what_is_sent_again_is_done_once(
    kind: Kind,
) {
    let mut operations = JoinSet::new();
    for operation in OPERATIONS {
        operations.spawn(async move {
            let cutter = Cutter::new(kind, operation).await;
            cutter.cut_everywhere().await
        });
    }
    while let Some(cut) = operations.join_next().await {
        eprintln!("{kind:?}: {}", cut.unwrap());
    }
}

struct Cutter {
    operation: Operation,
    proxy: FaultProxy,
    /// Through the proxy.
    behind: Opened,
    direct: Opened,
}

impl Cutter {
    async fn new(kind: Kind, operation: Operation) -> Self {
        let server = Server::shared(kind).await;
        let proxy = FaultProxy::to(server.address()).await;
        let url = server.url_at(proxy.port());
        let table = new_table();
        Self {
            operation,
            direct: Opened::new(kind, &server.url(), &table, ONE).await,
            behind: Opened::new(kind, &url, &table, ONE).await,
            proxy,
        }
    }

    /// Answers what it has done.
    async fn cut_everywhere(&self) -> String {
        let (mut failed, mut applied) = (0, 0);
        let exchange = self.measure().await;
        for (direction, bytes) in exchange {
            for after in some_of(0..bytes, one_in(3)) {
                let cut = timeout(PATIENCE, self.cut(direction, after)).await;
                let (was_error, was_applied) =
                    cut.unwrap_or_else(|_| panic!("{direction:?} {after}: no answer"));
                failed += u32::from(was_error);
                applied += u32::from(was_applied);
            }
        }
        format!(
            "{:?}: {exchange:?}, {failed} errors, {applied} of them after it was applied",
            self.operation
        )
    }

    /// How many bytes go each way, from a pool at rest to a pool at rest.
    async fn measure(&self) -> [(Direction, u64); 2] {
        self.warm_up().await;
        let before = self.proxy.traffic();
        let case = self.case().await;
        case.run(&*self.behind.store).await.unwrap();
        assert_eq!(self.behind.idle().await.connections, 1);
        let after = self.proxy.traffic();
        assert_eq!(after.connections, before.connections);
        [
            (Direction::ToServer, after.to_server - before.to_server),
            (Direction::ToClient, after.to_client - before.to_client),
        ]
    }

    /// Connects, and has the statement prepared.
    async fn warm_up(&self) {
        let other = self.case().await;
        other.run(&*self.behind.store).await.unwrap();
        assert_eq!(self.behind.idle().await.connections, 1);
    }

    async fn cut(&self, direction: Direction, after: u64) -> (bool, bool) {
        let place = format!("{:?} {direction:?} {after}", self.operation);
        self.warm_up().await;
        let case = self.case().await;
        let cuts = self.proxy.traffic().cuts;
        match after % 2 {
            0 => self.proxy.cut_after(direction, after),
            _ => self.proxy.reset_after(direction, after),
        }
        let first = case.run(&*self.behind.store).await;
        self.proxy.wait_until(|t| t.cuts > cuts).await;
        self.proxy.heal();

        let state = case.state(&self.direct).await;
        match &first {
            Ok(()) => assert_eq!(state, case.after, "{place}"),
            Err(error) => {
                // What the layer sends again.
                assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{place}");
                let states = [&case.before, &case.after];
                assert!(states.contains(&&state), "{place}: {state:?}");
            }
        }
        self.behind.idle().await;
        let again = case.run(&*self.behind.store).await;
        again.unwrap_or_else(|error| panic!("{place}: {error:?}"));
        assert_eq!(case.state(&self.direct).await, case.after, "{place}");
        assert_eq!(self.behind.idle().await.connections, 1, "{place}");
        case.clean_up(&self.direct).await;
        let changes = case.before != case.after;
        (
            first.is_err(),
            first.is_err() && changes && state == case.after,
        )
    }

    /// A session to do it to, which is there if it has to be.
    async fn case(&self) -> Case {
        let case = Case::new(self.operation);
        for (id, record) in &case.before {
            let created = self.direct.store.create(id, record).await.unwrap();
            assert_eq!(created, Created::Done);
        }
        case
    }
}

/// One operation on the session of a user who has no other.
struct Case {
    operation: Operation,
    user: UserId,
    id: RecordId,
    new_id: RecordId,
    old: Record,
    new: Record,
    before: Vec<(RecordId, Record)>,
    after: Vec<(RecordId, Record)>,
}

impl Case {
    fn new(operation: Operation) -> Self {
        let user = new_user();
        let (id, new_id) = (new_id(), new_id());
        let old = record_of(&user, 1, b"old");
        let mut new = record_of(&user, 2, b"new");
        new.expires_at = old.expires_at.saturating_add(Duration::from_secs(1));
        let before = vec![(id, old.clone())];
        let (before, after) = match operation {
            Operation::Create => (vec![], before),
            Operation::Update => (before, vec![(id, new.clone())]),
            Operation::Rotate => (before, vec![(new_id, new.clone())]),
            Operation::Touch => {
                let mut touched = old.clone();
                touched.expires_at = new.expires_at;
                (before, vec![(id, touched)])
            }
            Operation::Delete => (before, vec![]),
            _ => (before.clone(), before),
        };
        Self {
            operation,
            user,
            id,
            new_id,
            old,
            new,
            before,
            after,
        }
    }

    /// Does it, the second time with the same token as the first time.
    async fn run(&self, store: &dyn UserSessions) -> Result<(), StoreError> {
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

    /// What is there, by one statement: no rotation gets between two looks.
    async fn state(&self, direct: &Opened) -> Vec<(RecordId, Record)> {
        let found = direct.store.sessions_of(&self.user).await.unwrap();
        found.into_iter().map(|s| (s.id, s.record)).collect()
    }

    async fn clean_up(&self, direct: &Opened) {
        let ended = direct.store.delete_all_of(&self.user, None).await;
        let _ = ended.unwrap();
    }
}

const REQUESTS: [&str; 4] = ["/count/n", "/cycle", "/logout", "/login/ada"];

async fn a_request_whose_connection_is_cut_at_any_byte_loses_no_session_and_hands_out_no_dead_id(
    kind: Kind,
) {
    let mut requests = JoinSet::new();
    for path in REQUESTS {
        requests.spawn(async move {
            let site = CutSite::new(kind, path).await;
            site.cut_everywhere().await
        });
    }
    while let Some(cut) = requests.join_next().await {
        eprintln!("{kind:?}: {}", cut.unwrap());
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
    async fn new(kind: Kind, path: &'static str) -> Self {
        let cutter = Cutter::new(kind, Operation::Load).await;
        let browser = |opened: &Opened| {
            let layer = SessionLayer::new(Arc::clone(&opened.store));
            Browser::new(&app(layer.with_store_timeout(PATIENCE)))
        };
        Self {
            path,
            behind: browser(&cutter.behind),
            direct: browser(&cutter.direct),
            cutter,
        }
    }

    async fn cut_everywhere(&self) -> String {
        self.warm_up().await;
        let before = self.cutter.proxy.traffic();
        self.warm_up().await;
        let after = self.cutter.proxy.traffic();
        assert_eq!(after.connections, before.connections);
        let exchange = [
            (Direction::ToServer, after.to_server - before.to_server),
            (Direction::ToClient, after.to_client - before.to_client),
        ];
        let mut failed = 0;
        for (direction, bytes) in exchange {
            for after in some_of(0..bytes, one_in(3)) {
                let cut = timeout(PATIENCE, self.cut(direction, after)).await;
                let answer = cut.unwrap_or_else(|_| panic!("{direction:?} {after}: no answer"));
                failed += u32::from(answer.status != 200);
            }
        }
        format!("{}: {exchange:?}, {failed} answered 503", self.path)
    }

    /// A browser with a session, over the good connection.
    async fn known(&self) -> Browser {
        let mut known = self.direct.stranger();
        known.post("/put/who/me").await.assert_ok();
        known
    }

    async fn warm_up(&self) {
        let mut other = self.behind.stranger();
        other.set_cookie(COOKIE, self.known().await.id().unwrap());
        other.post(self.path).await.assert_ok();
        assert_eq!(self.cutter.behind.idle().await.connections, 1);
    }

    async fn cut(&self, direction: Direction, after: u64) -> Answer {
        let place = format!("{} {direction:?} {after}", self.path);
        self.warm_up().await;
        let mut known = self.known().await;
        let old = known.id().unwrap().to_owned();
        let mut browser = self.behind.stranger();
        browser.set_cookie(COOKIE, &old);
        let proxy = &self.cutter.proxy;
        let cuts = proxy.traffic().cuts;
        match after % 2 {
            0 => proxy.cut_after(direction, after),
            _ => proxy.reset_after(direction, after),
        }
        let answer = browser.post(self.path).await;
        proxy.wait_until(|t| t.cuts > cuts).await;
        proxy.heal();
        self.cutter.behind.idle().await;

        let of_the_old = known.get("/dump").await.assert_ok().body;
        if answer.status == 503 {
            assert_eq!(answer.set_cookies(), [""; 0], "{place}");
            let may_be = match self.path {
                "/logout" => vec![ME, "{}"],
                "/count/n" => vec![ME, COUNTED],
                // The id has not changed, or the client would have lost its session.
                _ => vec![ME],
            };
            assert!(may_be.contains(&&*of_the_old), "{place}: {of_the_old}");
            return answer;
        }
        let answer = answer.assert_ok();
        if self.path == "/count/n" {
            assert_eq!(of_the_old, COUNTED, "{place}");
            return answer;
        }
        assert_eq!(of_the_old, "{}", "{place}: the old id is dead");
        if let Some(new) = browser.id() {
            assert_ne!(new, old);
            known.set_cookie(COOKIE, new);
            let found = known.get("/dump").await.assert_ok().body;
            assert_eq!(found, ME, "{place}");
        }
        assert_eq!(browser.id().is_none(), self.path == "/logout", "{place}");
        answer
    }
}

const COOKIE: &str = "__Host-id";
const ME: &str = r#"{"who":"me"}"#;
const COUNTED: &str = r#"{"n":1,"who":"me"}"#;

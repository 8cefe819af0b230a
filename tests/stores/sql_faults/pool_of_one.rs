//! One connection, and requests that are dropped while they use it or wait for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use sqlx::{Connection, MySqlConnection, PgConnection};
use tokio::{task::JoinSet, time::timeout};
use tower_keep::{
    Created, Record, RecordId, Rotated, SessionLayer, TableName, Updated, UserId, Version,
    testing::Operation,
};
use tower_keep_servers::{Kind, Server};

use super::{AnyStore, Opened, Pool, new_id, new_user, on_each_server, record_of};
use crate::support::{Browser, PATIENCE, abandon_after, app, eventually, new_table};

on_each_server! {
    a_pool_of_one_stays_usable_and_true_whatever_requests_are_aborted
    a_pool_of_one_stays_usable_and_true_whatever_operations_are_dropped
}

const USERS: u64 = 12;
const WORKERS: u64 = 6;
const ABORTS: usize = 1500;

const ONE: Pool = Pool {
    connections: 1,
    acquire_timeout: PATIENCE,
    ..Pool::ADVISED
};

/// A database of a test's own, whose connections it can count.
struct Database {
    kind: Kind,
    name: String,
    server: &'static Server,
}

impl Database {
    async fn new(kind: Kind) -> Self {
        let server = Server::shared(kind).await;
        let name = new_table().to_string();
        let create = format!("CREATE DATABASE {name}");
        let create = sqlx::AssertSqlSafe(create);
        if kind == Kind::Postgres {
            let mut connection = PgConnection::connect(&server.url()).await.unwrap();
            sqlx::raw_sql(create)
                .execute(&mut connection)
                .await
                .unwrap();
        } else {
            let mut connection = MySqlConnection::connect(&server.url()).await.unwrap();
            sqlx::raw_sql(create)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        Self { kind, name, server }
    }

    async fn open(&self) -> Opened {
        let url = self.server.url();
        let (server, _) = url.rsplit_once('/').unwrap();
        let url = format!("{server}/{}", self.name);
        Opened::new(self.kind, &url, &TableName::default(), ONE).await
    }

    /// How many connections the server has there.
    async fn connections(&self) -> i64 {
        let url = self.server.url();
        if self.kind == Kind::Postgres {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
            let count = sqlx::query_scalar(count).bind(&self.name);
            count.fetch_one(&mut connection).await.unwrap()
        } else {
            let mut connection = MySqlConnection::connect(&url).await.unwrap();
            let count = "SELECT count(*) FROM information_schema.processlist WHERE db = ?";
            let count = sqlx::query_scalar(count).bind(&self.name);
            count.fetch_one(&mut connection).await.unwrap()
        }
    }

    /// One connection in the pool and one at the server.
    async fn assert_well(&self, opened: &Opened) {
        assert!(opened.count().await > 0);
        let size = opened.idle().await;
        assert_eq!(size.connections, 1);
        eventually("end of the other connections", || async {
            (self.connections().await == 1).then_some(())
        })
        .await;
    }
}

async fn a_pool_of_one_stays_usable_and_true_whatever_requests_are_aborted(kind: Kind) {
    let database = Database::new(kind).await;
    let opened = database.open().await;
    let layer = SessionLayer::new(Arc::clone(&opened.store)).with_store_timeout(PATIENCE);
    let anybody = Browser::new(&app(layer.clone()));
    let mut users = Vec::new();
    for user in 0..USERS {
        let mut browser = anybody.stranger();
        browser
            .post(&format!("/put/canary/{user}"))
            .await
            .assert_ok();
        browser
            .post(&format!("/login/user{user}"))
            .await
            .assert_ok();
        users.push(browser);
    }
    let users = Arc::new(users);
    let aborts = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for seed in 0..WORKERS {
        let (users, aborts) = (Arc::clone(&users), Arc::clone(&aborts));
        workers.spawn(async move {
            let mut random = Lcg(seed);
            while aborts.load(SeqCst) < ABORTS {
                let user = random.below(USERS);
                let mut browser = users[usize::try_from(user).unwrap()].clone();
                let path = match random.below(4) {
                    0 => format!("/put/canary/{user}"),
                    1 => "/remove/n".into(),
                    _ => "/count/n".into(),
                };
                match drop_at_random(&mut random, browser.post(&path)).await {
                    Some(answer) => drop(answer.assert_ok()),
                    None => drop(aborts.fetch_add(1, SeqCst)),
                }
                let canary = browser.get("/get/canary").await.assert_ok();
                assert_eq!(canary.body, format!("\"{user}\""));
                let whoami = browser.get("/whoami").await.assert_ok();
                assert_eq!(whoami.body, format!("user{user}"));
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    layer.drain().await;
    database.assert_well(&opened).await;
    for browser in users.iter() {
        let mut browser = browser.clone();
        browser.post("/remove/n").await.assert_ok();
        assert_eq!(browser.post("/count/n").await.assert_ok().body, "1");
        browser.post("/logout").await.assert_ok();
        assert_eq!(browser.get("/whoami").await.assert_ok().body, "-");
    }
    assert_eq!(opened.count().await, 0);
}

/// The layer does not drop every operation that it could; here each is dropped.
async fn a_pool_of_one_stays_usable_and_true_whatever_operations_are_dropped(kind: Kind) {
    let database = Database::new(kind).await;
    let opened = database.open().await;
    let aborts = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for seed in 0..WORKERS {
        let (store, aborts) = (Arc::clone(&opened.store), Arc::clone(&aborts));
        workers.spawn(async move {
            let mut random = Lcg(seed);
            let mut owner = Owner::new(store).await;
            while aborts.load(SeqCst) < ABORTS {
                if owner.act(&mut random).await {
                    aborts.fetch_add(1, SeqCst);
                }
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    database.assert_well(&opened).await;
}

/// The only one to write a session, who knows what may be in it.
struct Owner {
    store: Arc<dyn AnyStore>,
    user: UserId,
    id: RecordId,
    present: Record,
}

impl Owner {
    async fn new(store: Arc<dyn AnyStore>) -> Self {
        let user = new_user();
        let (id, present) = (new_id(), record_of(&user, 1, user.as_str().as_bytes()));
        assert_eq!(store.create(&id, &present).await.unwrap(), Created::Done);
        Self {
            store,
            user,
            id,
            present,
        }
    }

    /// Begins an operation and perhaps drops it. Answers whether it did.
    async fn act(&mut self, random: &mut Lcg) -> bool {
        let revision = self.present.version.revision + 1;
        let next = record_of(&self.user, revision, self.user.as_str().as_bytes());
        let (expected, new_id) = (self.present.version, new_id());
        let operation = match random.below(4) {
            0 => Operation::Load,
            1 => Operation::Update,
            2 => Operation::Rotate,
            _ => Operation::Touch,
        };
        let store = &*self.store;
        let work = async {
            match operation {
                Operation::Load => {
                    let found = store.load(&self.id).await.unwrap();
                    assert_eq!(found, Some(self.present.clone()));
                }
                Operation::Update => {
                    let updated = store.update(&self.id, &next, expected).await;
                    assert_eq!(updated.unwrap(), Updated::Done);
                }
                Operation::Rotate => {
                    let rotated = store.rotate(&self.id, &new_id, &next, expected).await;
                    assert_eq!(rotated.unwrap(), Rotated::Done);
                }
                _ => {
                    let later = next.expires_at;
                    assert!(store.touch(&self.id, later, expected).await.unwrap());
                }
            }
        };
        let dropped = drop_at_random(random, work).await.is_none();
        self.look(&[self.present.version, next.version], [self.id, new_id])
            .await;
        dropped
    }

    /// The session is there once, in one of these versions and under one of these ids.
    async fn look(&mut self, versions: &[Version], ids: [RecordId; 2]) {
        let mut found = self.store.sessions_of(&self.user).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        let found = found.remove(0);
        assert!(ids.contains(&found.id));
        assert!(versions.contains(&found.record.version), "{found:?}");
        assert_eq!(found.record.user.as_ref(), Some(&self.user));
        assert_eq!(
            found.record.payload.as_bytes(),
            self.user.as_str().as_bytes()
        );
        (self.id, self.present) = (found.id, found.record);
    }
}

/// Drops a future after so many polls or so much time, unless it is through before.
async fn drop_at_random<F: Future>(random: &mut Lcg, future: F) -> Option<F::Output> {
    let much = random.below(60);
    match random.below(2) {
        0 => abandon_after(usize::try_from(much).unwrap(), future).await,
        _ => timeout(Duration::from_micros(much * 50), future).await.ok(),
    }
}

/// The linear congruential generator of Knuth's MMIX: the same numbers in every run.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, bound: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

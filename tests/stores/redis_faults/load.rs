//! Clients that count and read all the time, through an application and on the store itself.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use axum::Router;
use tokio::{task::JoinSet, time::timeout};
use tower_keep::{
    Created, Record, RecordId, RedisStore, SessionLayer, SessionStore, StoreErrorKind, Updated,
};

use super::CUSHION;
use crate::{
    redis_places::{id_of, session_key},
    sql_places::{HOUR, new_id, next, now, record},
    support::{Answer, Browser, app, eventually},
};

/// Clients at work, each in a session of its own. They wait for long, until they are told to hurry.
pub(super) struct Load {
    /// For those who wait for long.
    app: Router,
    store: RedisStore,
    clients: Vec<Arc<Client>>,
    tasks: JoinSet<()>,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    round: AtomicU64,
    stop: AtomicBool,
    /// Set by a client that ends, as one does that has panicked.
    ended: AtomicBool,
}

/// What is known of one client.
pub(super) struct Client {
    /// Its session, and the key of that.
    id: RecordId,
    pub(super) key: String,
    is_hurried: AtomicBool,
    /// How often it has begun anew.
    turns: AtomicU64,
    /// Counts that were answered, and counts that may have been done.
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    /// What it has found at the beginning of a round, and counts that were answered since.
    base: AtomicU64,
    acknowledged_since: AtomicU64,
    round: AtomicU64,
    /// Acknowledged counts that were not there at the beginning of a round.
    lost: AtomicU64,
    failures: Mutex<Vec<Failure>>,
    slowest: Mutex<Duration>,
}

/// A request that was not served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

/// What became of a count.
enum Counted {
    Done(u64),
    Unknown,
    Nothing,
}

impl Load {
    /// That many clients of an application, and that many of the store itself.
    pub(super) async fn start(store: &RedisStore, over_http: usize, direct: usize) -> Self {
        let [app, hasty] = LIMITS.map(|limit| {
            let layer = SessionLayer::new(store.clone().with_timeout(limit));
            app(layer.with_store_timeout(limit))
        });
        let store = store.clone().with_timeout(LIMITS[0]);
        let orders = Arc::<Orders>::default();
        let (mut clients, mut tasks) = (Vec::new(), JoinSet::new());
        for number in 0..over_http + direct {
            let user = match number < over_http {
                true => {
                    let mut browser = Browser::new(&app);
                    let login = format!("/login/user-{number}");
                    browser.post(&login).await.assert_ok();
                    let hasty = Browser::new(&hasty).with_id_of(&browser);
                    User::OverHttp([browser, hasty], format!("user-{number}"))
                }
                false => {
                    let first = with_count(record(now(), HOUR, Some("direct")), 0);
                    let id = new_id();
                    let created = store.create(&id, &first).await.unwrap();
                    assert_eq!(created, Created::Done);
                    User::Direct(store.clone(), id)
                }
            };
            let client = Arc::new(Client::new(user.id()));
            clients.push(Arc::clone(&client));
            let orders = Arc::clone(&orders);
            tasks.spawn(
                Runner {
                    user,
                    client,
                    orders,
                }
                .run(),
            );
        }
        Self {
            app,
            store,
            clients,
            tasks,
            orders,
        }
    }

    /// From now on these clients do not wait for long. Answers since when; none of their other calls is left by then.
    pub(super) async fn hurry(&self, clients: &[Arc<Client>]) -> Instant {
        let since = Instant::now();
        for client in clients {
            client.is_hurried.store(true, SeqCst);
        }
        let turn = |client: &Arc<Client>| client.turns.load(SeqCst);
        let before: Vec<u64> = clients.iter().map(turn).collect();
        eventually("another turn", || async {
            let mut pairs = clients.iter().zip(&before);
            let all = pairs.all(|(client, before)| turn(client) > *before);
            (all || self.has_ended()).then_some(())
        })
        .await;
        since
    }

    /// From now on all wait for long again. Answers when: no call that is in a hurry begins later.
    pub(super) fn calm(&self) -> Instant {
        for client in &self.clients {
            client.is_hurried.store(false, SeqCst);
        }
        Instant::now()
    }

    pub(super) fn clients(&self) -> &[Arc<Client>] {
        &self.clients
    }

    /// Waits until each of these clients has counted so many times more.
    pub(super) async fn counts_of(&self, clients: &[Arc<Client>], more: u64) {
        let count = |client: &Arc<Client>| client.acknowledged.load(SeqCst);
        let before: Vec<u64> = clients.iter().map(count).collect();
        eventually("counts", || async {
            let mut pairs = clients.iter().zip(&before);
            let all = pairs.all(|(client, before)| count(client) >= before + more);
            (all || self.has_ended()).then_some(())
        })
        .await;
    }

    pub(super) async fn counts(&self, more: u64) {
        self.counts_of(&self.clients, more).await;
    }

    /// Waits until each client has failed at least once since then.
    pub(super) async fn failures_of_all_since(&self, then: Instant) {
        eventually("failures", || async {
            let mut clients = self.clients.iter();
            let failed = clients.all(|client| {
                let failures = client.failures();
                failures.iter().any(|failure| failure.began > then)
            });
            (failed || self.has_ended()).then_some(())
        })
        .await;
    }

    /// From now on nothing that is acknowledged may be lost. Returns when each client has been
    /// served again, with how many counts were lost till now.
    pub(super) async fn next_round(&self) -> u64 {
        let round = self.orders.round.fetch_add(1, SeqCst) + 1;
        eventually("another round", || async {
            let mut clients = self.clients.iter();
            let all = clients.all(|client| client.round.load(SeqCst) >= round);
            (all || self.has_ended()).then_some(())
        })
        .await;
        self.clients
            .iter()
            .map(|client| client.lost.load(SeqCst))
            .sum()
    }

    /// Whether a stranger is given a session.
    pub(super) async fn serves_a_stranger(&self) -> Option<()> {
        let answer = Browser::new(&self.app).post("/put/a/b").await;
        (answer.status == 200).then_some(())
    }

    /// Ends all clients, which check what they find at last. Answers what was not served.
    pub(super) async fn stop(mut self) -> Vec<Failure> {
        self.orders.stop.store(true, SeqCst);
        while let Some(client) = self.tasks.join_next().await {
            client.unwrap();
        }
        let clients = self.clients.iter();
        let failures = clients.flat_map(|client| client.failures()).collect();
        let total = |of: fn(&Client) -> &AtomicU64| -> u64 {
            self.clients
                .iter()
                .map(|client| of(client).load(SeqCst))
                .sum()
        };
        let slowest = self
            .clients
            .iter()
            .map(|c| *c.slowest.lock().unwrap())
            .max();
        eprintln!(
            "{} counts acknowledged, {} not known; the slowest answer took {:?}",
            total(|client| &client.acknowledged),
            total(|client| &client.unknown),
            slowest.unwrap(),
        );
        failures
    }

    /// The same after an outage, for which no client waits much longer than a store does to be well again.
    pub(super) async fn next_round_after_outage(&self) -> u64 {
        let limit = Duration::from_secs(1) + CUSHION;
        let lost = timeout(limit, self.next_round()).await;
        lost.expect("a client that is not served again")
    }

    /// Whether a question that is asked now is answered soon.
    pub(super) async fn answers(&self, client: &Client) -> Option<()> {
        let soon = Duration::from_secs(1);
        let answer = timeout(soon, self.store.load(&client.id)).await;
        answer.is_ok_and(|answer| answer.is_ok()).then_some(())
    }

    /// A client that has panicked is heard of by `stop`.
    fn has_ended(&self) -> bool {
        self.orders.ended.load(SeqCst)
    }
}

impl Client {
    fn new(id: RecordId) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            id,
            key: session_key("tower-keep", &id),
            is_hurried: AtomicBool::new(false),
            turns: zero(),
            acknowledged: zero(),
            unknown: zero(),
            base: zero(),
            acknowledged_since: zero(),
            round: zero(),
            lost: zero(),
            failures: Mutex::default(),
            slowest: Mutex::default(),
        }
    }

    pub(super) fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap().clone()
    }

    /// Which of the limits it has now.
    fn haste(&self) -> usize {
        usize::from(self.is_hurried.load(SeqCst))
    }

    fn took(&self, began: Instant, limit: Duration, what: &dyn Debug) {
        let took = began.elapsed();
        let mut slowest = self.slowest.lock().unwrap();
        *slowest = took.max(*slowest);
        assert!(took < limit + limit / 10 + CUSHION, "{took:?}: {what:?}");
    }

    fn failed(&self, began: Instant) {
        let ended = Instant::now();
        self.failures.lock().unwrap().push(Failure { began, ended });
    }

    /// No more than was asked for, and no less than was acknowledged in this round.
    fn check(&self, number: u64) {
        let acknowledged = self.acknowledged.load(SeqCst);
        let unknown = self.unknown.load(SeqCst);
        assert!(
            number <= acknowledged + unknown,
            "counted twice: {number} found, {acknowledged} acknowledged, {unknown} not known"
        );
        let base = self.base.load(SeqCst);
        let since = self.acknowledged_since.load(SeqCst);
        assert!(
            number >= base + since,
            "lost: {number} found, {since} acknowledged since it was {base}"
        );
    }

    fn begin_round(&self, round: u64, number: u64) {
        let acknowledged = self.acknowledged.load(SeqCst);
        let lost = acknowledged.saturating_sub(number);
        self.lost.store(lost, SeqCst);
        self.base.store(number, SeqCst);
        self.acknowledged_since.store(0, SeqCst);
        self.round.store(round, SeqCst);
    }
}

/// Whose requests they are.
enum User {
    /// A browser for each of the limits, with the same session; and the name.
    OverHttp([Browser; 2], String),
    Direct(RedisStore, RecordId),
}

struct Runner {
    user: User,
    client: Arc<Client>,
    orders: Arc<Orders>,
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.orders.ended.store(true, SeqCst);
    }
}

impl Runner {
    async fn run(mut self) {
        while !self.orders.stop.load(SeqCst) {
            self.client.turns.fetch_add(1, SeqCst);
            let round = self.orders.round.load(SeqCst);
            if self.client.round.load(SeqCst) < round {
                let number = self.read_at_last().await;
                self.client.begin_round(round, number);
            }
            match self.user.count(&self.client).await {
                Counted::Done(number) => {
                    self.client.acknowledged.fetch_add(1, SeqCst);
                    self.client.acknowledged_since.fetch_add(1, SeqCst);
                    if self.orders.round.load(SeqCst) == self.client.round.load(SeqCst) && round > 0
                    {
                        self.client.check(number);
                    }
                }
                Counted::Unknown => drop(self.client.unknown.fetch_add(1, SeqCst)),
                Counted::Nothing => {}
            }
            self.user.read(&self.client).await;
            tokio::time::sleep(THINKS).await;
        }
        let number = self.read_at_last().await;
        self.client.check(number);
    }

    async fn read_at_last(&mut self) -> u64 {
        loop {
            if let Some(number) = self.user.read(&self.client).await {
                return number;
            }
        }
    }
}

impl User {
    fn id(&self) -> RecordId {
        match self {
            Self::OverHttp([browser, _], _) => id_of(browser),
            Self::Direct(_, id) => *id,
        }
    }

    async fn count(&mut self, client: &Client) -> Counted {
        match self {
            Self::OverHttp(browsers, _) => match send(browsers, "/count/n", client).await {
                Some(answer) => Counted::Done(answer.body.parse().unwrap()),
                None => Counted::Unknown,
            },
            Self::Direct(store, id) => {
                let Some(present) = load(store, id, client).await else {
                    return Counted::Nothing;
                };
                let number = count_of(&present) + 1;
                let newer = with_count(next(&present), number);
                let began = Instant::now();
                let limit = LIMITS[client.haste()];
                let store = store.clone().with_timeout(limit);
                let updated = store.update(id, &newer, present.version).await;
                client.took(began, limit, &updated);
                match updated {
                    Ok(Updated::Done) => Counted::Done(number),
                    // One of its own that was given up has been done after all.
                    Ok(Updated::Conflict(_)) => Counted::Nothing,
                    Ok(Updated::Gone) => panic!("the session is gone"),
                    Err(error) => {
                        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
                        client.failed(began);
                        Counted::Unknown
                    }
                }
            }
        }
    }

    async fn read(&mut self, client: &Client) -> Option<u64> {
        match self {
            Self::OverHttp(browsers, user) => {
                let who = send(browsers, "/whoami", client).await?;
                assert_eq!(who.body, *user, "another's session, or an empty one");
                let number = send(browsers, "/get/n", client).await?;
                Some(number.body.parse().unwrap_or(0))
            }
            Self::Direct(store, id) => Some(count_of(&load(store, id, client).await?)),
        }
    }
}

/// A request that may fail, and in that case must fail well and in time.
async fn send(browsers: &mut [Browser; 2], path: &str, client: &Client) -> Option<Answer> {
    let began = Instant::now();
    let haste = client.haste();
    let browser = &mut browsers[haste];
    let answer = match path.starts_with("/count") {
        true => browser.post(path).await,
        false => browser.get(path).await,
    };
    // For the load and for the write.
    client.took(began, 2 * LIMITS[haste], &answer);
    assert_eq!(answer.set_cookies(), [""; 0], "{path}: {answer:?}");
    match answer.status.as_u16() {
        200 => Some(answer),
        503 => {
            client.failed(began);
            None
        }
        _ => panic!("{path}: {answer:?}"),
    }
}

async fn load(store: &RedisStore, id: &RecordId, client: &Client) -> Option<Record> {
    let began = Instant::now();
    let limit = LIMITS[client.haste()];
    let loaded = store.clone().with_timeout(limit).load(id).await;
    client.took(began, limit, &loaded);
    match loaded {
        Ok(loaded) => Some(loaded.expect("the session is gone")),
        Err(error) => {
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
            client.failed(began);
            None
        }
    }
}

fn count_of(record: &Record) -> u64 {
    u64::from_be_bytes(record.payload.as_bytes().try_into().unwrap())
}

fn with_count(record: Record, count: u64) -> Record {
    Record {
        payload: count.to_be_bytes().as_slice().into(),
        ..record
    }
}

/// Of the layer, and of the store: for those who wait for long, and for those in a hurry.
const LIMITS: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(2)];

/// Between two counts, so that the servers have time for each other.
const THINKS: Duration = Duration::from_millis(10);

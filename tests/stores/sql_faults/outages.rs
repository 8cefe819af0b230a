//! Servers that are killed, or that hang, while requests go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tower_keep::{SessionLayer, TableName};
use tower_keep_servers::{Kind, Server};

use super::{Opened, Pool, on_each_server};
use crate::support::{Answer, Browser, PATIENCE, app, eventually};

on_each_server! {
    a_server_killed_and_started_again_under_load_loses_no_acknowledged_write
    a_server_that_hangs_is_a_503_in_time_and_serves_again_when_it_goes_on
    after_a_restart_no_request_fails_for_a_stale_connection_that_the_pool_has_tested
    after_a_restart_no_request_fails_for_a_stale_connection_that_a_load_has_met
}

const CLIENTS: u64 = 8;

/// How many writes there are at least before the outage, and after it.
const WRITES: u64 = 200;

async fn a_server_killed_and_started_again_under_load_loses_no_acknowledged_write(kind: Kind) {
    let server = Server::start(kind).await;
    let load = Load::start(kind, &server).await;
    load.writes(WRITES).await;

    server.kill9().await;
    load.phase(DOWN);
    load.failures_of_all().await;
    load.phase(CHANGING);
    server.start_again().await;
    let returned = Instant::now();
    load.serves_a_stranger().await;
    eprintln!("{kind:?}: served {:?} after its return", returned.elapsed());
    load.writes(WRITES).await;
    load.stop_and_check().await;
}

async fn a_server_that_hangs_is_a_503_in_time_and_serves_again_when_it_goes_on(kind: Kind) {
    let server = Server::start(kind).await;
    let load = Load::start(kind, &server).await;
    load.writes(WRITES).await;

    server.pause().await;
    load.phase(DOWN);
    load.failures_of_all().await;
    load.phase(CHANGING);
    server.resume().await;
    let returned = Instant::now();
    load.serves_a_stranger().await;
    eprintln!("{kind:?}: served {:?} after it went on", returned.elapsed());
    load.writes(WRITES).await;
    load.stop_and_check().await;
}

/// Clients that count, each in a session of its own and all in a shared one.
struct Load {
    /// At a node that waits for the store as long as it takes.
    patient: Browser,
    browser: Browser,
    tasks: JoinSet<()>,
    clients: Vec<Arc<Client>>,
    shared: Arc<Counter>,
    shared_browser: Browser,
    phase: Arc<AtomicU8>,
    opened: Opened,
}

/// The server is well, or on its way down or up.
const CHANGING: u8 = 0;
/// Nobody can be served.
const DOWN: u8 = 1;
const STOP: u8 = 2;

#[derive(Default)]
struct Client {
    own: Counter,
    /// Answers since the server was down, to requests that began since.
    failures: AtomicU64,
    /// In microseconds, of all answers.
    slowest: AtomicU64,
}

/// What is known of a number that is counted up.
#[derive(Default)]
struct Counter {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl Counter {
    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(SeqCst)
    }

    /// Never less than was acknowledged, and never more than was asked for.
    #[track_caller]
    fn check(&self, found: &Answer, what: &str) {
        let (acknowledged, failed) = (self.acknowledged(), self.failed.load(SeqCst));
        let number: u64 = found.body.parse().unwrap();
        assert!(
            (acknowledged..=acknowledged + failed).contains(&number),
            "{what}: {number} found, {acknowledged} acknowledged, {failed} not known"
        );
    }
}

impl Load {
    async fn start(kind: Kind, server: &Server) -> Self {
        let (url, table) = (server.url(), TableName::default());
        let patient = Opened::new(kind, &url, &table, Pool::PATIENT).await;
        let patient = SessionLayer::new(patient.store).with_store_timeout(PATIENCE);
        let patient = Browser::new(&app(patient));
        let opened = Opened::lazy(kind, &url, &table, Pool::ADVISED);
        let browser = Browser::new(&app(SessionLayer::new(Arc::clone(&opened.store))));
        let begin = async |who: String| {
            let mut begun = patient.stranger();
            begun.post(&format!("/put/who/{who}")).await.assert_ok();
            browser.stranger().with_id_of(&begun)
        };
        let shared_browser = begin("all".to_owned()).await;
        let phase = Arc::new(AtomicU8::new(CHANGING));
        let shared = Arc::<Counter>::default();
        let mut tasks = JoinSet::new();
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let client = Arc::<Client>::default();
            clients.push(Arc::clone(&client));
            let runner = Runner {
                who: format!("\"{number}\""),
                client,
                shared: Arc::clone(&shared),
                phase: Arc::clone(&phase),
                patient: patient.stranger(),
                own_browser: begin(number.to_string()).await,
                shared_browser: shared_browser.clone(),
            };
            tasks.spawn(runner.run());
        }
        Self {
            patient,
            browser,
            tasks,
            clients,
            shared,
            shared_browser,
            phase,
            opened,
        }
    }

    fn phase(&self, phase: u8) {
        self.phase.store(phase, SeqCst);
    }

    /// Waits until each client has made so many writes more.
    async fn writes(&self, more: u64) {
        let each = more / CLIENTS;
        let count = |client: &Arc<Client>| client.own.acknowledged();
        let before: Vec<u64> = self.clients.iter().map(count).collect();
        eventually("writes", || async {
            let mut pairs = self.clients.iter().zip(&before);
            pairs
                .all(|(client, before)| count(client) >= before + each)
                .then_some(())
        })
        .await;
    }

    /// Waits until each client was refused what it asked for while the server was down.
    async fn failures_of_all(&self) {
        eventually("failures", || async {
            let mut clients = self.clients.iter();
            clients
                .all(|client| client.failures.load(SeqCst) >= 4)
                .then_some(())
        })
        .await;
        let slowest = self.clients.iter().map(|c| c.slowest.load(SeqCst)).max();
        let slowest = Duration::from_micros(slowest.unwrap());
        eprintln!("the slowest answer until it returns: {slowest:?}");
        // The layer's store timeout of two seconds, for the load and for the write; and ten for all
        // else that goes on.
        assert!(slowest < Duration::from_secs(2 * 2 + 10), "{slowest:?}");
    }

    async fn serves_a_stranger(&self) {
        eventually("service", || async {
            let answer = self.browser.stranger().post("/put/a/b").await;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    async fn stop_and_check(mut self) {
        self.phase(STOP);
        while let Some(client) = self.tasks.join_next().await {
            client.unwrap();
        }
        let failed = self.shared.failed.load(SeqCst);
        let acknowledged = self.shared.acknowledged();
        eprintln!("the shared session: {acknowledged} acknowledged, {failed} not known");
        let mut browser = self.patient.with_id_of(&self.shared_browser);
        let found = browser.get("/get/n").await.assert_ok();
        self.shared.check(&found, "the shared session");
        let size = self.opened.idle().await;
        assert!(size.connections <= Pool::ADVISED.connections, "{size:?}");
    }
}

struct Runner {
    who: String,
    client: Arc<Client>,
    shared: Arc<Counter>,
    phase: Arc<AtomicU8>,
    patient: Browser,
    own_browser: Browser,
    shared_browser: Browser,
}

impl Runner {
    async fn run(mut self) {
        while self.phase.load(SeqCst) != STOP {
            let before = self.client.own.acknowledged();
            let counted = self.send("/count/n", true).await;
            tally(&self.client.own, &counted);
            if counted.status == 200 {
                self.client.own.check(&counted, &self.who);
                assert!(counted.body.parse::<u64>().unwrap() > before);
            }
            let who = self.send("/get/who", true).await;
            if who.status == 200 {
                assert_eq!(who.body, self.who, "another's session, or an empty one");
            }
            let counted = self.send("/count/n", false).await;
            tally(&self.shared, &counted);
        }
        let mut browser = self.patient.with_id_of(&self.own_browser);
        let found = browser.get("/get/n").await.assert_ok();
        self.client.own.check(&found, &self.who);
    }

    /// Sends a request that may fail, and in that case must fail well.
    async fn send(&mut self, path: &str, own: bool) -> Answer {
        let browser = match own {
            true => &mut self.own_browser,
            false => &mut self.shared_browser,
        };
        let before = self.phase.load(SeqCst);
        let started = Instant::now();
        let answer = match path.starts_with("/get") {
            true => browser.get(path).await,
            false => browser.post(path).await,
        };
        let took = u64::try_from(started.elapsed().as_micros()).unwrap();
        self.client.slowest.fetch_max(took, SeqCst);
        let status = answer.status.as_u16();
        assert!([200, 503].contains(&status), "{path}: {answer:?}");
        assert_eq!(answer.set_cookies(), [""; 0], "{path}: {answer:?}");
        if before == DOWN && self.phase.load(SeqCst) == DOWN {
            assert_eq!(status, 503, "{path}: nobody was there to know");
        }
        if before == DOWN {
            self.client.failures.fetch_add(1, SeqCst);
        }
        answer
    }
}

fn tally(counter: &Counter, answer: &Answer) {
    let known = match answer.status == 200 {
        true => &counter.acknowledged,
        false => &counter.failed,
    };
    known.fetch_add(1, SeqCst);
}

async fn after_a_restart_no_request_fails_for_a_stale_connection_that_the_pool_has_tested(
    kind: Kind,
) {
    let failed = failures_after_a_restart(kind, true).await;
    assert_eq!(failed, 0);
}

async fn after_a_restart_no_request_fails_for_a_stale_connection_that_a_load_has_met(kind: Kind) {
    let failed = failures_after_a_restart(kind, false).await;
    assert_eq!(failed, 0);
}

/// Of requests one after another, when all connections of the pool have gone stale.
async fn failures_after_a_restart(kind: Kind, test_before_acquire: bool) -> u64 {
    let server = Server::start(kind).await;
    let table = TableName::default();
    let pool = Pool {
        test_before_acquire,
        ..Pool::PATIENT
    };
    let opened = Opened::new(kind, &server.url(), &table, pool).await;
    let layer = SessionLayer::new(Arc::clone(&opened.store)).with_store_timeout(PATIENCE);
    let mut browser = Browser::new(&app(layer));
    browser.post("/count/n").await.assert_ok();
    eventually("a full pool", || async {
        let mut crowd = JoinSet::new();
        for _ in 0..8 * CLIENTS {
            let mut browser = browser.clone();
            crowd.spawn(async move { browser.get("/get/n").await.assert_ok() });
        }
        crowd.join_all().await;
        (opened.idle().await.connections == pool.connections).then_some(())
    })
    .await;
    server.kill9().await;
    server.start_again().await;

    let (mut failed, mut acknowledged) = (0, 1);
    for _ in 0..4 * CLIENTS {
        let answer = browser.post("/count/n").await;
        match answer.status.as_u16() {
            200 => acknowledged += 1,
            _ => failed += 1,
        }
    }
    let found = browser.get("/get/n").await.assert_ok();
    assert_eq!(found.body, acknowledged.to_string());
    failed
}

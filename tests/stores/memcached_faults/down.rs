//! One of two nodes is killed, or hangs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use tokio::task::JoinSet;
use tower_keep::{RecordId, SessionLayer, SessionStore, StoreErrorKind};
use tower_keep_servers::Server;

use super::{CUSHION, Nodes, item, open, quiet};
use crate::support::{Browser, PATIENCE, app, eventually, layer_over};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_node_takes_its_own_sessions_alone_and_serves_new_ones_as_soon_as_it_is_back() {
    let site = Site::new().await;
    let load = site.load_at_the_other_node();
    site.nodes.servers[0].kill9().await;

    for browser in &site.at_the_node {
        for (method, path) in [("get", "/dump"), ("post", "/count/n"), ("post", "/cycle")] {
            let mut browser = browser.clone();
            let started = Instant::now();
            let answer = match method {
                "get" => browser.get(path).await,
                _ => browser.post(path).await,
            };
            assert_eq!(answer.status, 503, "{path}");
            assert_eq!(answer.set_cookies(), [""; 0]);
            assert!(started.elapsed() < CUSHION, "{path}");
        }
    }
    let (mut served, mut refused) = (0, 0);
    let began = Instant::now();
    while served < 8 || refused < 8 {
        assert!(began.elapsed() < PATIENCE, "{served} and {refused}");
        let mut stranger = site.browser.stranger();
        let answer = stranger.post("/put/who/me").await;
        match answer.status.as_u16() {
            200 => {
                served += 1;
                let dump = stranger.get("/dump").await.assert_ok().body;
                assert_eq!(dump, r#"{"who":"me"}"#);
            }
            503 => {
                refused += 1;
                assert_eq!(answer.set_cookies(), [""; 0]);
            }
            other => panic!("{other}"),
        }
    }

    site.nodes.servers[0].start_again().await;
    let back = Instant::now();
    for browser in &site.at_the_node {
        let answer = browser.clone().get("/dump").await.assert_ok();
        assert_eq!(answer.body, "{}", "its sessions went with it");
    }
    for _ in 0..32 {
        let mut stranger = site.browser.stranger();
        stranger.post("/put/who/me").await.assert_ok();
        let dump = stranger.get("/dump").await.assert_ok().body;
        assert_eq!(dump, r#"{"who":"me"}"#);
    }
    eprintln!("32 new sessions {:?} after its return", back.elapsed());
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_restarted_between_two_requests_costs_no_error() {
    let site = Site::new().await;
    site.nodes.servers[0].kill9().await;
    site.nodes.servers[0].start_again().await;
    for browser in &site.at_the_node {
        let mut browser = browser.clone();
        assert_eq!(browser.get("/dump").await.assert_ok().body, "{}");
        browser.post("/count/n").await.assert_ok();
        assert_eq!(browser.get("/get/n").await.assert_ok().body, "1");
    }
    for browser in &site.at_the_other {
        let dump = browser.clone().get("/dump").await.assert_ok().body;
        assert_eq!(dump, r#"{"who":"me"}"#);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stopped_node_is_an_answer_in_time_slows_nobody_else_and_serves_at_once_when_it_goes_on()
{
    let site = Site::new().await;
    let load = site.load_at_the_other_node();
    let id = site.ids[0];

    site.nodes.servers[0].pause().await;
    let mut crowd = JoinSet::new();
    for browser in &site.at_the_node {
        for path in ["/count/n", "/dump"] {
            let mut browser = site.hasty.stranger().with_id_of(browser);
            crowd.spawn(async move {
                let started = Instant::now();
                let answer = match path {
                    "/dump" => browser.get(path).await,
                    _ => browser.post(path).await,
                };
                assert_eq!(answer.status, 503);
                assert_eq!(answer.set_cookies(), [""; 0]);
                started.elapsed()
            });
        }
    }
    let slowest = crowd.join_all().await.into_iter().max().unwrap();
    eprintln!("the slowest answer while it was stopped: {slowest:?}");
    assert!(slowest < TIMEOUT + CUSHION, "{slowest:?}");
    let started = Instant::now();
    let error = site.hasty_store.load(&id).await.unwrap_err();
    assert_eq!(quiet(&error), StoreErrorKind::Unavailable);
    assert!(started.elapsed() < TIMEOUT + CUSHION);

    site.nodes.servers[0].resume().await;
    let back = Instant::now();
    for browser in &site.at_the_node {
        let dump = browser.clone().get("/get/who").await.assert_ok().body;
        assert_eq!(dump, "\"me\"");
    }
    let took = back.elapsed();
    eprintln!("all served {took:?} after it went on");
    assert!(took < CUSHION, "{took:?}");
    assert!(load.stop().await < CUSHION);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_was_never_reached_hangs_and_serves_once_it_answers() {
    let nodes = Nodes::start().await;
    let (id, record) = nodes.session_at(0).await;
    let (other, _) = nodes.session_at(1).await;
    let store = nodes.another_store();
    let hasty = store.clone().with_timeout(TIMEOUT);
    nodes.proxies[0].pause();
    for _ in 0..2 {
        let started = Instant::now();
        let error = hasty.load(&id).await.unwrap_err();
        assert_eq!(quiet(&error), StoreErrorKind::Unavailable);
        assert!(started.elapsed() < TIMEOUT + CUSHION);
        assert!(store.load(&other).await.unwrap().is_some());
    }
    nodes.proxies[0].resume();
    eventually("service", || async { hasty.load(&id).await.ok() }).await;
    assert_eq!(store.load(&id).await.unwrap(), Some(record.clone()));

    nodes.proxies[0].refuse();
    nodes.proxies[0].cut_now();
    let started = Instant::now();
    let error = hasty.load(&id).await.unwrap_err();
    assert_eq!(quiet(&error), StoreErrorKind::Unavailable);
    assert!(started.elapsed() < TIMEOUT + CUSHION);
    assert!(store.load(&other).await.unwrap().is_some());
    nodes.proxies[0].heal();
    eventually("service", || async { hasty.load(&id).await.ok() }).await;
    assert_eq!(store.load(&id).await.unwrap(), Some(record));
    let shown = format!("{store:?}");
    assert!(!shown.contains("session"), "{shown}");
}

/// An application over two nodes, and clients of each.
struct Site {
    nodes: Nodes,
    browser: Browser,
    /// They do not wait for long.
    hasty_store: tower_keep::MemcachedStore,
    hasty: Browser,
    at_the_node: Vec<Browser>,
    at_the_other: Vec<Browser>,
    /// Of those at the node.
    ids: Vec<RecordId>,
}

impl Site {
    async fn new() -> Self {
        let nodes = Nodes::start().await;
        let [one, other] = nodes.servers.each_ref().map(Server::port);
        let store = open(&[one, other]);
        let hasty_store = store.clone().with_timeout(TIMEOUT);
        let mut site = Self {
            nodes,
            browser: Browser::new(&app(layer_over(store))),
            hasty: Browser::new(&app(SessionLayer::new(hasty_store.clone()))),
            hasty_store,
            at_the_node: Vec::new(),
            at_the_other: Vec::new(),
            ids: Vec::new(),
        };
        while site.at_the_node.len() < 8 || site.at_the_other.len() < 8 {
            let mut browser = site.browser.stranger();
            browser.post("/put/who/me").await.assert_ok();
            let id = browser.get("/record").await.assert_ok().body;
            let id = HEXLOWER.decode(id.as_bytes()).unwrap();
            let id = RecordId::from_bytes(id.try_into().unwrap());
            if item(&site.nodes.servers[0], &id).await.is_some() {
                site.at_the_node.push(browser);
                site.ids.push(id);
            } else {
                site.at_the_other.push(browser);
            }
        }
        site
    }

    /// Clients of the other node, who must not notice anything.
    fn load_at_the_other_node(&self) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for browser in &self.at_the_other {
            let (mut browser, stop) = (browser.clone(), Arc::clone(&stop));
            tasks.spawn(async move {
                let (mut count, mut slowest) = (0, Duration::ZERO);
                while !stop.load(SeqCst) {
                    let started = Instant::now();
                    let answer = browser.post("/count/n").await.assert_ok();
                    slowest = slowest.max(started.elapsed());
                    count += 1;
                    assert_eq!(answer.body, count.to_string());
                    assert_eq!(answer.set_cookies(), [""; 0]);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                (count, slowest)
            });
        }
        Load { tasks, stop }
    }
}

struct Load {
    tasks: JoinSet<(u32, Duration)>,
    stop: Arc<AtomicBool>,
}

impl Load {
    async fn stop(self) -> Duration {
        self.stop.store(true, SeqCst);
        let counts = tokio::time::timeout(PATIENCE, self.tasks.join_all());
        let counts = counts.await.unwrap();
        let requests: u32 = counts.iter().map(|(count, _)| count).sum();
        let slowest = counts.iter().map(|(_, slowest)| *slowest).max().unwrap();
        eprintln!("meanwhile {requests} requests at the other node, the slowest {slowest:?}");
        slowest
    }
}

const TIMEOUT: Duration = Duration::from_secs(1);

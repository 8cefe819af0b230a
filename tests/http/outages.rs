//! A store that goes silent, or whose answers are lost, at any point of a request.

use std::time::Duration;

use axum::{Router, extract::Path, routing::post};
use tokio::time::Instant;
use tower_keep::{
    Error, ErrorKind, LazySession, Session, UserId,
    testing::{Fault, Operation},
};

use crate::support::{Answer, Browser, Site};

/// The layer's store timeout of 2 s and a tenth of it.
const ANSWER_WITHIN: Duration = Duration::from_millis(2200);

/// How long the store is silent.
const OUTAGE: Duration = Duration::from_secs(30);

/// More calls to the store than any request here makes.
const CALLS_MAX: usize = 5;

/// Requests of a client that is logged in, each a way to change or to end its session.
const OF_ADA: [&str; 11] = [
    "/put/cart/pen",
    "/count/visits",
    "/remove/cart",
    "/clear",
    "/expire/60",
    "/cycle",
    "/login/ada",
    "/login/grace",
    "/logout",
    "/flush",
    "/restart/pen",
];

/// Requests of a client without a session.
const OF_A_STRANGER: [&str; 2] = ["/put/cart/pen", "/login/ada"];

/// `flush`, then something put in.
fn restart() -> Router {
    async fn restart(session: Session, Path(value): Path<String>) -> Result<(), Error> {
        session.flush()?;
        session.insert("cart", value)
    }
    Router::new().route("/restart/{value}", post(restart))
}

async fn ada(site: &Site) -> Browser {
    let mut browser = site.browser_with(restart());
    browser.post("/login/ada").await.assert_ok();
    browser.post("/put/cart/book").await.assert_ok();
    browser
}

/// The answer, and how long it took by the clock that `tokio` shows.
async fn timed(browser: &mut Browser, path: &str) -> (Answer, Duration) {
    let start = Instant::now();
    let answer = browser.post(path).await;
    (answer, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_anywhere_in_a_request_is_a_503_in_time() {
    for path in OF_ADA {
        let mut hung = 0;
        for calls in 0..CALLS_MAX {
            let site = Site::in_memory();
            let mut browser = ada(&site).await;
            site.store.inject_after(calls, Fault::Hang);
            let (answer, took) = timed(&mut browser, path).await;
            assert!(took <= ANSWER_WITHIN, "{path} {calls}: {took:?}");
            if took.is_zero() {
                assert_eq!(answer.status, 200, "{path} {calls}");
                continue;
            }
            hung += 1;
            assert_eq!(answer.status, 503, "{path} {calls}");
            assert_eq!(answer.set_cookies(), [""; 0]);
        }
        // A load and a write; a logout needs no load; a restart deletes and creates.
        let calls = match path {
            "/logout" => 1,
            "/restart/pen" => 3,
            _ => 2,
        };
        assert_eq!(hung, calls, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_session_in_a_store_that_hangs_is_a_503_in_time_and_hands_out_no_id() {
    for path in OF_A_STRANGER {
        let site = Site::in_memory();
        site.store.inject(Fault::Hang);
        let mut browser = site.browser();
        let (answer, took) = timed(&mut browser, path).await;
        assert!(took <= ANSWER_WITHIN && !took.is_zero(), "{took:?}");
        assert_eq!(answer.status, 503);
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_touch_that_hangs_refuses_no_read_and_changes_nothing() {
    let site = Site::in_memory();
    let mut browser = ada(&site).await;
    let before = site.record_of(&browser).await;
    site.pass(2 * 24 * 60 * 60);
    site.store.inject_on(&[Operation::Touch], Fault::Hang);
    let start = Instant::now();
    let answer = browser.get("/get/cart").await.assert_ok();
    assert!(start.elapsed() <= ANSWER_WITHIN);
    assert_eq!(answer.body, r#""book""#);
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(site.record_of(&browser).await, before);
}

#[tokio::test(start_paused = true)]
async fn loads_of_one_request_in_parallel_wait_together_for_a_store_that_hangs() {
    let loads = async |lazy: LazySession| {
        let (a, b, c, d) = tokio::join!(lazy.load(), lazy.load(), lazy.load(), lazy.load());
        for load in [a, b, c, d] {
            assert_eq!(load.unwrap_err().kind(), ErrorKind::Timeout);
        }
    };
    let site = Site::in_memory();
    let known = ada(&site).await;
    let routes = Router::new().route("/loads", post(loads));
    let mut browser = site.browser_with(routes).with_id_of(&known);
    site.store.inject(Fault::Hang);
    let (answer, took) = timed(&mut browser, "/loads").await;
    assert_eq!(answer.assert_ok().set_cookies(), [""; 0]);
    assert!(took <= ANSWER_WITHIN && !took.is_zero(), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn every_request_of_a_long_silence_is_answered_in_time_and_service_returns_with_the_store() {
    let site = Site::in_memory();
    let browser = ada(&site).await;
    site.store.inject(Fault::Hang);
    let healed = Instant::now() + OUTAGE;
    let mut clients = Vec::new();
    for client in 0..20_u64 {
        let mut browser = browser.clone();
        clients.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100 * client)).await;
            while Instant::now() < healed {
                let (answer, took) = timed(&mut browser, "/count/visits").await;
                assert!(took <= ANSWER_WITHIN, "{took:?}");
                assert_eq!(answer.set_cookies(), [""; 0]);
                assert_eq!(answer.status, 503);
            }
        }));
    }
    tokio::time::sleep_until(healed).await;
    site.store.heal();
    let mut browser = browser.clone();
    let (answer, took) = timed(&mut browser, "/count/visits").await;
    assert_eq!((answer.status.as_u16(), took), (200, Duration::ZERO));
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(browser.get("/whoami").await.body, "ada");
}

/// Eight clients count at once, and after some calls the store does not answer any more.
async fn counts_after_a_fault(calls: usize, fault: Fault) -> (u64, u64) {
    let site = Site::in_memory();
    let mut browser = ada(&site).await;
    site.store.inject_after(calls, fault);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut browser = browser.clone();
            tokio::spawn(async move { timed(&mut browser, "/count/visits?then=slow").await })
        })
        .collect();
    let mut acknowledged = 0;
    for client in clients {
        let (answer, took) = client.await.unwrap();
        assert!(took <= ANSWER_WITHIN, "{took:?}");
        match answer.status.as_u16() {
            200 => acknowledged += 1,
            status => assert_eq!(status, 503),
        }
    }
    site.store.heal();
    let (answer, took) = timed(&mut browser, "/count/visits").await;
    assert_eq!(took, Duration::ZERO, "nobody is in the way any more");
    (
        acknowledged,
        answer.assert_ok().body.parse::<u64>().unwrap() - 1,
    )
}

const CLIENTS: u64 = 8;

#[tokio::test(start_paused = true)]
async fn of_writers_that_meet_a_fault_exactly_those_that_were_told_so_have_written() {
    let mut some_were_refused = false;
    for calls in 0..40 {
        for fault in [Fault::Hang, Fault::Fail] {
            let (acknowledged, stored) = counts_after_a_fault(calls, fault).await;
            assert_eq!(acknowledged, stored, "{fault:?} after {calls}");
            some_were_refused |= (1..CLIENTS).contains(&acknowledged);
        }
        let (acknowledged, stored) = counts_after_a_fault(calls, Fault::LoseReply).await;
        assert!((acknowledged..=CLIENTS).contains(&stored), "after {calls}");
        let (acknowledged, stored) = counts_after_a_fault(calls, Fault::SendTwice).await;
        assert_eq!((acknowledged, stored), (CLIENTS, CLIENTS), "after {calls}");
    }
    assert!(some_were_refused);
}

type Contents = Vec<(Option<UserId>, Vec<u8>)>;

/// What the store holds before a request, and after one that meets no fault.
async fn before_and_after(start: impl AsyncFn(&Site) -> Browser, path: &str) -> [Contents; 2] {
    let site = Site::in_memory();
    let mut browser = start(&site).await;
    let before = site.contents().await;
    browser.post(path).await.assert_ok();
    [before, site.contents().await]
}

/// Lets a request meet a fault after each number of calls, and looks at what is left.
async fn meets_a_fault_anywhere(start: impl AsyncFn(&Site) -> Browser, path: &str, fault: Fault) {
    let [old, new] = before_and_after(&start, path).await;
    for calls in 0..CALLS_MAX {
        let site = Site::in_memory();
        let mut browser = start(&site).await;
        let before = browser.clone();
        site.store.inject_after(calls, fault);
        let answer = browser.post(path).await;
        site.store.heal();
        let case = format!("{path}, {fault:?} after {calls}: {answer:?}");
        let now = site.contents().await;
        assert!(site.keeps_what_it_hands_out(&answer).await, "{case}");
        if answer.status == 200 {
            assert_eq!(now, new, "{case}");
            continue;
        }
        assert_eq!(answer.status, 503, "{case}");
        assert_eq!(answer.set_cookies(), [""; 0], "{case}");
        // A restart is a logout and then a new session; it may come to a stop between them.
        let between = path.starts_with("/restart") && now.is_empty();
        assert!(now == old || now == new || between, "{case}");
        assert!(fault != Fault::Fail || now == old || between, "{case}");
        if now == old && now != new && before.id().is_some() {
            assert!(!before.is_anonymous().await, "{case}");
        }
        // Whatever happened, the client can go on.
        browser.post("/put/on/1").await.assert_ok();
        assert_eq!(browser.get("/get/on").await.body, r#""1""#, "{case}");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_anywhere_leaves_the_old_state_and_hands_out_nothing() {
    for path in OF_ADA {
        meets_a_fault_anywhere(ada, path, Fault::Fail).await;
    }
    for path in OF_A_STRANGER {
        meets_a_fault_anywhere(async |site| site.browser(), path, Fault::Fail).await;
    }
}

#[tokio::test]
async fn a_request_whose_reply_is_lost_anywhere_leaves_the_old_or_the_new_state_and_no_other() {
    for path in OF_ADA {
        meets_a_fault_anywhere(ada, path, Fault::LoseReply).await;
    }
    for path in OF_A_STRANGER {
        meets_a_fault_anywhere(async |site| site.browser(), path, Fault::LoseReply).await;
    }
}

#[tokio::test]
async fn a_request_whose_calls_are_sent_twice_is_done_once_and_well() {
    for path in OF_ADA {
        if ["/logout", "/flush", "/restart/pen"].contains(&path) {
            continue;
        }
        sent_twice(ada, path).await;
    }
    for path in OF_A_STRANGER {
        sent_twice(async |site| site.browser(), path).await;
    }
}

async fn sent_twice(start: impl AsyncFn(&Site) -> Browser, path: &str) {
    let [_, new] = before_and_after(&start, path).await;
    let site = Site::in_memory();
    let mut browser = start(&site).await;
    site.store.inject(Fault::SendTwice);
    let answer = browser.post(path).await.assert_ok();
    assert_eq!(site.contents().await, new, "{path}");
    assert!(site.keeps_what_it_hands_out(&answer).await);
    assert!(site.record_of(&browser).await.is_some());
}

#[tokio::test]
async fn a_logout_whose_call_is_sent_twice_ends_the_session() {
    for path in ["/logout", "/flush", "/restart/pen"] {
        let site = Site::in_memory();
        let mut browser = ada(&site).await;
        let captured = browser.clone();
        site.store.inject(Fault::SendTwice);
        let answer = browser.post(path).await.assert_ok();
        assert!(site.keeps_what_it_hands_out(&answer).await);
        assert!(captured.is_anonymous().await);
        assert_eq!(site.record_of(&captured).await, None);
    }
}

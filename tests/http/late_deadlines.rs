//! How long a session lives that is saved after the answer, when no cookie can be set any more.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::routing::post;
use tower_keep::{Error, Session, SessionLayer, testing::ManualClock};

use crate::{
    late::Stream,
    support::{Browser, TestStore, layer_over, router},
};

const IDLE: Duration = Duration::from_secs(600);
const ABSOLUTE: Duration = Duration::from_secs(7000);

/// A layer by that clock.
fn clocked(store: &TestStore, clock: &ManualClock) -> SessionLayer {
    layer_over(store.clone())
        .with_clock(clock.clone())
        .with_idle_timeout(IDLE)
        .with_absolute_timeout(ABSOLUTE)
}

/// A save after the answer keeps the session alive; the cookie has to live as long.
#[tokio::test]
async fn a_session_that_a_stream_has_used_has_its_cookie_renewed_by_the_next_request() {
    for (touch_after, rounds) in [(60, 1), (60, 2), (60, 5), (60, 8), (300, 30), (540, 70)] {
        let clock = ManualClock::new();
        let store = TestStore::new().with_clock(clock.clone());
        let ticking = clock.clone();
        let touch_after = Duration::from_secs(touch_after);
        let pause = (IDLE - touch_after) / 3;
        let handler = async move |session: Session| {
            session.insert("early", 1)?;
            Ok::<_, Error>(Stream::body(async move {
                for round in 0..rounds {
                    ticking.advance(pause);
                    session.reload().await.unwrap();
                    if round % 2 == 0 {
                        session.insert("late", round).unwrap();
                    }
                    session.save().await.unwrap();
                }
                "done".into()
            }))
        };
        let layer = clocked(&store, &clock).with_touch_after(touch_after);
        let app = router().route("/stream", post(handler)).layer(layer);
        let mut browser = Browser::new(&app);
        assert_eq!(browser.post("/stream").await.assert_ok().body, "done");
        let answer = browser.get("/get/late").await.assert_ok();
        assert_eq!(answer.body, ((rounds - 1) / 2 * 2).to_string());
        let cookie = answer.the_cookie();
        assert!(cookie.contains("Max-Age=600"), "{rounds} rounds: {cookie}");
        let again = browser.get("/get/late").await.assert_ok();
        assert_eq!(again.set_cookies(), [""; 0], "once is enough");
    }
}

#[tokio::test]
async fn a_stream_that_saves_behind_a_request_does_not_take_back_all_the_time_that_it_has_gained() {
    let clock = ManualClock::new();
    let store = TestStore::new().with_clock(clock.clone());
    let other = Arc::new(OnceLock::<Browser>::new());
    let (ticking, asking) = (clock.clone(), Arc::clone(&other));
    let handler = async move |session: Session| {
        Stream::body(async move {
            session.reload().await.unwrap();
            ticking.advance(Duration::from_secs(117));
            let mut other = asking.get().unwrap().clone();
            other.get("/whoami").await.assert_ok().the_cookie();
            session.insert("late", 1).unwrap();
            session.save().await.unwrap();
            "done".into()
        })
    };
    let app = router().route("/stream", post(handler));
    let mut browser = Browser::new(&app.layer(clocked(&store, &clock)));
    browser.post("/login/alice").await.assert_ok();
    assert!(other.set(browser.clone()).is_ok());
    assert_eq!(browser.post("/stream").await.assert_ok().body, "done");
    clock.advance(Duration::from_secs(520));
    assert_eq!(browser.get("/whoami").await.body, "alice");
}

#[tokio::test]
async fn a_stream_that_clears_a_session_with_a_rule_of_its_own_does_not_end_it() {
    let clock = ManualClock::new();
    let store = TestStore::new().with_clock(clock.clone());
    let handler = async |session: Session| {
        Stream::body(async move {
            session.reload().await.unwrap();
            session.clear().unwrap();
            session.save().await.unwrap();
            "done".into()
        })
    };
    let app = router().route("/stream", post(handler));
    let mut browser = Browser::new(&app.layer(clocked(&store, &clock)));
    browser.post("/login/alice").await.assert_ok();
    browser.post("/expire/500").await.assert_ok();
    let step = Duration::from_secs(400);
    let end = ABSOLUTE - Duration::from_secs(20);
    let mut passed = Duration::ZERO;
    while passed + step < end {
        clock.advance(step);
        passed += step;
        assert_eq!(browser.get("/whoami").await.body, "alice");
    }
    clock.advance(end - passed);
    assert_eq!(browser.post("/stream").await.assert_ok().body, "done");
    clock.advance(Duration::from_secs(10));
    assert_eq!(browser.get("/whoami").await.body, "alice");
}

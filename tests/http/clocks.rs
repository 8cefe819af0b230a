//! Nodes whose clocks differ.

use std::time::Duration;

use tower_keep::{Clock, testing::ManualClock};

use crate::support::{Browser, TestStore, app, layer_over};

const SKEW: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(600);
const ABSOLUTE: Duration = Duration::from_secs(3000);
const SECOND: Duration = Duration::from_secs(1);

/// Two nodes over one store, the second one a minute ahead of the first, and the store's own clock
/// anywhere from the one to the other.
struct Nodes {
    clocks: [ManualClock; 3],
    store: TestStore,
    behind: Browser,
    ahead: Browser,
}

impl Nodes {
    fn new(store_ahead: Duration) -> Self {
        let clocks: [ManualClock; 3] = std::array::from_fn(|_| ManualClock::new());
        // They were not made in one moment.
        let latest = clocks.iter().map(Clock::now).max().unwrap();
        for clock in &clocks {
            clock.advance(latest.duration_since(clock.now()).unwrap());
        }
        let [behind, ahead, stores] = &clocks;
        ahead.advance(SKEW);
        stores.advance(store_ahead);
        let store = TestStore::new().with_clock(stores.clone());
        let node = |clock: &ManualClock| {
            let layer = layer_over(store.clone())
                .with_clock(clock.clone())
                .with_idle_timeout(IDLE)
                .with_absolute_timeout(ABSOLUTE);
            Browser::new(&app(layer))
        };
        Self {
            behind: node(behind),
            ahead: node(ahead),
            store,
            clocks,
        }
    }

    /// The nodes, the one first that is to be asked first, with the same cookies.
    fn from(&self, first: usize) -> [Browser; 2] {
        match first {
            0 => [self.behind.clone(), self.ahead.clone()],
            _ => [self.ahead.clone(), self.behind.clone()],
        }
    }

    fn advance(&self, time: Duration) {
        for clock in &self.clocks {
            clock.advance(time);
        }
    }
}

fn hand_over(from: &Browser, to: &mut Browser) {
    to.set_cookie("__Host-id", from.id().unwrap());
}

async fn in_every_order(test: impl AsyncFn(Nodes, [Browser; 2])) {
    for store_ahead in [Duration::ZERO, SKEW / 2, SKEW] {
        for first in [0, 1] {
            let nodes = Nodes::new(store_ahead);
            let browsers = nodes.from(first);
            test(nodes, browsers).await;
        }
    }
}

#[tokio::test]
async fn with_clocks_60_s_apart_a_session_lives_on_both_nodes_until_60_s_before_its_end() {
    in_every_order(async |nodes, [mut one, mut other]| {
        one.post("/put/cart/full").await.assert_ok();
        hand_over(&one, &mut other);
        nodes.advance(IDLE - SKEW - SECOND);
        assert_eq!(other.get("/get/cart").await.body, r#""full""#);
        assert_eq!(one.get("/get/cart").await.body, r#""full""#);
    })
    .await;
}

#[tokio::test]
async fn with_clocks_60_s_apart_a_session_is_dead_on_both_nodes_60_s_after_its_end() {
    in_every_order(async |nodes, [mut one, mut other]| {
        one.post("/put/cart/full").await.assert_ok();
        hand_over(&one, &mut other);
        nodes.advance(IDLE + SKEW + SECOND);
        for browser in [&mut one, &mut other] {
            assert_eq!(browser.get("/get/cart").await.body, "-");
            browser.post("/count/n").await.assert_ok();
            assert_eq!(browser.get("/dump").await.body, r#"{"n":1}"#);
        }
    })
    .await;
}

#[tokio::test]
async fn with_clocks_60_s_apart_use_on_either_node_never_brings_the_deadline_nearer() {
    in_every_order(async |nodes, [mut one, mut other]| {
        one.post("/put/cart/full").await.assert_ok();
        hand_over(&one, &mut other);
        for n in 1..5 {
            nodes.advance(Duration::from_secs(120));
            one.post("/count/n").await.assert_ok();
            let answer = other.post("/count/n").await.assert_ok();
            assert_eq!(answer.body, (2 * n).to_string());
        }
        nodes.advance(IDLE - SKEW - SECOND);
        assert_eq!(one.get("/get/cart").await.body, r#""full""#);
        assert_eq!(other.get("/get/cart").await.body, r#""full""#);
    })
    .await;
}

#[tokio::test]
async fn with_clocks_60_s_apart_the_absolute_end_holds_on_both_nodes_however_used() {
    in_every_order(async |nodes, [mut one, mut other]| {
        one.post("/login/alice").await.assert_ok();
        hand_over(&one, &mut other);
        for _ in 0..10 {
            nodes.advance(Duration::from_secs(260));
            assert_eq!(one.get("/whoami").await.body, "alice");
            assert_eq!(other.get("/whoami").await.body, "alice");
        }
        // After 2,600 s of use, the idle time alone would let it live until 3,200 s.
        nodes.advance(Duration::from_secs(400) + SKEW + SECOND);
        assert_eq!(one.get("/whoami").await.body, "-");
        assert_eq!(other.get("/whoami").await.body, "-");
    })
    .await;
}

#[tokio::test]
async fn with_clocks_60_s_apart_a_logout_on_one_node_is_final_on_both() {
    in_every_order(async |nodes, [mut one, mut other]| {
        one.post("/login/alice").await.assert_ok();
        hand_over(&one, &mut other);
        let (replays, mut logout) = ([one.clone(), other.clone()], other);
        logout.post("/logout").await.assert_ok();
        for mut replay in replays {
            assert_eq!(replay.get("/whoami").await.body, "-");
            replay.post("/cycle").await.assert_ok();
            assert_eq!(replay.get("/whoami").await.body, "-");
        }
        assert_eq!(nodes.store.count().await, 0);
    })
    .await;
}

#[tokio::test]
async fn with_clocks_60_s_apart_a_rotation_on_one_node_kills_the_old_id_on_both() {
    in_every_order(async |nodes, [mut one, mut other]| {
        one.post("/login/alice").await.assert_ok();
        hand_over(&one, &mut other);
        let mut old = one.clone();
        other.post("/cycle").await.assert_ok();
        hand_over(&other, &mut one);
        assert_eq!(old.get("/whoami").await.body, "-");
        assert_eq!(one.get("/whoami").await.body, "alice");
        assert_eq!(nodes.store.count().await, 1);
        nodes.advance(IDLE - SKEW - SECOND);
        assert_eq!(one.get("/whoami").await.body, "alice");
    })
    .await;
}

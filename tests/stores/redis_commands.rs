//! What a request costs in commands, as the servers hear them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::Method;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
};
use tower_keep::{
    Clock, Created, Record, RedisStore, SessionStore, Updated, UserSessions, testing::ManualClock,
};
use tower_keep_servers::{Direction, FaultProxy, Server};

use crate::{
    redis_places::{Place, Which, connect, on_each_topology, order, patient},
    sql_places::{HOUR, new_id, next, now, record},
    support::{Browser, PATIENCE, app, eventually, layer_over},
};

on_each_topology!(
    each_request_costs_what_the_table_says,
    a_read_costs_one_get_until_a_touch_is_due_which_costs_one_script_more,
    a_conflict_costs_no_command_more,
    a_list_of_sessions_costs_one_command_and_one_for_each_session,
);

/// Hears what one server is told by clients, and not what its scripts do.
pub(crate) struct Monitor<'a> {
    server: &'a Server,
    heard: BufReader<TcpStream>,
    marks: u64,
}

impl<'a> Monitor<'a> {
    pub(crate) async fn new(server: &'a Server) -> Self {
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let mut heard = BufReader::new(stream);
        heard.write_all(b"MONITOR\r\n").await.unwrap();
        let mut monitor = Self {
            server,
            heard,
            marks: 0,
        };
        assert_eq!(monitor.line().await, "+OK");
        monitor
    }

    /// The commands since the last call in which that text appears.
    pub(crate) async fn take(&mut self, text: &str) -> Vec<String> {
        self.marks += 1;
        let mark = format!("mark-{}-{}", text, self.marks);
        order(self.server, &["ECHO", &mark]).await;
        let mut commands = Vec::new();
        loop {
            let line = self.line().await;
            let (source, command) = line.split_once("] ").unwrap();
            if command.contains(&mark) {
                return commands;
            }
            if !source.ends_with(" lua") && command.contains(text) {
                commands.push(command.to_owned());
            }
        }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.heard.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }
}

/// A store, and what its servers hear of it.
struct Scene<'a> {
    place: &'a Place,
    monitors: Vec<Monitor<'a>>,
    known_commands: Vec<String>,
}

impl<'a> Scene<'a> {
    async fn new(place: &'a Place) -> Self {
        let mut monitors = Vec::new();
        for server in place.primaries() {
            monitors.push(Monitor::new(server).await);
        }
        Self {
            place,
            monitors,
            known_commands: Vec::new(),
        }
    }

    /// The verbs of all commands since the last call, sorted, as several servers have heard them. A
    /// script that a server has not known is sent twice, by its hash and as text; that is counted
    /// once.
    async fn verbs(&mut self) -> Vec<String> {
        let mut verbs = Vec::new();
        self.known_commands.clear();
        for monitor in &mut self.monitors {
            for command in monitor.take(&format!("{}:", self.place.prefix)).await {
                let verb = command.split('"').nth(1).unwrap().to_uppercase();
                if verb != "EVAL" {
                    verbs.push(verb);
                }
                self.known_commands.push(command);
            }
        }
        verbs.sort();
        verbs
    }

    /// The same, when a rotation may be finishing in the background.
    async fn verbs_of(&mut self, count: usize) -> Vec<String> {
        let mut verbs = self.verbs().await;
        let started = Instant::now();
        while verbs.len() < count && started.elapsed() < PATIENCE {
            verbs.extend(self.verbs().await);
        }
        verbs.sort();
        verbs
    }
}

type Verbs = &'static [&'static str];

const READ: Verbs = &["GET"];
const WRITE: Verbs = &["EVALSHA"];
const CHANGE: Verbs = &["EVALSHA", "GET"];
/// The new key, the old key, the new one again; and the note at the old one.
const ROTATION: Verbs = &["EVALSHA", "EVALSHA", "EVALSHA", "EVALSHA", "GET"];
/// The index of the user besides.
const LOGIN: Verbs = &[
    "EVALSHA", "EVALSHA", "EVALSHA", "EVALSHA", "EVALSHA", "GET", "ZREM",
];

/// One request of each kind, and the verbs of its commands on one server and in a cluster.
const REQUESTS: [(&str, Method, &str, Verbs, Verbs); 11] = [
    ("untouched", Method::GET, "/ignored", &[], &[]),
    ("read", Method::GET, "/get/cart", READ, READ),
    ("change", Method::POST, "/put/cart/X", CHANGE, CHANGE),
    ("the same again", Method::POST, "/put/cart/X", READ, READ),
    ("cycle_id", Method::POST, "/cycle", CHANGE, ROTATION),
    ("login", Method::POST, "/login/X", CHANGE, LOGIN),
    ("read of a user", Method::GET, "/get/cart", READ, READ),
    ("change of a user", Method::POST, "/put/a/X", CHANGE, CHANGE),
    ("logout", Method::POST, "/logout", WRITE, WRITE),
    ("anonymous", Method::GET, "/get/cart", &[], &[]),
    ("new", Method::POST, "/put/cart/X", WRITE, WRITE),
];

async fn each_request_costs_what_the_table_says(which: Which) {
    let place = Place::new(which).await;
    let mut scene = Scene::new(&place).await;
    let mut browser = Browser::new(&app(layer_over(place.steady_store().await)));
    browser.post("/put/cart/0").await.assert_ok();
    scene.verbs().await;
    for round in 1..=3 {
        for (what, method, path, single, cluster) in REQUESTS {
            let expected = match which {
                Which::Single => single,
                Which::Cluster => cluster,
            };
            let path = path.replace('X', &round.to_string());
            browser.send(method, &path).await.assert_ok();
            let verbs = scene.verbs_of(expected.len()).await;
            let commands = &scene.known_commands;
            assert_eq!(verbs, expected, "{what} in round {round}: {commands:?}");
        }
    }
}

async fn a_read_costs_one_get_until_a_touch_is_due_which_costs_one_script_more(which: Which) {
    let place = Place::new(which).await;
    let mut scene = Scene::new(&place).await;
    let clock = ManualClock::new();
    let store = place.steady_store().await.with_clock(clock.clone());
    let layer = layer_over(store)
        .with_clock(clock.clone())
        .with_idle_timeout(HOUR);
    let mut browser = Browser::new(&app(layer));
    browser.post("/put/cart/full").await.assert_ok();
    scene.verbs().await;
    for _ in 0..3 {
        for (passed, expected) in [(HOUR / 20, READ), (HOUR / 19, CHANGE), (HOUR / 20, READ)] {
            clock.advance(passed);
            let read = browser.get("/get/cart").await.assert_ok();
            assert_eq!(read.body, r#""full""#);
            assert_eq!(scene.verbs().await, expected);
        }
        clock.advance(HOUR / 10);
        browser.get("/get/cart").await.assert_ok();
        scene.verbs().await;
    }
}

/// The script answers what it has found instead.
async fn a_conflict_costs_no_command_more(which: Which) {
    let place = Place::new(which).await;
    let mut scene = Scene::new(&place).await;
    let store = place.steady_store().await;
    let first = record(now(), HOUR, None);
    let id = new_id();
    let created = store.create(&id, &first).await.unwrap();
    assert_eq!(created, Created::Done);
    let second = next(&first);
    let updated = store.update(&id, &second, first.version).await.unwrap();
    assert_eq!(updated, Updated::Done);
    scene.verbs().await;
    let lost = store.update(&id, &next(&first), first.version).await;
    assert_eq!(lost.unwrap(), Updated::Conflict(second.clone()));
    assert_eq!(scene.verbs().await, WRITE);
    let deadline = now().saturating_add(HOUR * 2);
    assert!(store.touch(&id, deadline, second.version).await.unwrap());
    assert_eq!(scene.verbs().await, WRITE);
    assert!(store.delete(&id).await.unwrap());
    assert_eq!(scene.verbs().await, WRITE);
}

async fn a_list_of_sessions_costs_one_command_and_one_for_each_session(which: Which) {
    let place = Place::new(which).await;
    let mut scene = Scene::new(&place).await;
    let store = place.steady_store().await;
    let record = record(now(), HOUR, Some("ada"));
    for _ in 0..3 {
        let _ = store.create(&new_id(), &record).await.unwrap();
    }
    scene.verbs().await;
    let user = record.user.unwrap();
    assert_eq!(store.sessions_of(&user).await.unwrap().len(), 3);
    assert_eq!(scene.verbs().await, ["GET", "GET", "GET", "ZRANGE"]);
}

#[tokio::test]
async fn a_script_that_the_server_has_forgotten_is_sent_once_as_text() {
    let place = Place::own(Which::Single).await;
    let server = &place.primaries()[0];
    let mut browser = Browser::new(&app(layer_over(place.store())));
    browser.post("/put/cart/0").await.assert_ok();
    browser.post("/put/cart/1").await.assert_ok();
    let mut monitor = Monitor::new(server).await;
    let mut value = 1;
    let started = Instant::now();
    for (forgets, expected) in [
        (true, ["GET", "EVALSHA", "EVAL"].as_slice()),
        (false, &["GET", "EVALSHA"]),
    ] {
        loop {
            if forgets {
                order(server, &["SCRIPT", "FLUSH"]).await;
                monitor.take("").await;
            }
            value += 1;
            let sent = Instant::now();
            let path = format!("/put/cart/{value}");
            browser.post(&path).await.assert_ok();
            let took = sent.elapsed();
            // All that the server was told: no question whether the connection is alive, either.
            let heard = monitor.take("").await;
            let verbs: Vec<&str> = heard.iter().map(|c| c.split('"').nth(1).unwrap()).collect();
            // A connection that was silent for long is made anew.
            if verbs == expected || took < LONG || started.elapsed() > PATIENCE {
                assert_eq!(verbs, expected, "{heard:?}");
                break;
            }
        }
    }
}

/// The script of an update reads once where the version and the deadline are those that it is told of, and else twice.
#[tokio::test]
async fn an_update_writes_over_what_it_expects_and_looks_closer_at_all_else() {
    let place = Place::own(Which::Single).await;
    let server = &place.primaries()[0];
    let clock = ManualClock::new();
    // One connection, which is never replaced: nothing is sent twice.
    let store = RedisStore::from_connection(connect(server).await)
        .with_timeout(PATIENCE)
        .with_clock(clock.clone());
    let first = record(clock.now().into(), HOUR, None);
    let id = new_id();
    let created = store.create(&id, &first).await.unwrap();
    assert_eq!(created, Created::Done);
    let second = next(&first);
    let longer = |record: &Record| Record {
        expires_at: record.expires_at.saturating_add(HOUR / 2),
        ..next(record)
    };
    let third = longer(&second);
    let fourth = next(&third);
    let steps = [
        ("as nearly always", second.clone(), first.version, 1),
        ("again", second.clone(), first.version, 2),
        ("a later deadline", third.clone(), second.version, 2),
        (
            "the deadline that it has now",
            fourth.clone(),
            third.version,
            1,
        ),
    ];
    for (what, record, expected, looks) in steps {
        order(server, &["CONFIG", "RESETSTAT"]).await;
        let updated = store.update(&id, &record, expected).await.unwrap();
        assert_eq!(updated, Updated::Done, "{what}");
        assert_eq!(looks_at_a_record(server).await, looks, "{what}");
        assert_eq!(store.load(&id).await.unwrap(), Some(record), "{what}");
    }

    // What the server has under that version is this write, whatever it was sent with (C5).
    let same = Record {
        payload: b"another".to_vec().into(),
        ..fourth.clone()
    };
    let updated = store.update(&id, &same, fourth.version).await.unwrap();
    assert_eq!(updated, Updated::Done);
    assert_eq!(store.load(&id).await.unwrap(), Some(fourth.clone()));

    let later = fourth.expires_at.saturating_add(HOUR / 4);
    assert!(store.touch(&id, later, fourth.version).await.unwrap());
    let fifth = next(&fourth);
    let updated = store.update(&id, &fifth, fourth.version).await.unwrap();
    assert_eq!(updated, Updated::Done, "touched meanwhile");

    clock.advance(HOUR * 2);
    let too_late = next(&fifth);
    let updated = store.update(&id, &too_late, fifth.version).await.unwrap();
    assert_eq!(updated, Updated::Gone, "dead, though the version is right");
}

async fn looks_at_a_record(server: &Server) -> u32 {
    let statistics = order(server, &["INFO", "commandstats"]).await;
    let calls = statistics.split_once("cmdstat_getrange:calls=");
    let calls = calls.map_or("0", |(_, rest)| rest.split(',').next().unwrap());
    calls.parse().unwrap()
}

#[tokio::test]
async fn ten_reads_in_parallel_share_one_connection_and_one_round_trip() {
    let place = Place::new(Which::Single).await;
    eventually("a round trip that is quick", || ten_reads(&place)).await;
}

/// `None` if it took so long that another connection may have been tried.
async fn ten_reads(place: &Place) -> Option<()> {
    const READS: u64 = 10;
    let proxy = FaultProxy::to(place.primaries()[0].address()).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let store = Arc::new(patient(&url).with_prefix(&*place.prefix));
    let began = Instant::now();
    let record = record(now(), HOUR, None);
    let mut ids = Vec::new();
    for _ in 0..READS {
        ids.push(new_id());
        let created = store.create(ids.last().unwrap(), &record).await;
        assert_eq!(created.unwrap(), Created::Done);
    }
    let before = proxy.traffic();
    store.load(&ids[0]).await.unwrap();
    let one = proxy.traffic().to_server - before.to_server;

    // No reply comes back before all questions have been asked.
    proxy.hold(Direction::ToClient);
    let before = proxy.traffic();
    let mut reads = JoinSet::new();
    for id in ids {
        let store = Arc::clone(&store);
        reads.spawn(async move { store.load(&id).await });
    }
    let asked = proxy.wait_until(|t| t.to_server >= before.to_server + READS * one);
    let asked = asked.await;
    proxy.release(Direction::ToClient);
    while let Some(read) = reads.join_next().await {
        assert_eq!(read.unwrap().unwrap().as_ref(), Some(&record));
    }
    if began.elapsed() > LONG {
        return None;
    }
    assert_eq!(asked.to_server, before.to_server + READS * one);
    assert_eq!(asked.to_client, before.to_client);
    assert_eq!(proxy.traffic().connections, 1);
    Some(())
}

/// Less than a connection may be silent before another is tried.
const LONG: Duration = Duration::from_millis(400);

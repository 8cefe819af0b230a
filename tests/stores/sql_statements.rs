//! What a request costs in statements, counted by the server.

use std::{fs, sync::Arc};

use http::Method;
use sqlx::{
    mysql::MySqlPoolOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;
use tower_keep::{SessionLayer, Updated};
use tower_keep_servers::{Kind, Server};

use crate::{
    sql_places::{AnyPool, HOUR, Sessions, create, next, now, record},
    support::{Browser, PATIENCE, app, new_table},
};

/// The server of that kind that writes down each statement.
async fn server(kind: Kind) -> &'static Server {
    static SERVERS: [OnceCell<Server>; 2] = [const { OnceCell::const_new() }; 2];
    let (server, settings) = match kind {
        Kind::Postgres => (
            &SERVERS[0],
            ["-c", "log_statement=all", "-c", "log_line_prefix=<%a> "].as_slice(),
        ),
        _ => (
            &SERVERS[1],
            ["--general-log=1", "--log-output=TABLE"].as_slice(),
        ),
    };
    server
        .get_or_init(|| Server::start_with(kind, settings))
        .await
}

/// A store there in a table of its own, over one connection.
pub(crate) struct Scene {
    server: &'static Server,
    /// What its connection calls itself, on PostgreSQL.
    name: String,
    pub(crate) store: Arc<dyn Sessions>,
    /// Another connection, and the number of the store's, on MariaDB.
    log: Option<(AnyPool, String)>,
    seen: usize,
}

impl Scene {
    pub(crate) async fn new(kind: Kind, ping: bool) -> Self {
        let table = new_table();
        let name = table.to_string();
        let server = server(kind).await;
        let (pool, log) = match kind {
            Kind::Postgres => {
                let options: PgConnectOptions = server.url().parse().unwrap();
                let pool = PgPoolOptions::new()
                    .max_connections(1)
                    .test_before_acquire(ping)
                    .connect_lazy_with(options.application_name(&name));
                (AnyPool::Postgres(pool), None)
            }
            _ => {
                let pool = MySqlPoolOptions::new()
                    .max_connections(1)
                    .test_before_acquire(ping)
                    .connect_lazy(&server.url());
                let pool = AnyPool::MySql(pool.unwrap());
                let other = MySqlPoolOptions::new().connect_lazy(&server.url());
                let number = pool.column("SELECT CONNECTION_ID()").await.remove(0);
                (pool, Some((AnyPool::MySql(other.unwrap()), number)))
            }
        };
        let store = pool.store(&table);
        store.migrate().await.unwrap();
        Self {
            server,
            name,
            store,
            log,
            seen: 0,
        }
    }

    /// What the connection of the store has done since the last call. A statement that is prepared
    /// for later executions is not executed by that.
    async fn take(&mut self) -> Vec<String> {
        let all: Vec<String> = match &self.log {
            None => {
                let log = fs::read(self.server.folder().join("log")).unwrap();
                let log = String::from_utf8_lossy(&log);
                let ours = log.lines().filter_map(|line| {
                    let line = line.strip_prefix(&format!("<{}> LOG:  ", self.name))?;
                    let (how, statement) = line.split_once(": ")?;
                    let executed = how.starts_with("execute") || how == "statement";
                    executed.then(|| statement.to_owned())
                });
                ours.collect()
            }
            Some((pool, number)) => {
                let query = format!(
                    "SELECT IF(command_type IN ('Query', 'Execute'), LEFT(argument, 30), \
                     CONCAT('(', command_type, ')')) FROM mysql.general_log \
                     WHERE thread_id = {number} AND command_type NOT IN ('Prepare', 'Close stmt')"
                );
                pool.column(&query).await
            }
        };
        let new = all[self.seen..].to_vec();
        self.seen = all.len();
        new
    }

    /// The first words of what was done since the last call.
    pub(crate) async fn verbs(&mut self) -> Vec<String> {
        let statements = self.take().await;
        let verb = |statement: &String| statement.split(' ').next().unwrap().to_owned();
        statements.iter().map(verb).collect()
    }
}

/// One request of each kind, and the verbs of its statements.
const REQUESTS: [(&str, Method, &str, &[&str]); 9] = [
    ("untouched", Method::GET, "/ignored", &[]),
    ("read", Method::GET, "/get/cart", &["SELECT"]),
    ("change", Method::POST, "/put/cart/X", &["SELECT", "UPDATE"]),
    ("the same again", Method::POST, "/put/cart/X", &["SELECT"]),
    ("cycle_id", Method::POST, "/cycle", &["SELECT", "UPDATE"]),
    ("login", Method::POST, "/login/ada", &["SELECT", "UPDATE"]),
    ("logout", Method::POST, "/logout", &["DELETE"]),
    ("anonymous", Method::GET, "/get/cart", &[]),
    ("new", Method::POST, "/put/cart/X", &["INSERT"]),
];

async fn each_request_costs_what_the_table_says(kind: Kind) {
    let mut scene = Scene::new(kind, false).await;
    let layer = SessionLayer::new(Arc::clone(&scene.store)).with_store_timeout(PATIENCE);
    let mut browser = Browser::new(&app(layer));
    browser.post("/put/cart/0").await.assert_ok();
    scene.take().await;
    // In the first round statements are prepared, and in the others they are not.
    for round in 1..=3 {
        for (what, method, path, verbs) in REQUESTS {
            let path = path.replace('X', &round.to_string());
            browser.send(method, &path).await.assert_ok();
            let statements = scene.take().await;
            let counted: Vec<&str> = statements
                .iter()
                .map(|statement| statement.split(' ').next().unwrap())
                .collect();
            assert_eq!(counted, verbs, "{what} in round {round}: {statements:?}");
        }
    }
}

async fn a_conflict_costs_one_select_more(kind: Kind) {
    let mut scene = Scene::new(kind, false).await;
    let store = Arc::clone(&scene.store);
    let first = record(now(), HOUR, None);
    let id = create(&*store, &first).await;
    let second = next(&first);
    scene.take().await;
    let updated = store.update(&id, &second, first.version).await.unwrap();
    assert_eq!(updated, Updated::Done);
    assert_eq!(scene.verbs().await, ["UPDATE"]);
    let lost = store.update(&id, &next(&first), first.version).await;
    assert_eq!(lost.unwrap(), Updated::Conflict(second.clone()));
    assert_eq!(scene.verbs().await, ["UPDATE", "SELECT"]);
    let deadline = now().saturating_add(HOUR * 2);
    assert!(store.touch(&id, deadline, second.version).await.unwrap());
    assert_eq!(scene.verbs().await, ["UPDATE"]);
}

/// A ping is a message of its own, and none that a server takes for a statement.
async fn a_pool_that_tests_its_connections_adds_no_statement(kind: Kind) {
    let mut scene = Scene::new(kind, true).await;
    let id = create(&*scene.store, &record(now(), HOUR, None)).await;
    scene.take().await;
    for _ in 0..3 {
        assert!(scene.store.load(&id).await.unwrap().is_some());
        assert_eq!(scene.verbs().await, ["SELECT"]);
    }
}

mod postgres {
    use super::*;

    #[tokio::test]
    async fn each_request_costs_what_the_table_says_and_no_transaction() {
        each_request_costs_what_the_table_says(Kind::Postgres).await;
    }

    #[tokio::test]
    async fn a_conflict_costs_one_select_more() {
        super::a_conflict_costs_one_select_more(Kind::Postgres).await;
    }

    #[tokio::test]
    async fn a_pool_that_tests_its_connections_adds_no_statement() {
        super::a_pool_that_tests_its_connections_adds_no_statement(Kind::Postgres).await;
    }
}

mod mysql {
    use super::*;

    #[tokio::test]
    async fn each_request_costs_what_the_table_says_and_no_transaction() {
        each_request_costs_what_the_table_says(Kind::MariaDb).await;
    }

    #[tokio::test]
    async fn a_conflict_costs_one_select_more() {
        super::a_conflict_costs_one_select_more(Kind::MariaDb).await;
    }

    #[tokio::test]
    async fn a_pool_that_tests_its_connections_adds_no_statement() {
        super::a_pool_that_tests_its_connections_adds_no_statement(Kind::MariaDb).await;
    }
}

//! Which way the databases take to the rows, asked of themselves.

use std::{
    fmt,
    sync::{Mutex, OnceLock},
    time::Duration,
};

use tokio::time::timeout;
use tower_keep::UserId;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::sql_places::{HOUR, Place, Which, create, new_id, next, now, on_each_database, record};

on_each_database!(every_statement_finds_its_rows_by_an_index);

/// The table of 20,000 sessions, of which one in a hundred has expired, of 2000 users and of nobody.
async fn fill(place: &Place) {
    let table = &place.table;
    let start = now().as_millis();
    let (numbers, id, token, user) = match place.which {
        Which::Postgres => (
            "generate_series(1, 20000) AS numbers (n)",
            "sha256(n::text::bytea)",
            "substr(sha256(n::text::bytea), 1, 16)",
            "CASE WHEN n % 2 = 0 THEN 'user' || (n % 2000) END",
        ),
        Which::MySql => (
            "(SELECT seq AS n FROM seq_1_to_20000) AS numbers",
            "unhex(sha2(n, 256))",
            "unhex(md5(n))",
            "CASE WHEN n % 2 = 0 THEN concat('user', n % 2000) END",
        ),
        Which::Sqlite => (
            "(WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq \
             WHERE n < 20000) SELECT n FROM seq) AS numbers",
            "randomblob(32)",
            "randomblob(16)",
            "CASE WHEN n % 2 = 0 THEN 'user' || (n % 2000) END",
        ),
    };
    let payload = place.bytes(&[7; 100]);
    place
        .pool
        .run(&format!(
            "INSERT INTO {table} SELECT {id}, 1, {token}, {user}, {start}, \
             CASE WHEN n % 100 = 0 THEN {start} - n ELSE {start} + 3600000 + n END, \
             {start} + 99999999, {payload} FROM {numbers}"
        ))
        .await;
    let analyze = match place.which {
        Which::MySql => format!("ANALYZE TABLE {table}"),
        Which::Postgres | Which::Sqlite => format!("ANALYZE {table}"),
    };
    place.pool.rows(&analyze).await;
}

/// Does each thing that a store can be asked for, and returns the statements that it took, as sqlx
/// was given them.
async fn statements(place: &Place) -> Vec<String> {
    let seen = statements_seen();
    let store = place.store();
    let user = UserId::new("user8").unwrap();
    let first = record(now(), HOUR, Some("user8"));
    let id = create(&*store, &first).await;
    // Taken.
    let _ = store.create(&id, &next(&first)).await.unwrap();
    assert!(store.load(&id).await.unwrap().is_some());
    let second = next(&first);
    let _ = store.update(&id, &second, first.version).await.unwrap();
    let later = now().saturating_add(HOUR * 2);
    assert!(store.touch(&id, later, second.version).await.unwrap());
    // In the wrong version: it looks for the reason.
    let new = new_id();
    let _ = store
        .rotate(&id, &new, &next(&second), first.version)
        .await
        .unwrap();
    let _ = store
        .rotate(&id, &new, &next(&second), second.version)
        .await
        .unwrap();
    assert!(!store.sessions_of(&user).await.unwrap().is_empty());
    assert!(!store.scan(None, 100).await.unwrap().sessions.is_empty());
    // Not there any more: it looks for one that has expired.
    assert!(store.delete(&new).await.unwrap());
    assert!(!store.delete(&new).await.unwrap());
    assert!(!store.delete_all_of(&user, None).await.unwrap().is_empty());
    assert!(store.delete_expired(10).await.unwrap() > 0);

    let table = place.table.name();
    let told = || {
        let mut texts: Vec<String> = seen.lock().unwrap().clone();
        texts.retain(|text| text.contains(table) && text.contains(['?', '$']));
        texts.sort();
        texts.dedup();
        texts
    };
    // The workers of SQLite's connections tell of a statement just after they have answered.
    let all_told = async {
        while !KINDS
            .iter()
            .all(|kind| told().iter().any(|text| is_of(kind, text)))
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // Who asked says what is missing.
    let _ = timeout(PATIENCE, all_told).await;
    told()
}

fn is_of((verb, part, _): &Kind, text: &str) -> bool {
    text.starts_with(verb) && text.contains(part)
}

type Kind = (&'static str, &'static str, &'static str);

/// What every statement begins with but for the table, and the index that it is to use.
const KINDS: [Kind; 10] = [
    ("SELECT", "WHERE id = ", "id"),
    ("SELECT", "WHERE id IN ", "id"),
    ("SELECT", "ORDER BY id LIMIT ", "id"),
    ("SELECT", "WHERE user_id = ", "user_id"),
    ("UPDATE", "SET revision = ", "id"),
    ("UPDATE", "SET id = ", "id"),
    ("UPDATE", "SET expires_at = ", "id"),
    ("DELETE", "WHERE id = ", "id"),
    ("DELETE", "WHERE user_id = ", "user_id"),
    ("DELETE", "ORDER BY expires_at LIMIT ", "expires_at"),
];

async fn every_statement_finds_its_rows_by_an_index(which: Which) {
    let place = Place::new(which).await;
    fill(&place).await;
    let texts = statements(&place).await;
    for kind in KINDS {
        assert!(
            texts.iter().any(|text| is_of(&kind, text)),
            "{kind:?}: {texts:#?}"
        );
    }
    for text in texts {
        if text.starts_with("INSERT") {
            continue;
        }
        let kind = KINDS.into_iter().find(|kind| is_of(kind, &text));
        let (_, part, index) = kind.unwrap_or_else(|| panic!("unknown: {text}"));
        for plan in plans(&place, &text).await {
            match which {
                Which::Postgres => postgres_uses(&place, &plan, index, &text),
                Which::MySql => mysql_uses(&place, &plan, index, &text),
                Which::Sqlite => sqlite_uses(&place, &plan, index, &text),
            }
            let sorts = ["Sort", "filesort", "TEMP B-TREE"]
                .iter()
                .any(|s| plan.contains(s));
            // A delete of a few thousand may sort the rows it has found; a page may not.
            assert!(!sorts || !part.contains("ORDER BY"), "{text}\n{plan}");
        }
    }
}

fn postgres_uses(place: &Place, plan: &str, index: &str, text: &str) {
    let name = place.table.name();
    let index = match index {
        "id" => format!("{name}_pkey"),
        other => format!("{name}_{other}"),
    };
    assert!(!plan.contains("Seq Scan"), "{text}\n{plan}");
    assert!(plan.contains(&index), "{text}\n{plan}");
}

/// The columns of a plan are `id, select_type, table, type, possible_keys, key, …`.
fn mysql_uses(place: &Place, plan: &str, index: &str, text: &str) {
    let index = match index {
        "id" => "PRIMARY".to_owned(),
        other => format!("{}_{other}", place.table.name()),
    };
    for line in plan.lines() {
        let cells: Vec<&str> = line.split(" | ").collect();
        assert!(
            ["const", "eq_ref", "ref", "range"].contains(&cells[3]),
            "{text}\n{plan}"
        );
        assert_eq!(cells[5], index, "{text}\n{plan}");
    }
}

fn sqlite_uses(place: &Place, plan: &str, index: &str, text: &str) {
    let name = place.table.name();
    let index = match index {
        "id" => format!("sqlite_autoindex_{name}_1"),
        other => format!("{name}_{other}"),
    };
    assert!(!plan.contains("SCAN"), "{text}\n{plan}");
    assert!(plan.contains(&index), "{text}\n{plan}");
}

/// The plans of a statement: on PostgreSQL that for any values, and that for some.
async fn plans(place: &Place, text: &str) -> Vec<String> {
    let with_values = format!("EXPLAIN {}", filled(place, text).await);
    match place.which {
        Which::Postgres => {
            let count = text.matches('$').count();
            let nulls = vec!["NULL"; count].join(", ");
            let generic = format!(
                "SET plan_cache_mode = force_generic_plan; PREPARE statement AS {text}; \
                 EXPLAIN EXECUTE statement({nulls}); DEALLOCATE statement; RESET plan_cache_mode"
            );
            vec![
                explained(place, &with_values).await,
                explained(place, &generic).await,
            ]
        }
        Which::MySql => vec![explained(place, &with_values).await],
        Which::Sqlite => vec![explained(place, &format!("EXPLAIN QUERY PLAN {text}")).await],
    }
}

async fn explained(place: &Place, query: &str) -> String {
    let rows = place.pool.rows(query).await;
    let line = |row: &Vec<Option<String>>| {
        let cells: Vec<&str> = row
            .iter()
            .map(|cell| cell.as_deref().unwrap_or("-"))
            .collect();
        cells.join(" | ")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A statement with a value for each parameter, by the column before it.
async fn filled(place: &Place, text: &str) -> String {
    const COLUMNS: [&str; 8] = [
        "user_id",
        "id",
        "token",
        "payload",
        "revision",
        "_at",
        "_deadline",
        "LIMIT",
    ];
    let mut parts = text.split(['?', '$']);
    let mut filled = parts.next().unwrap_or_default().to_owned();
    let store = place.store();
    // One that is there: MariaDB looks up what it takes for constant.
    let some = store.scan(None, 10).await.unwrap().sessions.remove(0);
    let some_id = place.bytes(some.id.as_bytes());
    for part in parts {
        let before = COLUMNS
            .iter()
            .filter_map(|column| Some((filled.rfind(column)?, column)));
        // `user_id` also ends with `id`: the longest name that ends there.
        let column = before.max_by_key(|(at, column)| (at + column.len(), column.len()));
        let (_, column) = column.unwrap();
        let value = match *column {
            "id" => some_id.clone(),
            "user_id" => "'user10'".to_owned(),
            "token" => place.bytes(some.record.version.token.as_bytes()),
            "revision" => some.record.version.revision.to_string(),
            "payload" => place.bytes(b"data"),
            "LIMIT" => "100".to_owned(),
            _ => now().as_millis().to_string(),
        };
        filled += &value;
        filled += part.trim_start_matches(|char: char| char.is_ascii_digit());
    }
    filled
}

/// All statements of this process from the first call on, as sqlx tells of them.
fn statements_seen() -> &'static Mutex<Vec<String>> {
    static SEEN: OnceLock<()> = OnceLock::new();
    SEEN.get_or_init(|| tracing::subscriber::set_global_default(Listener).unwrap());
    &STATEMENTS
}

static STATEMENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Statement);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Statement;

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "db.statement" {
            STATEMENTS.lock().unwrap().push(value.trim().to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// For the worker to tell what it has done.
const PATIENCE: Duration = Duration::from_secs(10);

//! Two processes over one server, each with a cache of its own: what one ends, the other stops to serve.
//!
//! A child process is this test program again, told by its environment what to do.

use std::{
    env,
    io::Write,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinSet,
};
use tower_keep::{
    Cached, CachedStore, MemoryCache, PostgresStore, RecordCache, RecordId, RedisStore,
    SessionStore, TableName, Updated,
};
use tower_keep_servers::{Kind, Server};

use crate::{
    postgres_near::{OF_THE_POOL, marked},
    sql_places::{HOUR, new_id, next, now, record},
    support::{PATIENCE, eventually},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_a_logout_reaches_the_other_process_though_its_connection_is_killed() {
    let server = Server::start(Kind::Redis).await;
    let store = RedisStore::open(&server.url()).unwrap();
    let store = store.with_timeout(PATIENCE);
    let cut = async || kill_trackers(&server).await;
    let store = CachedStore::new(store.near_cache().await.unwrap(), store);
    logouts_arrive("redis", &server.url(), store, cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_a_logout_reaches_the_other_process_though_its_connection_is_killed() {
    let server = Server::start(Kind::Postgres).await;
    let pool = marked().connect(&server.url()).await.unwrap();
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.unwrap();
    store.migrate_notifications().await.unwrap();
    let cut = async || {
        // A beat is the last thing that such a connection has said.
        let listeners = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE query LIKE 'SELECT pg_catalog.pg_notify%' AND application_name <> $1";
        let killed = sqlx::query_scalar::<_, bool>(listeners).bind(OF_THE_POOL);
        let killed = killed.fetch_all(&pool).await.unwrap();
        killed.into_iter().filter(|killed| *killed).count()
    };
    let store = CachedStore::new(store.near_cache().await.unwrap(), store);
    logouts_arrive("postgres", &server.url(), store, cut).await;
}

/// Ends sessions that the other process has in its cache, one after the other, while both are busy, and in some rounds
/// its connection for news is killed just before.
async fn logouts_arrive<S: SessionStore + Clone>(
    kind: &str,
    url: &str,
    store: S,
    cut: impl AsyncFn() -> usize,
) {
    let mut other = Other::start(kind, url).await;
    let busy = busy(&store).await;
    let (mut usual, mut cut_off) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let id = new_id();
        let first = record(now(), HOUR, None);
        let _ = store.create(&id, &first).await.unwrap();
        // Warm: the other has read it from its cache.
        other.tell(&id).await;
        other.hears("has", &id).await;
        let is_cut = round % 4 == 3;
        if is_cut {
            let cut = || async { (cut().await > 0).then_some(()) };
            eventually("a connection to kill", cut).await;
        }
        let second = next(&first);
        let updated = store.update(&id, &second, first.version).await;
        assert_eq!(updated.unwrap(), Updated::Done);
        assert_eq!(store.load(&id).await.unwrap(), Some(second));
        assert!(store.delete(&id).await.unwrap());
        let ended = micros();
        assert_eq!(store.load(&id).await.unwrap(), None);
        let last = other.hears("gone", &id).await.parse::<u64>().unwrap();
        let after = Duration::from_micros(last.saturating_sub(ended));
        match is_cut {
            true => cut_off.push(after),
            false => usual.push(after),
        }
    }
    busy.stop().await;
    usual.sort();
    cut_off.sort();
    let slowest = |times: &[Duration]| *times.last().unwrap();
    eprintln!(
        "{kind}: the last request of the other process that was still served what had ended began {:?} (median) after \
         the logout, {:?} (slowest); {:?} (slowest) when its connection was killed before",
        usual[usual.len() / 2],
        slowest(&usual),
        slowest(&cut_off)
    );
    for times in [&usual, &cut_off] {
        assert!(slowest(times) < STALENESS_MAX, "{times:?}");
    }
}

/// Does in another process what its environment says; in a run of all tests, nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_process_reads_through_a_cache_of_its_own() {
    let Ok(kind) = env::var("TOWER_KEEP_NEAR_CHILD") else {
        return;
    };
    let url = env::var("TOWER_KEEP_NEAR_URL").unwrap();
    match &*kind {
        "redis" => {
            let store = RedisStore::open(&url).unwrap();
            let store = store.with_timeout(PATIENCE);
            let cache = store.near_cache().await.unwrap();
            read_until_gone(CachedStore::new(cache, store)).await;
        }
        "postgres" => {
            let pool = marked().connect(&url).await.unwrap();
            let store = PostgresStore::new(pool).with_table(TableName::default());
            let cache = store.near_cache().await.unwrap();
            read_until_gone(CachedStore::new(cache, store)).await;
        }
        _ => panic!("no such kind"),
    }
}

/// Reads each session that it is told of, again and again, until it is gone, and tells when it comes from the cache, and
/// when the last read began that found it.
async fn read_until_gone<S: SessionStore>(store: CachedStore<MemoryCache, S>) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let id = parse(&line);
        let (mut last, mut is_told) = (0, false);
        loop {
            let began = micros();
            if store.load(&id).await.unwrap().is_none() {
                break;
            }
            last = began;
            if !is_told && let Ok(Cached::Hit(_)) = store.cache().get(&id).await {
                is_told = true;
                say("has", &id, last);
            }
            tokio::task::yield_now().await;
        }
        say("gone", &id, last);
    }
}

/// By the clock that both processes have.
fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_micros().try_into().unwrap()
}

/// The other process.
struct Other {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Other {
    async fn start(kind: &str, url: &str) -> Self {
        let test = "near_processes::a_child_process_reads_through_a_cache_of_its_own";
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env("TOWER_KEEP_NEAR_CHILD", kind)
            .env("TOWER_KEEP_NEAR_URL", url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            _child: child,
            stdin,
            stdout,
        }
    }

    async fn tell(&mut self, id: &RecordId) {
        let line = format!("{}\n", hex(id));
        self.stdin.write_all(line.as_bytes()).await.unwrap();
    }

    /// Waits until it says that, and answers the rest of the line.
    async fn hears(&mut self, what: &str, id: &RecordId) -> String {
        let expected = format!(">{what} {} ", hex(id));
        let heard = async {
            while let Some(line) = self.stdout.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix(&expected) {
                    return rest.to_owned();
                }
            }
            panic!("the other process has ended");
        };
        let heard = tokio::time::timeout(PATIENCE, heard).await;
        heard.unwrap_or_else(|_| panic!("not {what} after {PATIENCE:?}"))
    }
}

/// Writers that keep the server and the news busy.
struct Busy {
    tasks: JoinSet<u64>,
    stop: Arc<AtomicBool>,
}

async fn busy<S: SessionStore + Clone>(store: &S) -> Busy {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for _ in 0..WRITERS {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        tasks.spawn(async move {
            let id = new_id();
            let mut present = record(now(), HOUR, None);
            let _ = store.create(&id, &present).await.unwrap();
            let mut writes = 0;
            while !stop.load(SeqCst) {
                let newer = next(&present);
                let updated = store.update(&id, &newer, present.version).await;
                assert_eq!(updated.unwrap(), Updated::Done);
                present = newer;
                writes += 1;
            }
            writes
        });
    }
    Busy { tasks, stop }
}

impl Busy {
    async fn stop(self) {
        self.stop.store(true, SeqCst);
        let writes: u64 = self.tasks.join_all().await.into_iter().sum();
        eprintln!("meanwhile {writes} writes of others");
    }
}

/// Kills all connections that Redis tells of writes, and answers how many.
async fn kill_trackers(server: &Server) -> usize {
    let mut killed = 0;
    let list = server.redis_command(&["CLIENT", "LIST"]).await.unwrap();
    for line in list.lines() {
        let field = |name| line.split(' ').find_map(|field| field.strip_prefix(name));
        let flags: &str = field("flags=").unwrap();
        // Tracking in broadcast mode.
        if flags.contains('B') {
            let kill = ["CLIENT", "KILL", "ID", field("id=").unwrap()];
            let count = server.redis_command(&kill).await.unwrap();
            killed += count.parse::<usize>().unwrap();
        }
    }
    killed
}

fn say(what: &str, id: &RecordId, when: u64) {
    // One call of the system a line.
    let line = format!("\n>{what} {} {when}\n", hex(id));
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

fn hex(id: &RecordId) -> String {
    data_encoding::HEXLOWER.encode(id.as_bytes())
}

fn parse(line: &str) -> RecordId {
    let bytes = data_encoding::HEXLOWER.decode(line.as_bytes()).unwrap();
    RecordId::from_bytes(bytes.try_into().unwrap())
}

const ROUNDS: usize = 40;

const WRITERS: usize = 4;

/// What the documentation promises.
const STALENESS_MAX: Duration = Duration::from_secs(1);

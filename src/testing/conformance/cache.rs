//! The clauses of `RecordCache`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::Mutex,
    task::{JoinSet, yield_now},
};

use super::{
    clauses::{SECRET, assert_error_is_quiet, assert_quiet},
    fixtures::{later, new_id, new_record, new_token, new_user, next},
};
use crate::{
    cache::{Cached, RecordCache},
    id::RecordId,
    record::Record,
    timestamp::Timestamp,
};

/// Tests a cache against the contract of [`RecordCache`](crate::RecordCache), one test a clause.
///
/// Takes an expression for the cache, which may `.await`, and is evaluated anew for each test. All
/// of them may share one server: no two use the same ids. What a cache may forget at any time is tried a few times; with a
/// time to live below a tenth of a second that will not do.
///
/// If the time to live is up to three seconds, clause K6 waits for it; else it is tested as far as it can be without. With
/// `unreachable = …`, a cache whose server cannot be reached, clause K7 is tested on the real thing.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_keep::{MemoryCache, testing::record_cache_tests};
///
/// record_cache_tests!(MemoryCache::stale_up_to(Duration::from_secs(1)));
/// ```
#[macro_export]
macro_rules! record_cache_tests {
    ($cache:expr $(, unreachable = $unreachable:expr)? $(,)?) => {
        $crate::conformance_tests! { @tests $cache;
            k01_copies_come_back
            k02_a_fill_needs_its_ticket
            k02_among_many_nothing_older_comes_back
            k03_a_replacement_needs_its_predecessor
            k04_what_is_removed_stays_away
            k05_a_touch_moves_the_deadline_alone_and_only_later
            k06_nothing_outlives_its_time
            k07_debug_is_quiet
        }
        $($crate::conformance_tests! { @tests $unreachable;
            k07_the_errors_of_an_outage_are_quiet
        })?
    };
}

pub async fn k01_copies_come_back<C: RecordCache>(cache: Arc<C>) {
    let cache = &*cache;
    assert_absent(cache, &new_id(), "an unknown id").await;

    let all_bytes: Vec<u8> = (0..=255).collect();
    let payloads: [&[u8]; 4] = [
        b"",
        b"\0",
        b"\xff\xfe not text \xc3\x28",
        &all_bytes.repeat(256),
    ];
    for payload in payloads {
        let mut record = new_record(payload);
        record.user = Some(new_user());
        record.created_at = Timestamp::from_millis(1);
        sooner_or_later("a copy", async || {
            let id = bring(cache, &record).await;
            has(cache, &id, &record).await && has(cache, &id, &record).await
        })
        .await;
    }
}

pub async fn k02_a_fill_needs_its_ticket<C: RecordCache>(cache: Arc<C>) {
    let cache = &*cache;
    let first = new_record(b"first");
    let second = next(&first, b"second");

    // After a removal, a replacement, or both; however many tickets there are, and whether or not another one has been
    // handed out since.
    for what in ["remove", "replace", "both"] {
        for has_later in [false, true] {
            let id = new_id();
            let tickets = [ticket(cache, &id).await, ticket(cache, &id).await];
            if what != "remove" {
                let replaced = cache.replace(&id, &second, first.version).await;
                replaced.expect("replace");
            }
            if what != "replace" {
                cache.remove(&id).await.expect("remove");
            }
            if has_later {
                let _later = ticket(cache, &id).await;
            }
            for ticket in tickets {
                let filled = cache.fill(&id, &first, ticket).await;
                filled.expect("a ticket that is void is no error");
                assert_absent(cache, &id, what).await;
            }
        }
    }

    // After a copy has been there and was removed.
    let id = new_id();
    let late = ticket(cache, &id).await;
    let early = ticket(cache, &id).await;
    cache.fill(&id, &first, early).await.expect("fill");
    cache.remove(&id).await.expect("remove");
    cache.fill(&id, &first, late).await.expect("fill");
    assert_absent(cache, &id, "filled before, and removed").await;

    // Over a copy that is there already.
    sooner_or_later("the copy that came first", async || {
        let id = new_id();
        let tickets = [ticket(cache, &id).await, ticket(cache, &id).await];
        for (ticket, record) in tickets.into_iter().zip([&second, &first]) {
            cache.fill(&id, record, ticket).await.expect("fill");
        }
        has(cache, &id, &second).await
    })
    .await;
}

/// Readers, writers and logouts at one id, beside a store that is but a variable.
pub async fn k02_among_many_nothing_older_comes_back<C: RecordCache>(cache: Arc<C>) {
    const ROUNDS: usize = 60;
    let scene = Arc::new(Scene {
        cache,
        id: new_id(),
        truth: Mutex::new((1, Some(new_record(b"first")))),
        floor: AtomicU64::new(0),
        hits: AtomicU64::new(0),
    });
    let mut tasks = JoinSet::new();
    for task in 0..12 {
        let scene = Arc::clone(&scene);
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                let [random, ..] = *new_token().as_bytes();
                for _ in 0..usize::from(random % 8) {
                    yield_now().await;
                }
                match task {
                    0..8 => scene.read().await,
                    8..11 => scene.write().await,
                    _ if round % 4 == 0 => scene.end().await,
                    _ => scene.begin_again().await,
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("a task");
    }
    // That it was about something: left alone, it keeps a copy.
    scene.begin_again().await;
    sooner_or_later("a copy", async || {
        scene.read().await;
        scene.hits.load(SeqCst) > 0
    })
    .await;
}

struct Scene<C> {
    cache: Arc<C>,
    id: RecordId,
    /// The last revision, and what the store has.
    truth: Mutex<(u64, Option<Record>)>,
    /// What is older than this must not be found any more.
    floor: AtomicU64,
    hits: AtomicU64,
}

impl<C: RecordCache> Scene<C> {
    async fn read(&self) {
        let floor = self.floor.load(SeqCst);
        match get(&*self.cache, &self.id).await {
            Cached::Hit(copy) => {
                let revision = copy.version.revision;
                assert!(revision >= floor, "{revision} was found after {floor}");
                self.hits.fetch_add(1, SeqCst);
            }
            Cached::Miss(ticket) => {
                let loaded = self.truth.lock().await.1.clone();
                yield_now().await;
                if let (Some(record), Some(ticket)) = (loaded, ticket) {
                    let filled = self.cache.fill(&self.id, &record, ticket).await;
                    filled.expect("fill");
                }
            }
        }
    }

    async fn write(&self) {
        let mut truth = self.truth.lock().await;
        let Some(present) = truth.1.clone() else {
            return;
        };
        let record = next(&present, b"written");
        *truth = (record.version.revision, Some(record.clone()));
        drop(truth);
        yield_now().await;
        let expected = present.version;
        let replaced = self.cache.replace(&self.id, &record, expected).await;
        replaced.expect("replace");
        self.floor.fetch_max(record.version.revision, SeqCst);
    }

    async fn end(&self) {
        let mut truth = self.truth.lock().await;
        truth.1 = None;
        let last = truth.0;
        drop(truth);
        yield_now().await;
        self.cache.remove(&self.id).await.expect("remove");
        self.floor.fetch_max(last + 1, SeqCst);
    }

    /// As no session does: under the same id, with a revision that goes on.
    async fn begin_again(&self) {
        let mut truth = self.truth.lock().await;
        if truth.1.is_none() {
            let mut record = new_record(b"begun again");
            record.version.revision = truth.0 + 1;
            *truth = (record.version.revision, Some(record));
        }
    }
}

pub async fn k03_a_replacement_needs_its_predecessor<C: RecordCache>(cache: Arc<C>) {
    let cache = &*cache;
    let mut first = new_record(b"first");
    // Revisions whose bytes are no text and cross a border.
    first.version.revision = 0x00FE_FFFF_FFFF_FFFE;
    let second = next(&first, b"the second");
    let third = next(&second, b"");
    let mut other = next(&first, b"of the same revision");
    other.version.token = new_token();

    sooner_or_later("a replacement", async || {
        let id = bring(cache, &first).await;
        replace(cache, &id, &second, &first).await;
        let is_there = has(cache, &id, &second).await;
        replace(cache, &id, &third, &second).await;
        is_there && has(cache, &id, &third).await
    })
    .await;

    for what in ["the same", "another of the revision", "older"] {
        sooner_or_later(what, async || {
            let id = bring(cache, &second).await;
            let outdated = match what {
                "the same" => &second,
                "older" => &first,
                _ => &other,
            };
            replace(cache, &id, outdated, &new_record(b"unknown")).await;
            has(cache, &id, &second).await
        })
        .await;
    }

    let id = bring(cache, &first).await;
    replace(cache, &id, &third, &second).await;
    assert_absent(
        cache,
        &id,
        "older than what was written, and not its predecessor",
    )
    .await;

    // The same revision as the predecessor, but of another write.
    let id = bring(cache, &other).await;
    replace(cache, &id, &third, &second).await;
    assert_absent(cache, &id, "of another write").await;

    let id = new_id();
    replace(cache, &id, &second, &first).await;
    assert_absent(cache, &id, "none was there").await;
}

pub async fn k04_what_is_removed_stays_away<C: RecordCache>(cache: Arc<C>) {
    let cache = &*cache;
    let record = new_record(b"was here");
    let id = bring(cache, &record).await;
    let beside = bring(cache, &record).await;
    for _ in 0..2 {
        cache.remove(&id).await.expect("remove");
        for _ in 0..3 {
            assert_absent(cache, &id, "removed").await;
        }
        replace(cache, &id, &next(&record, b"again"), &record).await;
        let touched = cache.touch(&id, later(), record.version).await;
        touched.expect("a touch of nothing is no error");
        assert_absent(cache, &id, "removed, and written by somebody late").await;
    }
    let _ = has(cache, &beside, &record).await;
    sooner_or_later("a later fill", async || {
        fill(cache, &id, &record).await;
        has(cache, &id, &record).await
    })
    .await;
}

pub async fn k05_a_touch_moves_the_deadline_alone_and_only_later<C: RecordCache>(cache: Arc<C>) {
    let cache = &*cache;
    let record = new_record(b"touched");
    let at = |seconds| Record {
        expires_at: record
            .expires_at
            .saturating_add(Duration::from_secs(seconds)),
        ..record.clone()
    };
    sooner_or_later("a touch", async || {
        let id = bring(cache, &record).await;
        let mut is_there = true;
        for (deadline, present) in [(60, 60), (0, 60), (59, 60), (61, 61)] {
            let touched = cache
                .touch(&id, at(deadline).expires_at, record.version)
                .await;
            touched.expect("touch");
            is_there &= has(cache, &id, &at(present)).await;
        }
        // It can still be replaced: the version stands.
        let next = next(&at(61), b"next");
        replace(cache, &id, &next, &record).await;
        let touched = cache.touch(&id, at(90).expires_at, record.version).await;
        touched.expect("touch of an outdated version");
        is_there && has(cache, &id, &next).await
    })
    .await;
    let id = new_id();
    let touched = cache.touch(&id, later(), record.version).await;
    touched.expect("a touch of nothing is no error");
    assert_absent(cache, &id, "touched").await;
}

pub async fn k06_nothing_outlives_its_time<C: RecordCache>(cache: Arc<C>) {
    let cache = &*cache;
    let time_to_live = cache.time_to_live();
    assert!(!time_to_live.is_zero(), "a copy has some time");
    if time_to_live > WAIT_MAX {
        return;
    }
    let first = new_record(b"first");
    // It counts from the ticket: the last of these is brought late.
    let id = new_id();
    let late = ticket(cache, &id).await;
    let handed_out = Instant::now();
    let [plain, busy] = [bring(cache, &first).await, bring(cache, &first).await];
    let brought = Instant::now();
    // By the cache's own clock, often that of a server, which nobody here can move.
    tokio::time::sleep(time_to_live / 2).await;
    cache.fill(&id, &first, late).await.expect("fill");
    let mut present = first.clone();
    while handed_out.elapsed() < time_to_live {
        present = write_and_touch(cache, &busy, &present).await;
        tokio::time::sleep(time_to_live / 50).await;
    }
    assert_absent(cache, &id, "brought late").await;
    while brought.elapsed() < time_to_live {
        present = write_and_touch(cache, &busy, &present).await;
        tokio::time::sleep(time_to_live / 50).await;
    }
    assert_absent(cache, &plain, "left alone").await;
    assert_absent(cache, &busy, "written and touched").await;
    // And what has outlived it can be brought anew.
    sooner_or_later("a new copy", async || {
        fill(cache, &plain, &first).await;
        has(cache, &plain, &first).await
    })
    .await;
}

async fn write_and_touch(cache: &impl RecordCache, id: &RecordId, present: &Record) -> Record {
    let mut record = next(present, b"written");
    replace(cache, id, &record, present).await;
    record.expires_at = record.expires_at.saturating_add(Duration::from_secs(1));
    let touched = cache.touch(id, record.expires_at, record.version).await;
    touched.expect("touch");
    let _ = get(cache, id).await;
    record
}

pub async fn k07_debug_is_quiet<C: RecordCache>(cache: Arc<C>) {
    let id = bring(&*cache, &new_record(SECRET)).await;
    let other = new_id();
    let ticket = ticket(&*cache, &other).await;
    assert_quiet(&format!("{cache:?} {cache:#?}"), &id);
    assert_quiet(&format!("{ticket:?}"), &other);
}

pub async fn k07_the_errors_of_an_outage_are_quiet<C: RecordCache>(cache: Arc<C>) {
    let id = new_id();
    let record = new_record(SECRET);
    let next = next(&record, SECRET);
    let errors = [
        cache.get(&id).await.expect_err("an outage is no miss"),
        cache
            .replace(&id, &next, record.version)
            .await
            .expect_err("an outage"),
        cache
            .touch(&id, later(), record.version)
            .await
            .expect_err("an outage"),
        cache.remove(&id).await.expect_err("an outage"),
    ];
    for error in errors {
        assert_error_is_quiet(&error, &id);
    }
}

async fn get<C: RecordCache>(cache: &C, id: &RecordId) -> Cached<C::Ticket> {
    cache.get(id).await.expect("get")
}

async fn replace(cache: &impl RecordCache, id: &RecordId, record: &Record, over: &Record) {
    let replaced = cache.replace(id, record, over.version).await;
    replaced.expect("replace");
}

/// A ticket for an id of which there is no copy.
async fn ticket<C: RecordCache>(cache: &C, id: &RecordId) -> C::Ticket {
    for _ in 0..ATTEMPTS_MAX {
        match get(cache, id).await {
            Cached::Miss(Some(ticket)) => return ticket,
            Cached::Miss(None) => tokio::time::sleep(PAUSE).await,
            Cached::Hit(copy) => panic!("there is a copy: {copy:?}"),
        }
    }
    panic!("the cache hands out no tickets")
}

async fn fill(cache: &impl RecordCache, id: &RecordId, record: &Record) {
    if let Cached::Miss(Some(ticket)) = get(cache, id).await {
        cache.fill(id, record, ticket).await.expect("fill");
    }
}

/// Under an id of its own. It may have been lost already.
async fn bring(cache: &impl RecordCache, record: &Record) -> RecordId {
    let id = new_id();
    let ticket = ticket(cache, &id).await;
    cache.fill(&id, record, ticket).await.expect("fill");
    id
}

/// Whether there is a copy, which then must be this one.
async fn has(cache: &impl RecordCache, id: &RecordId, record: &Record) -> bool {
    match get(cache, id).await {
        Cached::Hit(copy) => {
            assert_eq!(&copy, record);
            true
        }
        Cached::Miss(_) => false,
    }
}

async fn assert_absent(cache: &impl RecordCache, id: &RecordId, what: &str) {
    if let Cached::Hit(copy) = get(cache, id).await {
        panic!("{what}: {copy:?}");
    }
}

/// A cache may forget anything at any time, but not all of it each time.
async fn sooner_or_later(what: &str, attempt: impl AsyncFn() -> bool) {
    for _ in 0..ATTEMPTS_MAX {
        if attempt().await {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{what}: it is never there");
}

const ATTEMPTS_MAX: u32 = 20;

const PAUSE: Duration = Duration::from_millis(10);

/// A time to live is not waited for if it is longer.
const WAIT_MAX: Duration = Duration::from_secs(3);

//! A cache of which one part hangs: what that costs those who need it, and those who do not.

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use tower_keep::{
    Cached, CachedStore, Created, MemoryCache, MemoryStore, Record, RecordCache, RecordId,
    SessionStore, StoreError, Timestamp, Updated, Version,
};

use crate::sql_places::{HOUR, new_id, next, now, record};

/// A cache in several parts, the first of which never answers.
#[derive(Debug)]
struct Lame {
    cache: MemoryCache,
    /// How often it was asked in vain.
    asked: AtomicUsize,
}

impl Lame {
    async fn limp(&self, id: &RecordId) {
        if self.part_of(id) == 0 {
            self.asked.fetch_add(1, SeqCst);
            pending().await
        }
    }
}

impl RecordCache for Lame {
    type Ticket = <MemoryCache as RecordCache>::Ticket;

    async fn get(&self, id: &RecordId) -> Result<Cached<Self::Ticket>, StoreError> {
        self.limp(id).await;
        self.cache.get(id).await
    }

    async fn fill(
        &self,
        id: &RecordId,
        record: &Record,
        ticket: Self::Ticket,
    ) -> Result<(), StoreError> {
        self.limp(id).await;
        self.cache.fill(id, record, ticket).await
    }

    async fn replace(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<(), StoreError> {
        self.limp(id).await;
        self.cache.replace(id, record, expected).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<(), StoreError> {
        self.limp(id).await;
        self.cache.touch(id, expires_at, expected).await
    }

    async fn remove(&self, id: &RecordId) -> Result<(), StoreError> {
        self.limp(id).await;
        self.cache.remove(id).await
    }

    fn time_to_live(&self) -> Duration {
        self.cache.time_to_live()
    }

    fn part_of(&self, id: &RecordId) -> usize {
        usize::from(id.as_bytes()[RecordId::LEN - 1] % 4)
    }
}

type Store = CachedStore<Lame, MemoryStore>;

/// Reads, writes and ends sessions until that time, and answers how many waited for the cache: by part.
async fn use_until(store: Store, end: Instant) -> [usize; 4] {
    let mut waited = [0; 4];
    while Instant::now() < end {
        let (id, first) = (new_id(), record(now(), HOUR, None));
        let began = Instant::now();
        assert_eq!(store.create(&id, &first).await.unwrap(), Created::Done);
        assert_eq!(store.load(&id).await.unwrap().as_ref(), Some(&first));
        let second = next(&first);
        let updated = store.update(&id, &second, first.version).await.unwrap();
        assert_eq!(updated, Updated::Done);
        assert_eq!(store.load(&id).await.unwrap().as_ref(), Some(&second));
        assert!(store.delete(&id).await.unwrap());
        assert_eq!(store.load(&id).await.unwrap(), None);
        let part = store.cache().part_of(&id);
        waited[part] += usize::from(began.elapsed() >= Store::CACHE_TIMEOUT_DEFAULT);
        // On the clock of the test, which goes on when everybody waits.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waited
}

#[tokio::test(start_paused = true)]
async fn a_part_that_hangs_costs_a_request_a_second_its_time_and_the_others_none() {
    const SECONDS: usize = 20;
    const CLIENTS: usize = 8;
    let cache = Lame {
        cache: MemoryCache::of_sole_process(),
        asked: AtomicUsize::new(0),
    };
    let store = CachedStore::new(cache, MemoryStore::new());
    let end = Instant::now() + Duration::from_secs(SECONDS as u64);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(use_until(store.clone(), end));
    }
    let waited = clients.join_all().await;
    let waited = (0..4).map(|part| waited.iter().map(|of| of[part]).sum());
    let waited: Vec<usize> = waited.collect();
    assert_eq!(waited[1..], [0, 0, 0]);
    // Those who came before the first one had waited for its answer, and then one a second.
    assert!(
        (SECONDS / 2..=CLIENTS + SECONDS).contains(&waited[0]),
        "{waited:?}"
    );
    // With who knocks five times a second to have removed what it owes.
    let asked = store.cache().asked.load(SeqCst);
    assert!(asked <= CLIENTS + 6 * SECONDS + 1, "{asked}");
}

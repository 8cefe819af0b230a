//! One node, and the single commands that it is sent.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use memcache::exp::{AsyncMetaClient, GetStatus, Meta, MutationStatus, Set};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep, timeout_at},
};

use super::{
    address::Address,
    failure::{STORE, is_passing, problem, store_error, unavailable},
};
use crate::error::{StoreError, StoreErrorKind};

/// A server, through connections that are made when they are needed.
#[derive(Debug)]
pub(super) struct Node {
    address: Address,
    link: AsyncMutex<Option<Link>>,
}

/// The connections, and what the server told when the first was made.
#[derive(Clone)]
struct Link {
    client: AsyncMetaClient,
    item_size_max: usize,
    /// Tells the link from another, too.
    silence: Arc<Mutex<Silence>>,
}

/// For how long the server has been waited for since it last answered.
struct Silence {
    waiters: usize,
    /// Since there are some, or since the last answer.
    since: Instant,
    /// The time before that in which there were some.
    before: Duration,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// What is under a key, and the number that a compare-and-set of it takes.
pub(super) struct Item {
    pub(super) value: Vec<u8>,
    pub(super) cas: u64,
}

/// Under which condition a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum If {
    /// Nothing is there.
    Absent,
    /// What is there has that number.
    Cas(u64),
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Done,
    /// Something else is there, or nothing.
    Refused,
    /// The connection broke: it may be there.
    Unknown,
}

impl Node {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            link: AsyncMutex::new(None),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) async fn get(
        &self,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Item>, StoreError> {
        let mut pause = PAUSE_MIN;
        for attempt in 1.. {
            let link = self.link(deadline).await?;
            let get = link.client.get(key).meta(Meta::NONE.cas()).send();
            match self.answer(&link, get, deadline).await {
                Ok(Ok(found)) => match (found.status, found.value, found.item.cas) {
                    (GetStatus::Miss, _, _) => return Ok(None),
                    (GetStatus::Hit, Some(value), Some(cas)) => {
                        return Ok(Some(Item { value, cas }));
                    }
                    _ => return Err(unavailable("the server broke the protocol")),
                },
                Ok(Err(error)) if is_passing(&error) && attempt < ATTEMPTS_MAX => {}
                Ok(Err(error)) => {
                    self.lost(&link);
                    return Err(store_error(error));
                }
                Err(silent) => return Err(silent),
            }
            sleep(pause).await;
            pause *= 2;
        }
        Err(unavailable("no attempt was made"))
    }

    /// Stores a value that lives for so many seconds, if the condition holds.
    pub(super) async fn set(
        &self,
        key: &str,
        value: &[u8],
        seconds: u32,
        condition: If,
        deadline: Instant,
    ) -> Result<Stored, StoreError> {
        let link = self.link(deadline).await?;
        // The server would answer an error too, but let go of what it has under that key.
        if value.len() + key.len() + ITEM_OVERHEAD > link.item_size_max {
            let problem = format!("the server takes items up to {} bytes", link.item_size_max);
            return Err(StoreError::new(STORE, StoreErrorKind::TooLarge, problem));
        }
        let set = Set::new(key, value).ttl_raw(seconds);
        let set = match condition {
            If::Absent => set.add(),
            If::Cas(cas) => set.compare_cas(cas),
        };
        match self.answer(&link, link.client.run(set), deadline).await? {
            Ok(done) if done.status == MutationStatus::Applied => Ok(Stored::Done),
            Ok(_) => Ok(Stored::Refused),
            Err(error) if is_passing(&error) => Ok(Stored::Unknown),
            Err(error) => {
                let error = store_error(error);
                if error.kind() == StoreErrorKind::TooLarge {
                    // It was started anew with other settings.
                    self.lost(&link);
                }
                Err(error)
            }
        }
    }

    /// Removes whatever is there, if anything is.
    pub(super) async fn clear(&self, key: &str, deadline: Instant) -> Result<(), StoreError> {
        let mut pause = PAUSE_MIN;
        for attempt in 1.. {
            let link = self.link(deadline).await?;
            match self
                .answer(&link, link.client.delete(key).send(), deadline)
                .await?
            {
                Ok(_) => return Ok(()),
                Err(error) if is_passing(&error) && attempt < ATTEMPTS_MAX => {}
                Err(error) => {
                    self.lost(&link);
                    return Err(store_error(error));
                }
            }
            sleep(pause).await;
            pause *= 2;
        }
        Err(unavailable("no attempt was made"))
    }

    /// Removes what has that number, and answers whether it is gone.
    pub(super) async fn remove(
        &self,
        key: &str,
        cas: u64,
        deadline: Instant,
    ) -> Result<bool, StoreError> {
        let link = self.link(deadline).await?;
        let remove = link.client.delete(key).compare_cas(cas).send();
        match self.answer(&link, remove, deadline).await? {
            Ok(done) => Ok(done.status != MutationStatus::CasMismatch),
            Err(error) if is_passing(&error) => Ok(false),
            Err(error) => Err(store_error(error)),
        }
    }

    /// What the server answers in time.
    async fn answer<T>(
        &self,
        link: &Link,
        asked: impl Future<Output = T>,
        deadline: Instant,
    ) -> Result<T, StoreError> {
        let waiter = Waiter::new(self, link);
        let answer = in_time(deadline, asked).await?;
        waiter.answered();
        Ok(answer)
    }

    async fn link(&self, deadline: Instant) -> Result<Link, StoreError> {
        let connect = async {
            let mut link = self.link.lock().await;
            if let Some(link) = &*link {
                return Ok(link.clone());
            }
            let address = self.address.host_and_port();
            let item_size_max = item_size_max(address).await?;
            let builder = AsyncMetaClient::builder()
                .connect_timeout(None)
                .io_timeout(None)
                .max_idle(CONNECTIONS_MAX)
                .max_connections(Some(CONNECTIONS_MAX));
            let client = builder.connect_async(address).await.map_err(store_error)?;
            let new = Link {
                client,
                item_size_max,
                silence: Arc::new(Mutex::new(Silence {
                    waiters: 0,
                    since: Instant::now(),
                    before: Duration::ZERO,
                })),
            };
            *link = Some(new.clone());
            Ok(new)
        };
        in_time(deadline, connect).await?
    }

    /// Its name may mean another host the next time, and its settings may be others.
    fn lost(&self, lost: &Link) {
        if let Ok(mut link) = self.link.try_lock()
            && link
                .as_ref()
                .is_some_and(|link| Arc::ptr_eq(&link.silence, &lost.silence))
        {
            *link = None;
        }
    }
}

/// One who has asked the server. If nobody is answered for long, the link is given up by one who does not wait any more,
/// for whatever reason: the host may have gone without a word, and another one have its name.
struct Waiter<'a> {
    node: &'a Node,
    link: &'a Link,
    is_answered: bool,
}

impl<'a> Waiter<'a> {
    fn new(node: &'a Node, link: &'a Link) -> Self {
        link.silence().begin();
        Self {
            node,
            link,
            is_answered: false,
        }
    }

    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let silence = self.link.silence().end(self.is_answered);
        if silence >= SILENCE {
            self.node.lost(self.link);
        }
    }
}

impl Link {
    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Silence {
    fn begin(&mut self) {
        if self.waiters == 0 {
            self.since = Instant::now();
        }
        self.waiters += 1;
    }

    /// Answers how long it has lasted.
    fn end(&mut self, is_answered: bool) -> Duration {
        self.waiters -= 1;
        let now = Instant::now();
        self.before = match is_answered {
            true => Duration::ZERO,
            false => self.before + (now - self.since),
        };
        self.since = now;
        self.before
    }
}

/// The largest item that the server takes, which the client cannot ask for.
async fn item_size_max(address: &str) -> Result<usize, StoreError> {
    let settings = settings(address).await.map_err(unavailable)?;
    let value = |name| settings.lines().find_map(|line| line.strip_prefix(name));
    if value("STAT cas_enabled ") == Some("no") {
        return Err(problem("the server compares nothing: start it without -C"));
    }
    let size = value("STAT item_size_max ").and_then(|size| size.parse().ok());
    size.ok_or_else(|| unavailable("the server does not tell its settings"))
}

async fn settings(address: &str) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.write_all(b"stats settings\r\n").await?;
    let mut settings = String::new();
    let mut stream = stream.take(SETTINGS_LEN_MAX);
    while stream.read_line(&mut settings).await? > 0 {
        if settings.ends_with("END\r\n") || settings.ends_with("ERROR\r\n") {
            return Ok(settings.replace('\r', ""));
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

async fn in_time<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, StoreError> {
    let done = timeout_at(deadline, work).await;
    done.map_err(|_| unavailable("the server did not answer in time"))
}

/// How many connections there are to one server; who needs one more waits. memcached takes 1024 of all
/// its clients together by default.
const CONNECTIONS_MAX: usize = 64;

/// How long a server has answered nobody when the link to it is given up: longer than one that is only slow takes.
const SILENCE: Duration = Duration::from_secs(1);

/// How often a read is sent whose connection breaks.
const ATTEMPTS_MAX: u32 = 3;

/// The pause before it is sent again; then twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Bytes of an item beside key and value, at most: its header, its number, its flags.
const ITEM_OVERHEAD: usize = 128;

/// More than the settings of a server are, which are some three kilobytes.
const SETTINGS_LEN_MAX: u64 = 64 * 1024;

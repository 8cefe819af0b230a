use std::net::SocketAddr;

use tokio::sync::OnceCell;

use crate::{poll::until, server::Server};

/// A Redis primary with two replicas, and three Sentinels that make one of these the primary when it is dead.
///
/// All six are gone, and their folders too, when this value is dropped, or when this process ends in any way. Methods panic
/// when something does not come about within a minute.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Sentinels {
    /// Starts a set of one's own. However busy the machine, no server is taken for dead until [`replace`](Self::replace) is
    /// called; a primary that was killed and is started again before that stays one, and all data is lost.
    ///
    /// It is ready: each sentinel knows the two others, the primary and its replicas, and these have its data.
    ///
    /// # Panics
    ///
    /// If Redis is not installed, with one line that says how to install it, or does not start.
    pub async fn start() -> Self {
        let servers = Server::start_some(SERVERS, "redis", &[]).await;
        let primary = servers[0].port().to_string();
        for replica in &servers[1..] {
            replica.order(&["REPLICAOF", "127.0.0.1", &primary]).await;
        }
        // Sentinels that find the replicas there need not wait until they look again.
        until("replication", || async { replicated(&servers).await }).await;
        let arguments = [NAME, &primary, &QUORUM.to_string()];
        let sentinels = Server::start_some(SENTINELS, "redis-sentinel", &arguments).await;
        let set = Self { servers, sentinels };
        until("sentinels", || async { set.ready().await }).await;
        set
    }

    /// The set that all tests of this process share, started when first asked for. It runs until the process ends; who kills
    /// or pauses a server wants a set of their own.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn shared() -> &'static Self {
        static SET: OnceCell<Sentinels> = OnceCell::const_new();
        SET.get_or_init(Self::start).await
    }

    /// Has the Sentinels find out that this primary, which was killed or paused, is dead, and returns the server that they
    /// have put in its place. From then on who is silent for a second is dead.
    ///
    /// # Panics
    ///
    /// If there is none within a minute.
    pub async fn replace(&self, dead: &Server) -> &Server {
        self.take_for_dead_after(DEAD_AFTER).await;
        self.primary_after(dead).await
    }

    /// The name by which the Sentinels know the primary.
    #[must_use]
    pub fn service_name(&self) -> &'static str {
        NAME
    }

    /// `redis+sentinel://` with the addresses of the three Sentinels and the service's name.
    #[must_use]
    pub fn url(&self) -> String {
        let addresses = self.sentinel_addresses();
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        format!("redis+sentinel://{}/{NAME}", addresses.join(","))
    }

    /// Where the three Sentinels listen.
    #[must_use]
    pub fn sentinel_addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(Server::address).collect()
    }

    /// The three Sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The three servers that have the data; the first is the primary at the start.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The primary, as the first Sentinel that answers knows it: for a while it may be one that is dead.
    ///
    /// # Panics
    ///
    /// If no Sentinel answers.
    pub async fn primary(&self) -> &Server {
        until("the primary's name", || async {
            let mut result = Err("there is no sentinel".to_owned());
            for sentinel in &self.sentinels {
                result = self.primary_by(sentinel).await;
                if result.is_ok() {
                    break;
                }
            }
            result
        })
        .await
    }

    /// Waits until all Sentinels that answer know another primary than this one, and it takes writes.
    ///
    /// # Panics
    ///
    /// If there is none within a minute.
    pub async fn primary_after(&self, dead: &Server) -> &Server {
        until("another primary", || async {
            let mut primary = Err("no sentinel answers".to_owned());
            for sentinel in &self.sentinels {
                if let Ok(known) = self.primary_by(sentinel).await {
                    if known.port() == dead.port() {
                        return Err("a sentinel knows no other".to_owned());
                    }
                    primary = Ok(known);
                }
            }
            let primary = primary?;
            if primary.status(&["ROLE"]).await?.starts_with("master\n") {
                Ok(primary)
            } else {
                Err("it does not know it".to_owned())
            }
        })
        .await
    }

    /// Waits until this server is a replica that has the data of the primary.
    ///
    /// # Panics
    ///
    /// If it is none within a minute.
    pub async fn wait_until_replica(&self, server: &Server) {
        until("a replica", || async {
            let primary = self.primary().await.port().to_string();
            in_sync(server, &primary).await
        })
        .await;
    }

    /// How long a server may be silent, in milliseconds.
    async fn take_for_dead_after(&self, silence: &str) {
        for sentinel in &self.sentinels {
            let words = ["SENTINEL", "SET", NAME, "down-after-milliseconds", silence];
            sentinel.order(&words).await;
        }
    }

    async fn ready(&self) -> Result<(), String> {
        for sentinel in &self.sentinels {
            let primary = sentinel.status(&["SENTINEL", "MASTER", NAME]).await?;
            for expected in [
                "flags\nmaster\n",
                "num-slaves\n2\n",
                "num-other-sentinels\n2\n",
            ] {
                if !primary.contains(expected) {
                    return Err(format!("without {expected:?}: {primary:?}"));
                }
            }
            let replicas = sentinel.status(&["SENTINEL", "REPLICAS", NAME]).await?;
            for expected in ["flags\nslave\n", "master-link-status\nok\n"] {
                if replicas.matches(expected).count() < SERVERS - 1 {
                    return Err(format!("too few {expected:?}: {replicas:?}"));
                }
            }
            let others = sentinel.status(&["SENTINEL", "SENTINELS", NAME]).await?;
            if others.matches("flags\nsentinel\n").count() < SENTINELS - 1 {
                return Err(format!("another sentinel is not well: {others:?}"));
            }
        }
        replicated(&self.servers).await
    }

    async fn primary_by(&self, sentinel: &Server) -> Result<&Server, String> {
        let address = sentinel
            .status(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])
            .await?;
        let mut servers = self.servers.iter();
        servers
            .find(|server| address == format!("127.0.0.1\n{}", server.port()))
            .ok_or_else(|| format!("{address:?} is none of the servers"))
    }
}

/// The first server is the primary of the others.
async fn replicated(servers: &[Server]) -> Result<(), String> {
    let primary = servers[0].port().to_string();
    for replica in &servers[1..] {
        in_sync(replica, &primary).await?;
    }
    Ok(())
}

async fn in_sync(replica: &Server, primary: &str) -> Result<(), String> {
    let role = replica.status(&["ROLE"]).await?;
    let expected = format!("slave\n127.0.0.1\n{primary}\nconnected\n");
    // A primary sends nothing of what is written until the replica has asked for it once, up to a second later.
    let received = role.strip_prefix(&expected).unwrap_or_default();
    match received.trim().parse::<u64>() {
        Ok(1..) => Ok(()),
        Ok(0) | Err(_) => Err(role),
    }
}

const NAME: &str = "sessions";
const SERVERS: usize = 3;
const SENTINELS: usize = 3;
const QUORUM: usize = SENTINELS / 2 + 1;
/// In milliseconds. Short, because tests wait for it; long enough for a machine whose cores are busy.
const DEAD_AFTER: &str = "1000";

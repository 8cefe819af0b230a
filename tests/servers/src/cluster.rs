use tokio::sync::OnceCell;

use crate::{
    node::{Node, SLOTS},
    poll::until,
    server::Server,
};

/// A Redis Cluster of three primaries with one replica each, which replaces its primary when that is dead.
///
/// While a primary is dead only its own slots are gone. All six are gone, and their folders too, when this value is dropped,
/// or when this process ends in any way. Methods panic when something does not come about within a minute.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    /// Starts a cluster of one's own. However busy the machine, none of its nodes is taken for dead until
    /// [`replace`](Self::replace) is called; a primary that was killed and is started again before that stays one, and its
    /// data is lost.
    ///
    /// It is ready: each node knows the owner of each slot and takes the cluster for whole, and the replicas have the data
    /// of their primaries.
    ///
    /// # Panics
    ///
    /// If Redis is not installed, with one line that says how to install it, or does not start.
    pub async fn start() -> Self {
        let arguments = SETTINGS.concat();
        let servers = Server::start_some(NODES, "redis", &arguments).await;
        introduce(&servers).await;
        let (primaries, replicas) = servers.split_at(PRIMARIES);
        for (number, primary) in primaries.iter().enumerate() {
            let first = SLOTS * number / PRIMARIES;
            let last = SLOTS * (number + 1) / PRIMARIES - 1;
            let range = [first.to_string(), last.to_string()];
            primary
                .order(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])
                .await;
        }
        for (primary, replica) in primaries.iter().zip(replicas) {
            follow(replica, primary).await;
        }
        let cluster = Self { servers };
        until("the cluster", || async {
            match cluster.whole().await? {
                NODES => Ok(()),
                nodes => Err(format!("{nodes} nodes answer")),
            }
        })
        .await;
        take_for_dead_after(NEVER, &cluster.servers).await;
        cluster
    }

    /// The cluster that all tests of this process share, started when first asked for. It runs until the process ends; who
    /// kills or pauses a node, or moves a slot, wants a cluster of their own.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn shared() -> &'static Self {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        CLUSTER.get_or_init(Self::start).await
    }

    /// Has the others find out that this primary, which was killed or paused, is dead, and returns the replica that has taken
    /// its place.
    ///
    /// # Panics
    ///
    /// If none has within a minute.
    pub async fn replace(&self, dead: &Server) -> &Server {
        let is_dead = |server: &Server| server.port() == dead.port();
        let Some(number) = self.servers.iter().position(is_dead) else {
            panic!("{} is no node of this cluster", dead.port());
        };
        let replica = &self.servers[(number + PRIMARIES) % NODES];
        let words = ["CONFIG", "SET", "cluster-replica-no-failover", "no"];
        replica.order(&words).await;
        let others = self.servers.iter().filter(|server| !is_dead(server));
        let others: Vec<&Server> = others.collect();
        take_for_dead_after(DEAD_AFTER, others.iter().copied()).await;
        until("another primary", || async {
            match Node::of(replica).await?.is_primary {
                true => Ok(()),
                false => Err("its replica is none".to_owned()),
            }
        })
        .await;
        take_for_dead_after(NEVER, others.iter().copied()).await;
        replica
    }

    /// `redis+cluster://` with the addresses of all six nodes.
    #[must_use]
    pub fn url(&self) -> String {
        let addresses = self.servers.iter().map(Server::address);
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// The six nodes; at the start the first three are primaries, and the next three their replicas in the same order.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The slot of this key.
    ///
    /// # Panics
    ///
    /// If no node answers.
    pub async fn slot_of(&self, key: &[u8]) -> u16 {
        until("the key's slot", || async {
            let mut reply = Err("there is no node".to_owned());
            for server in &self.servers {
                reply = server
                    .status(&[b"CLUSTER".as_slice(), b"KEYSLOT", key])
                    .await;
                if reply.is_ok() {
                    break;
                }
            }
            reply?.parse().map_err(|error| format!("{error}"))
        })
        .await
    }

    /// The primary that takes writes of this key; waits for one if it is dead.
    ///
    /// # Panics
    ///
    /// If there is none within a minute.
    pub async fn primary_of(&self, key: &[u8]) -> &Server {
        self.primary_of_slot(self.slot_of(key).await).await
    }

    /// The primary that takes writes of this slot; waits for one if it is dead.
    ///
    /// # Panics
    ///
    /// If there is none within a minute.
    pub async fn primary_of_slot(&self, slot: u16) -> &Server {
        until("the slot's primary", || async {
            // One that was dead may take itself for the owner until it hears of the newer one.
            let mut owner: Option<(u64, &Server)> = None;
            for server in &self.servers {
                let Ok(node) = Node::of(server).await else {
                    continue;
                };
                if node.owns(slot) && owner.is_none_or(|(epoch, _)| epoch < node.epoch) {
                    owner = Some((node.epoch, server));
                }
            }
            owner.map(|(_, server)| server).ok_or("none".to_owned())
        })
        .await
    }

    /// Waits until this server is a replica that has the data of its primary.
    ///
    /// # Panics
    ///
    /// If it is none within a minute.
    pub async fn wait_until_replica(&self, server: &Server) {
        until("a replica", || async { in_sync(server).await }).await;
    }

    /// Waits until all nodes that answer know of no slot without a living owner and agree on the owner of each.
    ///
    /// # Panics
    ///
    /// If they do not within a minute.
    pub async fn wait_until_whole(&self) {
        until("the cluster", || async { self.whole().await }).await;
    }

    /// Begins to move a slot between two primaries: `from` answers `ASK` for keys that it does not have.
    ///
    /// # Panics
    ///
    /// If `from` does not own the slot.
    pub async fn begin_migration(&self, slot: u16, from: &Server, to: &Server) {
        let slot = slot.to_string();
        let (source, target) = (id(from).await, id(to).await);
        to.order(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source])
            .await;
        from.order(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target])
            .await;
    }

    /// Moves the keys of a slot whose migration has begun; `from` still owns it.
    ///
    /// # Panics
    ///
    /// If a key can not be moved.
    pub async fn move_keys(&self, slot: u16, from: &Server, to: &Server) {
        let (slot, port) = (slot.to_string(), to.port().to_string());
        loop {
            let words = ["CLUSTER", "GETKEYSINSLOT", &slot, KEYS_AT_ONCE];
            let keys = from.order(&words).await;
            if keys.is_empty() {
                break;
            }
            let mut words: Vec<&[u8]> = vec![b"MIGRATE", b"127.0.0.1", port.as_bytes(), b"", b"0"];
            words.extend([MOVE_MILLISECONDS, b"KEYS"]);
            words.extend(keys.iter().map(Vec::as_slice));
            from.order(&words).await;
        }
    }

    /// Moves what keys are left and makes `to` the owner of the slot: `from` answers `MOVED`, and all nodes that run know it
    /// when this returns.
    ///
    /// # Panics
    ///
    /// If the migration has not begun.
    pub async fn finish_migration(&self, slot: u16, from: &Server, to: &Server) {
        self.move_keys(slot, from, to).await;
        let (text, target) = (slot.to_string(), id(to).await);
        let words = ["CLUSTER", "SETSLOT", &text, "NODE", &target];
        // The new owner first: there is no moment in which nobody is.
        for server in [to, from] {
            server.order(&words).await;
        }
        until("the owner", || async {
            for server in &self.servers {
                let Ok(nodes) = Node::all_by(server).await else {
                    continue;
                };
                if !nodes
                    .iter()
                    .any(|node| node.id == target && node.owns(slot))
                {
                    return Err(format!("{} does not know it", server.port()));
                }
            }
            Ok(())
        })
        .await;
    }

    /// How many nodes say so; none says otherwise.
    async fn whole(&self) -> Result<usize, String> {
        let mut views = Vec::new();
        for server in &self.servers {
            let Ok(info) = server.status(&["CLUSTER", "INFO"]).await else {
                continue;
            };
            for expected in ["cluster_state:ok\r", "cluster_slots_ok:16384\r"] {
                if !info.contains(expected) {
                    return Err(format!("without {expected:?}: {info:?}"));
                }
            }
            let nodes = Node::all_by(server).await?;
            let Some(own) = nodes.iter().find(|node| node.is_itself) else {
                return Err(format!("{} does not know itself", server.port()));
            };
            if !own.is_primary {
                in_sync(server).await?;
            }
            let mut owners: Vec<_> = nodes
                .into_iter()
                .map(|node| (node.id, node.slots))
                .collect();
            owners.sort();
            views.push(owners);
        }
        if views.windows(2).all(|views| views[0] == views[1]) {
            Ok(views.len())
        } else {
            Err(format!("the nodes do not agree: {views:?}"))
        }
    }
}

/// Each node meets all that were started before it, so that news of one need not wait for another.
async fn introduce(servers: &[Server]) {
    for (number, server) in servers.iter().enumerate() {
        // Two primaries with the same epoch would have to sort out which is which.
        let epoch = (number + 1).to_string();
        server.order(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
    }
    for (number, server) in servers.iter().enumerate() {
        for other in &servers[..number] {
            let port = other.port().to_string();
            server.order(&["CLUSTER", "MEET", "127.0.0.1", &port]).await;
        }
    }
}

/// How long a node may be silent, in milliseconds.
async fn take_for_dead_after<'a>(silence: &str, servers: impl IntoIterator<Item = &'a Server>) {
    for server in servers {
        let words = ["CONFIG", "SET", "cluster-node-timeout", silence];
        server.order(&words).await;
    }
}

/// As soon as it knows the primary.
async fn follow(replica: &Server, primary: &Server) {
    let primary = id(primary).await;
    until("a replica", || async {
        replica.status(&["CLUSTER", "REPLICATE", &primary]).await
    })
    .await;
}

async fn in_sync(server: &Server) -> Result<(), String> {
    let info = server.status(&["INFO", "replication"]).await?;
    let expected = ["role:slave\r", "master_link_status:up\r"];
    // A primary sends nothing of what is written until the replica has asked for it once, up to a second later.
    let has_received = !info.contains("slave_repl_offset:0\r");
    if has_received && expected.iter().all(|line| info.contains(line)) {
        Ok(())
    } else {
        Err(info)
    }
}

async fn id(server: &Server) -> String {
    until("a node's id", || async {
        server.status(&["CLUSTER", "MYID"]).await
    })
    .await
}

const PRIMARIES: usize = 3;
const NODES: usize = PRIMARIES * 2;
const SETTINGS: [&[&str]; 8] = [
    &["--cluster-enabled", "yes"],
    // Nobody has to find out.
    &["--cluster-announce-ip", "127.0.0.1"],
    // While it starts, so that the nodes tell each other soon.
    &["--cluster-node-timeout", DEAD_AFTER],
    // Until it is told to.
    &["--cluster-replica-no-failover", "yes"],
    // A replica takes over however long it has heard nothing.
    &["--cluster-replica-validity-factor", "0"],
    &["--cluster-require-full-coverage", "no"],
    &["--cluster-allow-reads-when-down", "no"],
    // Replicas stay where they are.
    &["--cluster-allow-replica-migration", "no"],
];
/// In milliseconds. Short, because tests wait for it; long enough for a machine whose cores are busy.
const DEAD_AFTER: &str = "1000";
/// A day.
const NEVER: &str = "86400000";
const KEYS_AT_ONCE: &str = "100";
const MOVE_MILLISECONDS: &[u8] = b"5000";

//! A walk through all sessions.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use redis::{
    Value,
    cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr},
};

use super::{RedisStore, Topology, connection::run_id, failure::foreign, index::each, unexpected};
use crate::{
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    store::{Cursor, Page, ScanSessions, StoredSession},
};

#[async_trait]
impl ScanSessions for RedisStore {
    /// A page of a `SCAN`, server by server in a cluster. `limit` counts keys, those of others included, and
    /// is a hint to the server: a page may be somewhat longer. A record may come twice while the
    /// server resizes its table, and when another server has taken over or the same was started anew, which is walked
    /// through from its beginning. While slots of a cluster move, records of their nodes may be left out.
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let place = after.map(Place::from_cursor).transpose()?;
        let place = place.unwrap_or_default();
        if self.topology == Topology::Single {
            let (ids, next) = self.scan_server(&ANY_NODE, place, limit).await?;
            return self.page(ids, next).await;
        }
        let primaries = self.primaries().await?;
        let Some(&slot) = primaries.range(place.slot..).next() else {
            return self.page(Vec::new(), None).await;
        };
        let route = Route::new(slot, SlotAddr::Master);
        let route = SingleNodeRoutingInfo::SpecificNode(route);
        let (ids, next) = self
            .scan_server(&route, Place { slot, ..place }, limit)
            .await?;
        let next = next.or_else(|| {
            let following = primaries.range(slot.saturating_add(1)..).next();
            following.map(|&slot| Place {
                slot,
                ..Place::default()
            })
        });
        self.page(ids, next).await
    }
}

impl RedisStore {
    /// The ids behind that place on one server, and where it goes on there.
    async fn scan_server(
        &self,
        node: &SingleNodeRoutingInfo,
        from: Place,
        limit: usize,
    ) -> Result<(Vec<RecordId>, Option<Place>), StoreError> {
        let server = self.run_id(node).await?;
        // Another server has other positions, and so has the same once it is started anew.
        let is_it = from.server == server;
        let at = if is_it { from.position } else { 0 };
        let (position, ids) = self.scan_keys(node, at, limit).await?;
        // The end may be that of another one, too.
        let is_end = position == 0 && self.run_id(node).await? == server;
        let next = Place {
            position,
            slot: from.slot,
            server,
        };
        Ok((ids, (!is_end).then_some(next)))
    }

    async fn run_id(&self, node: &SingleNodeRoutingInfo) -> Result<Vec<u8>, StoreError> {
        let mut command = redis::cmd("INFO");
        command.arg("server");
        let reply = self.commands.send_to(&command, Some(node)).await?;
        let server = run_id(&reply).map_err(|_| unexpected())?;
        Ok(server.into_bytes())
    }

    async fn scan_keys(
        &self,
        node: &SingleNodeRoutingInfo,
        at: u64,
        limit: usize,
    ) -> Result<(u64, Vec<RecordId>), StoreError> {
        let mut command = redis::cmd("SCAN");
        command.arg(at).arg("MATCH").arg(self.prefix.all_sessions());
        command.arg("COUNT").arg(limit.max(1));
        let reply = self.commands.send_to(&command, Some(node)).await?;
        let (position, keys): (u64, Vec<Vec<u8>>) =
            redis::from_redis_value(reply).map_err(|_| unexpected())?;
        let ids = keys.iter().filter_map(|key| self.prefix.id_of(key));
        Ok((position, ids.collect()))
    }

    async fn page(&self, ids: Vec<RecordId>, next: Option<Place>) -> Result<Page, StoreError> {
        let store = self.clone();
        let sessions = each(ids, move |id| {
            let store = store.clone();
            async move {
                let kept = store.get_undamaged(&id).await?.flatten();
                store.settled_undamaged(&id, kept).await
            }
        });
        let mut sessions: Vec<StoredSession> = sessions
            .await?
            .into_iter()
            .filter_map(|(id, record)| {
                Some(StoredSession {
                    id,
                    record: record?,
                })
            })
            .collect();
        // They came in the order of the replies.
        sessions.sort_unstable_by_key(|session| *session.id.as_bytes());
        Ok(Page {
            sessions,
            next: next.map(|place| place.to_cursor()),
        })
    }

    /// The lowest slot of each primary of a cluster.
    async fn primaries(&self) -> Result<BTreeSet<u16>, StoreError> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let node = SingleNodeRoutingInfo::RandomPrimary;
        let reply = self.commands.send_to(&command, Some(&node)).await?;
        let mut ranges = BTreeMap::new();
        for range in array(reply)? {
            let mut parts = array(range)?.into_iter();
            let (Some(Value::Int(first)), Some(_last), Some(primary)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(unexpected());
            };
            let node = array(primary)?.into_iter().nth(2);
            let (Ok(first), Some(Value::BulkString(node))) = (u16::try_from(first), node) else {
                return Err(unexpected());
            };
            ranges.insert(first, node);
        }
        let mut seen = BTreeSet::new();
        let firsts = ranges
            .into_iter()
            .filter(|(_, node)| seen.insert(node.clone()));
        Ok(firsts.map(|(first, _)| first).collect())
    }
}

/// Where a scan has come to.
#[derive(Default)]
struct Place {
    /// What `SCAN` has answered.
    position: u64,
    /// The lowest slot of the node, in a cluster.
    slot: u16,
    /// The server, as long as it runs.
    server: Vec<u8>,
}

impl Place {
    fn to_cursor(&self) -> Cursor {
        let mut bytes = self.position.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.slot.to_be_bytes());
        bytes.extend_from_slice(&self.server);
        Cursor::from_bytes(bytes)
    }

    fn from_cursor(cursor: &Cursor) -> Result<Self, StoreError> {
        let parse = || {
            let (position, rest) = cursor.as_bytes().split_first_chunk()?;
            let (slot, server) = rest.split_first_chunk()?;
            Some(Self {
                position: u64::from_be_bytes(*position),
                slot: u16::from_be_bytes(*slot),
                server: server.to_vec(),
            })
        };
        parse().ok_or_else(|| foreign(StoreErrorKind::Other, "the cursor is of another store"))
    }
}

fn array(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(unexpected()),
    }
}

const ANY_NODE: SingleNodeRoutingInfo = SingleNodeRoutingInfo::Random;

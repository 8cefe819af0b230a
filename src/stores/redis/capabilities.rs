//! What Redis can do besides keeping sessions: find those of a user, scan.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::{
    Value,
    cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr},
};

use super::{RedisStore, Topology, failure::foreign, index::each, unexpected};
use crate::{
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    store::{Cursor, Page, ScanSessions, StoredSession, UserSessions},
    stores::keyed,
    user::UserId,
};

#[async_trait]
impl UserSessions for RedisStore {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        self.live_sessions(user).await
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        self.end_sessions(user, keep).await
    }
}

#[async_trait]
impl ScanSessions for RedisStore {
    /// A page of a `SCAN`, server by server in a cluster. `limit` counts keys, those of others included, and
    /// is a hint to the server: a page may be somewhat longer. A record may come twice while the
    /// server resizes its table. While slots of a cluster move, records of their nodes may be left out.
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let place = after.map(Place::from_cursor).transpose()?;
        match self.topology {
            Topology::Single => {
                let at = place.map_or(0, |place| place.position);
                let (position, ids) = self.scan_keys(&ANY_NODE, at, limit).await?;
                let next = (position != 0).then(|| Place::at(position));
                self.page(ids, next).await
            }
            Topology::Cluster => {
                let place = place.unwrap_or_default();
                let primaries = self.primaries().await?;
                let Some((&slot, node)) = primaries.range(place.slot..).next() else {
                    return self.page(Vec::new(), None).await;
                };
                // Another node has other positions: begin it anew.
                let is_it = slot == place.slot && *node == place.node;
                let at = if is_it { place.position } else { 0 };
                let route = Route::new(slot, SlotAddr::Master);
                let route = SingleNodeRoutingInfo::SpecificNode(route);
                let (position, ids) = self.scan_keys(&route, at, limit).await?;
                let next = if position != 0 {
                    let node = node.clone();
                    Some(Place {
                        position,
                        slot,
                        node,
                    })
                } else {
                    let next = primaries.range(slot.saturating_add(1)..).next();
                    next.map(|(&slot, node)| Place {
                        position: 0,
                        slot,
                        node: node.clone(),
                    })
                };
                self.page(ids, next).await
            }
        }
    }
}

impl RedisStore {
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
                keyed::settled(&store, &id, kept).await
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

    /// The primaries of a cluster, by the lowest slot of each.
    async fn primaries(&self) -> Result<BTreeMap<u16, Vec<u8>>, StoreError> {
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
        let mut seen = Vec::new();
        ranges.retain(|_, node| {
            let is_new = !seen.contains(node);
            seen.push(node.clone());
            is_new
        });
        Ok(ranges)
    }
}

/// Where a scan has come to.
#[derive(Default)]
struct Place {
    /// What `SCAN` has answered.
    position: u64,
    /// The lowest slot of the node, and its name, in a cluster.
    slot: u16,
    node: Vec<u8>,
}

impl Place {
    fn at(position: u64) -> Self {
        Self {
            position,
            ..Self::default()
        }
    }

    fn to_cursor(&self) -> Cursor {
        let mut bytes = self.position.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.slot.to_be_bytes());
        bytes.extend_from_slice(&self.node);
        Cursor::from_bytes(bytes)
    }

    fn from_cursor(cursor: &Cursor) -> Result<Self, StoreError> {
        let parse = || {
            let (position, rest) = cursor.as_bytes().split_first_chunk()?;
            let (slot, node) = rest.split_first_chunk()?;
            Some(Self {
                position: u64::from_be_bytes(*position),
                slot: u16::from_be_bytes(*slot),
                node: node.to_vec(),
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

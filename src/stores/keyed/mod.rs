//! What stores share that write one key at a time: Redis Cluster and memcached.

mod handover;
mod value;

pub(super) use self::{
    handover::{CLOCK_SLACK, Keys, NOTE_TTL, Placed, Retired, rotate_apart, settled},
    value::Kept,
};
#[cfg(feature = "redis")]
pub(super) use value::{RecordStart, version_bytes};

//! What stores share that write one key at a time: Redis Cluster and memcached.

mod handover;
mod value;

use std::time::Duration;

pub(super) use self::{
    handover::{CLOCK_SLACK, Keys, NOTE_TTL, Placed, Retired, rotate_apart, settled},
    value::Kept,
};
#[cfg(feature = "redis")]
pub(super) use value::{RecordStart, version_bytes};

/// No operation needs more, and a clock can still be asked for the end of it.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

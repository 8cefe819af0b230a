//! What is compared: something that keeps sessions, told by number.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;

/// Keeps sessions of [`PAYLOAD_LEN`] bytes in a table of its own. Each call panics unless it does what it says.
#[async_trait]
pub trait Contender: Send + Sync {
    /// Puts a session where none is.
    async fn create(&self, number: usize);

    /// Reads a session with its payload.
    async fn load(&self, number: usize);

    /// Replaces a session; one caller at a time for each.
    async fn update(&self, number: usize);

    /// Ends a session.
    async fn delete(&self, number: usize);
}

pub type Contenders = Vec<(&'static str, Arc<dyn Contender>)>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Load,
    Create,
    Update,
    Delete,
}

impl Operation {
    /// A session is deleted in the same round in which it was created.
    pub const ALL: [Self; 4] = [Self::Load, Self::Update, Self::Create, Self::Delete];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    pub async fn run(self, contender: &dyn Contender, number: usize) {
        match self {
            Self::Load => contender.load(number).await,
            Self::Create => contender.create(number).await,
            Self::Update => contender.update(number).await,
            Self::Delete => contender.delete(number).await,
        }
    }
}

/// A session's id: spread evenly over all ids, as hashes are.
pub fn id_of(number: usize) -> [u8; 32] {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut id = [0; 32];
    random.fill(&mut id);
    id
}

/// What a session's writer stamps the state of that revision with.
pub fn token_of(revision: i64) -> [u8; 16] {
    i128::from(revision).to_be_bytes()
}

pub fn millis_from_now(later: Duration) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock");
    i64::try_from((now + later).as_millis()).expect("a time")
}

pub const USER: &str = "ada@example.org";

pub const IDLE: Duration = Duration::from_secs(14 * 24 * 3600);

pub const PAYLOAD_LEN: usize = 500;

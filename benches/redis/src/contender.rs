//! What is compared: applications with the same routes.

use axum::Router;

use crate::{axum_session, bare, floor, keep, tower_sessions};

/// Each answers `/login`, which makes a session and sets its cookie, and the paths of [`Case`](crate::case::Case).
///
/// A session holds the number of visits and a [`PROFILE`](crate::profile::PROFILE). `/read` and `/increment` answer
/// with the number of visits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// No sessions, no Redis.
    Bare,
    /// The commands that have to be, sent by nothing but the driver.
    Floor,
    Keep,
    /// Reads from a cache in the process, which Redis keeps true.
    KeepNear,
    TowerSessions,
    /// Reads from a cache in the process, which does not hear of other processes.
    TowerSessionsMoka,
    AxumSession,
}

impl Contender {
    pub const ALL: [Self; 7] = [
        Self::Bare,
        Self::Floor,
        Self::Keep,
        Self::KeepNear,
        Self::TowerSessions,
        Self::TowerSessionsMoka,
        Self::AxumSession,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare, no Redis",
            Self::Floor => "floor, redis 1.8",
            Self::Keep => "tower-keep 0.1, redis 1.8",
            Self::KeepNear => "tower-keep 0.1, near cache",
            Self::TowerSessions => "tower-sessions 0.14, fred 10",
            Self::TowerSessionsMoka => "tower-sessions 0.14, moka, fred 10",
            Self::AxumSession => "axum_session 0.22, no process cache",
        }
    }

    /// The contender of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    pub async fn router(self, redis_url: &str) -> Router {
        match self {
            Self::Bare => bare::router(),
            Self::Floor => floor::router(redis_url).await,
            Self::Keep => keep::router(redis_url),
            Self::KeepNear => keep::router_with_near_cache(redis_url).await,
            Self::TowerSessions => tower_sessions::router(redis_url).await,
            Self::TowerSessionsMoka => tower_sessions::router_with_moka(redis_url).await,
            Self::AxumSession => axum_session::router(redis_url).await,
        }
    }
}

//! What the tests of `tower-keep` need of the outside world: servers of their own, and connections that break.

mod cluster;
mod disk;
mod node;
mod poll;
mod proxy;
mod resp;
mod script;
mod sentinel;
mod server;

pub use self::{
    cluster::Cluster,
    disk::SmallDisk,
    proxy::{Direction, FaultProxy, Traffic},
    sentinel::Sentinels,
    server::{Kind, Server},
};

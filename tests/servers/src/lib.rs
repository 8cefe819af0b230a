//! What the tests of `tower-keep` need of the outside world: servers of their own, and connections that break.

mod cluster;
mod node;
mod poll;
mod proxy;
mod resp;
mod script;
mod sentinel;
mod server;

pub use self::{
    cluster::Cluster,
    proxy::{Direction, FaultProxy, Traffic},
    sentinel::Sentinels,
    server::{Kind, Server},
};

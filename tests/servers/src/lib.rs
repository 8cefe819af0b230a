//! What the tests of `tower-keep` need of the outside world: servers of their own, and connections that break.

mod proxy;
mod script;
mod server;

pub use self::{
    proxy::{Direction, FaultProxy, Traffic},
    server::{Kind, Server},
};

//! What the tests share: an application that does with its session what it is told over HTTP, and
//! a browser that keeps cookies as browsers do.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test crate uses its part"
)]

mod app;
mod browser;

pub use self::{
    app::{app, router},
    browser::{Answer, Browser, Transport},
};

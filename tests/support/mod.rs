//! What the tests share: an application that does with its session what it is told over HTTP, and
//! a browser that keeps cookies as browsers do.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test crate uses its part"
)]

mod abandon;
mod app;
mod browser;
mod effort;
#[cfg(unix)]
mod files;
mod folder;
mod gate;
mod layer;
mod listed;
mod patience;
mod site;
mod test_store;
mod watched;

#[cfg(unix)]
pub use self::files::{file_store, file_store_with, file_store_without_folder};
pub(crate) use self::folder::temporary_folder;
pub use self::{
    abandon::abandon_after,
    app::{app, router},
    browser::{Answer, Browser, Transport},
    effort::{all_is_tried, one_in, one_in_elsewhere, some_of},
    gate::{Gate, post_meanwhile},
    layer::{cookies, layer_in_time, layer_over},
    patience::{PATIENCE, eventually, patiently},
    site::Site,
    test_store::{
        TestStore, memcached, memcached_cache, memcached_url, mysql, new_table, postgres,
        postgres_at, redis, redis_cache, redis_cluster, redis_sentinel, sqlite,
    },
    watched::{WatchedStore, yields},
};

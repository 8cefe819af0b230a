//! Doing the same with many, some of them at a time.

use tokio::task::JoinSet;
use tower_keep::stores::OpenStore;

/// Does it with each, `at_once` of them at a time and in any order, and answers what came of it, in any order. The first error ends it, and
/// drops what is under way.
pub(crate) async fn each<I, T, F>(
    items: Vec<I>,
    at_once: usize,
    act: impl Fn(I) -> F,
) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let mut done = Vec::with_capacity(items.len());
    let mut items = items.into_iter();
    let mut under_way = JoinSet::new();
    loop {
        for item in items.by_ref().take(at_once - under_way.len()) {
            under_way.spawn(act(item));
        }
        match under_way.join_next().await {
            Some(result) => done.push(result??),
            None => return Ok(done),
        }
    }
}

/// How many operations a store takes at a time.
pub(crate) fn at_once(store: &OpenStore) -> usize {
    match store.schema() {
        // Less than the ten connections of its pool, for which nobody waits long.
        Some(_) => 8,
        // They share a connection, or need none.
        None => 32,
    }
}

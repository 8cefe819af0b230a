//! `RedisStore` against the contract, on one server, under Sentinels and in a cluster.

mod single {
    use tower_keep::testing::{conformance_tests, scan_sessions_tests, user_sessions_tests};

    use super::unreachable;
    use crate::{model::model_tests, support::redis};

    conformance_tests!(
        redis(),
        unreachable = unreachable("redis://app:hunter2@127.0.0.1:1")
    );
    user_sessions_tests!(redis());
    scan_sessions_tests!(redis());
    model_tests!(|clock| async move { redis().with_clock(clock) });
}

mod sentinel {
    use tower_keep::testing::{conformance_tests, scan_sessions_tests, user_sessions_tests};

    use super::unreachable;
    use crate::{model::model_tests, support::redis_sentinel};

    conformance_tests!(
        redis_sentinel(),
        unreachable = unreachable("redis+sentinel://app:hunter2@127.0.0.1:1,127.0.0.1:2/sessions")
    );
    user_sessions_tests!(redis_sentinel());
    scan_sessions_tests!(redis_sentinel());
    model_tests!(|clock| async move { redis_sentinel().with_clock(clock) });
}

mod cluster {
    use tower_keep::testing::{conformance_tests, scan_sessions_tests, user_sessions_tests};

    use super::{in_cluster, unreachable};
    use crate::model::model_tests;

    conformance_tests!(
        in_cluster().await,
        unreachable = unreachable("redis+cluster://app:hunter2@127.0.0.1:1,127.0.0.1:2")
    );
    user_sessions_tests!(in_cluster().await);
    scan_sessions_tests!(in_cluster().await);
    model_tests!(|clock| async move { in_cluster().await.with_clock(clock) });
}

/// Over the connection that the store makes by itself, which is slow in what `cluster` above is not.
mod cluster_by_address {
    use tower_keep::testing::{conformance_tests, scan_sessions_tests, user_sessions_tests};

    use crate::{model::model_tests, patient::Patient, support::redis_cluster};

    conformance_tests!(Patient(redis_cluster()));
    user_sessions_tests!(Patient(redis_cluster()));
    scan_sessions_tests!(Patient(redis_cluster()));
    model_tests!(|clock| async move { Patient(redis_cluster().with_clock(clock)) });
}

mod over_a_connection_of_the_application {
    use tower_keep::testing::{conformance_tests, scan_sessions_tests, user_sessions_tests};

    use super::given;
    use crate::model::model_tests;

    conformance_tests!(given().await);
    user_sessions_tests!(given().await);
    scan_sessions_tests!(given().await);
    model_tests!(|clock| async move { given().await.with_clock(clock) });
}

use std::time::Duration;

use tower_keep::RedisStore;
use tower_keep_servers::{Kind, Server};

use crate::{
    redis_places::{Place, Which, connect},
    support::PATIENCE,
};

async fn given() -> RedisStore {
    let place = Place::new(Which::Single).await;
    let connection = connect(Server::shared(Kind::Redis).await).await;
    let store = RedisStore::from_connection(connection);
    store.with_prefix(place.prefix).with_timeout(PATIENCE)
}

/// A write of which it is not known whether it was done is an error where it meets another: a node that is slow would be
/// one that has not done it.
async fn in_cluster() -> RedisStore {
    Place::new(Which::Cluster).await.steady_store().await
}

/// Nobody listens there.
fn unreachable(url: &str) -> RedisStore {
    let store = RedisStore::open(url).unwrap();
    store.with_timeout(Duration::from_millis(200))
}

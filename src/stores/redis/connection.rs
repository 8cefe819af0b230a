//! Connections that many callers share.

use std::sync::Arc;

use redis::{
    Cmd, ErrorKind, InfoDict, Pipeline, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
};

/// A connection to one server or to a cluster. Cheap to clone; commands of clones share its turns.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
    Given(Arc<dyn Given>),
}

impl Connection {
    /// To the server that has the key; or to that node of a cluster.
    pub(super) async fn send(
        &mut self,
        command: &Cmd,
        node: Option<&SingleNodeRoutingInfo>,
    ) -> RedisResult<Value> {
        let reply = match (self, node) {
            (Self::Cluster(connection), Some(node)) => {
                let routing = RoutingInfo::SingleNode(node.clone());
                Box::pin(connection.route_command(command.clone(), routing)).await
            }
            (Self::Cluster(connection), None) => connection.req_packed_command(command).await,
            (Self::Server(connection), _) => connection.send_packed_command(command).await,
            (Self::Given(connection), _) => connection.send(command).await,
        };
        reply?.extract_error()
    }

    /// Sends it to the node that the error names: the key is on its way there.
    pub(super) async fn send_after_ask(
        &self,
        command: &Cmd,
        error: &RedisError,
    ) -> RedisResult<Value> {
        let node = error.redirect_node().and_then(|(node, _)| {
            let (host, port) = node.rsplit_once(':')?;
            let host = host.trim_matches(['[', ']']).to_owned();
            let port = port.parse().ok()?;
            Some(SingleNodeRoutingInfo::ByAddress { host, port })
        });
        let (Self::Cluster(connection), Some(node)) = (self, node) else {
            return Err(error.clone());
        };
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("ASKING");
        pipeline.add_command(command.clone());
        let mut connection = connection.clone();
        let replies = connection.route_pipeline(pipeline, 0, 2, node).await;
        let reply = replies?.pop().unwrap_or_default();
        reply.extract_error()
    }
}

/// A connection that the application has made, of whatever type.
pub(super) trait Given: Send + Sync {
    fn send<'a>(&self, command: &'a Cmd) -> RedisFuture<'a, Value>;
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Given for C {
    fn send<'a>(&self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let mut connection = self.clone();
        Box::pin(async move { connection.req_packed_command(command).await })
    }
}

/// What a server is known by as long as it runs.
pub(super) fn run_id(info: &Value) -> RedisResult<String> {
    let info: InfoDict = redis::from_redis_value_ref(info)?;
    let no_id = || (ErrorKind::UnexpectedReturnType, "INFO has no run_id").into();
    info.get("run_id").ok_or_else(no_id)
}

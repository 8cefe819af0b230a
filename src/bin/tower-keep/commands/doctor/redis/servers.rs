//! The servers that keep the sessions of a store, by its address.

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError,
    RedisResult, aio::MultiplexedConnection, cmd,
};

use crate::open::CONNECT_TIMEOUT;

/// One of them.
pub(super) struct Server {
    /// `HOST:PORT`, without the password.
    pub(super) name: String,
    connection: MultiplexedConnection,
}

impl Server {
    async fn connect(url: &str) -> RedisResult<Self> {
        let client = Client::open(url)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        Ok(Self {
            name: client.get_connection_info().addr().to_string(),
            connection: connection.await?,
        })
    }

    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.connection).await
    }

    /// All at once.
    pub(super) async fn ask_all<T: FromRedisValue>(
        &mut self,
        commands: &Pipeline,
    ) -> RedisResult<Vec<T>> {
        match commands.is_empty() {
            true => Ok(Vec::new()),
            false => commands.query_async(&mut self.connection).await,
        }
    }
}

/// All that take writes: one, the primary that Sentinels name, or the primaries of a cluster.
pub(super) async fn of(url: &str) -> RedisResult<Vec<Server>> {
    let parts = Parts::of(url);
    match parts.topology {
        "cluster" => parts.primaries().await,
        "sentinel" => Ok(vec![parts.watched().await?]),
        _ => Ok(vec![Server::connect(url).await?]),
    }
}

/// `SCHEME+TOPOLOGY://USER:PASSWORD@HOST,HOST/PATH`
struct Parts<'a> {
    scheme: &'a str,
    topology: &'a str,
    /// With the `@` behind it.
    user: &'a str,
    hosts: &'a str,
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (scheme, topology) = scheme.split_once('+').unwrap_or((scheme, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        Self {
            scheme,
            topology,
            user,
            hosts,
            path,
        }
    }

    async fn primaries(&self) -> RedisResult<Vec<Server>> {
        let ask = async |host: &str| {
            let mut node = Server::connect(&self.url_of(host, "")).await?;
            node.ask::<String>(cmd("CLUSTER").arg("NODES")).await
        };
        let nodes = self.first(ask).await?;
        let mut servers = Vec::new();
        for address in primaries_in(&nodes) {
            servers.push(Server::connect(&self.url_of(&address, "")).await?);
        }
        Ok(servers)
    }

    async fn watched(&self) -> RedisResult<Server> {
        let (service, database) = self.path.split_once('/').unwrap_or((self.path, ""));
        let ask = async |host: &str| {
            // They have no users, and a port of their own.
            let url = match host.ends_with(']') || !host.contains(':') {
                true => format!("{}://{host}:26379", self.scheme),
                false => format!("{}://{host}", self.scheme),
            };
            let mut sentinel = Server::connect(&url).await?;
            let mut command = cmd("SENTINEL");
            command.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
            sentinel.ask::<(String, String)>(&command).await
        };
        let (host, port) = self.first(ask).await?;
        let address = with_port(&host, &port);
        Server::connect(&self.url_of(&address, database)).await
    }

    /// What the first host says that says anything.
    async fn first<T>(&self, ask: impl AsyncFn(&str) -> RedisResult<T>) -> RedisResult<T> {
        let mut failure = RedisError::from((ErrorKind::InvalidClientConfig, "there is no host"));
        for host in self.hosts.split(',') {
            match ask(host).await {
                Ok(answer) => return Ok(answer),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn url_of(&self, address: &str, database: &str) -> String {
        format!("{}://{}{address}/{database}", self.scheme, self.user)
    }
}

/// Those that have slots, in the lines of `CLUSTER NODES`:
/// `ID HOST:PORT@BUS FLAGS PRIMARY PING PONG EPOCH LINK SLOT…`
fn primaries_in(nodes: &str) -> Vec<String> {
    let address = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, address, flags, _, _, _, _, _, _slot, ..] = *words else {
            return None;
        };
        let (address, _bus) = address.split_once('@').unwrap_or((address, ""));
        let (host, port) = address.rsplit_once(':')?;
        let is_primary = flags.split(',').any(|flag| flag == "master");
        is_primary.then(|| with_port(host, port))
    };
    nodes.lines().filter_map(address).collect()
}

fn with_port(host: &str, port: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries_are_the_ones_with_slots() {
        let nodes = "\
            a 10.0.0.1:7000@17000,one myself,master - 0 0 1 connected 0-5460 5470\n\
            b 10.0.0.2:7000@17000 slave a 0 1 1 connected\n\
            c 10.0.0.3:7000@17000 master - 0 1 7 connected\n\
            d fd00::4:7000@17000 master - 0 1 3 connected 5461-16383 [77->-a]\n";
        assert_eq!(primaries_in(nodes), ["10.0.0.1:7000", "[fd00::4]:7000"]);
    }

    #[test]
    fn an_address_falls_apart() {
        let parts = Parts::of("rediss+sentinel://app:p@ss@a,[::1]:7/shop/3");
        assert_eq!(
            (parts.scheme, parts.topology, parts.user),
            ("rediss", "sentinel", "app:p@ss@")
        );
        assert_eq!((parts.hosts, parts.path), ("a,[::1]:7", "shop/3"));
        assert_eq!(parts.url_of("b:1", "3"), "rediss://app:p@ss@b:1/3");
    }
}

//! Addresses of servers, Sentinels and clusters.

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    cluster::{ClusterClient, ClusterClientBuilder, TlsMode},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

use super::failure::{foreign, store_error};
use crate::error::{StoreError, StoreErrorKind};

/// What an address leads to.
pub(super) enum Address {
    Server(Client),
    Sentinel(SentinelClient),
    Cluster(ClusterClientBuilder),
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme.replace("valkey", "redis").as_str() {
            "redis" | "rediss" | "unix" | "redis+unix" => {
                // The driver would pass over it, where `stores::open` takes it for the prefix.
                if url
                    .split_once('#')
                    .is_some_and(|(_, end)| end != "insecure")
                {
                    return Err(problem(
                        "nothing may follow a #: the prefix of the keys is given to `with_prefix`; in a password, # is written %23",
                    ));
                }
                Client::open(url).map(Self::Server).map_err(store_error)
            }
            "redis+cluster" | "rediss+cluster" => {
                let Hosts { urls, path } = Hosts::parse(url)?;
                if !path.is_empty() {
                    return Err(problem(
                        "a cluster has no databases: end the address after the hosts",
                    ));
                }
                Ok(Self::Cluster(ClusterClient::builder(urls)))
            }
            "redis+sentinel" | "rediss+sentinel" => sentinel(url),
            _ => Err(problem(
                "the address begins with none of redis://, redis+sentinel:// and redis+cluster://",
            )),
        }
    }
}

/// The hosts of an address, each as a `redis://` or `rediss://` address of its own, and the path behind them.
struct Hosts {
    urls: Vec<String>,
    path: String,
}

impl Hosts {
    fn parse(url: &str) -> Result<Self, StoreError> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| problem("`://` is missing"))?;
        let is_secure = matches!(scheme.split('+').next(), Some("rediss" | "valkeys"));
        let scheme = if is_secure { "rediss" } else { "redis" };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        let (user, hosts) = match authority.rfind('@') {
            Some(at) => authority.split_at(at + 1),
            None => ("", authority),
        };
        if path.contains(['@', '?', '#', '%']) {
            return Err(problem(
                "nothing but names may follow the hosts; in a password, / ? # @ are written %2F %3F %23 %40",
            ));
        }
        if hosts.split(',').any(str::is_empty) {
            return Err(problem("a host is missing"));
        }
        let urls = hosts
            .split(',')
            .map(|host| format!("{scheme}://{user}{host}"));
        Ok(Self {
            urls: urls.collect(),
            path: path.trim_matches('/').to_owned(),
        })
    }
}

fn sentinel(url: &str) -> Result<Address, StoreError> {
    let Hosts { urls, path } = Hosts::parse(url)?;
    let (service, database) = match path.split_once('/') {
        Some((service, database)) => (service, database),
        None => (path.as_str(), "0"),
    };
    if service.is_empty() {
        return Err(problem(
            "the name of the primary is missing: redis+sentinel://HOST:PORT/NAME",
        ));
    }
    let database: i64 = database
        .parse()
        .map_err(|_| problem("the database is no number"))?;
    let infos: Result<Vec<ConnectionInfo>, _> = urls
        .iter()
        .map(|url| url.as_str().into_connection_info())
        .collect();
    let infos = infos.map_err(store_error)?;
    let has_port = |url: &str| {
        url.rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    };
    let addresses = infos
        .iter()
        .zip(&urls)
        .map(|(info, url)| match info.addr().clone() {
            ConnectionAddr::Tcp(host, _) if !has_port(url) => {
                ConnectionAddr::Tcp(host, SENTINEL_PORT)
            }
            ConnectionAddr::TcpTls {
                host,
                insecure,
                tls_params,
                ..
            } if !has_port(url) => {
                let port = SENTINEL_PORT;
                ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure,
                    tls_params,
                }
            }
            address => address,
        });
    let builder = SentinelClientBuilder::new(addresses, service, SentinelServerType::Master);
    let mut builder = builder
        .map_err(store_error)?
        .set_client_to_redis_db(database);
    if matches!(
        infos.first().map(ConnectionInfo::addr),
        Some(ConnectionAddr::TcpTls { .. })
    ) {
        // Otherwise only the Sentinels would be asked over TLS.
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(info) = infos.first().map(ConnectionInfo::redis_settings) {
        if let Some(user) = info.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = info.password() {
            builder = builder.set_client_to_redis_password(password);
        }
    }
    let client = builder.build().map_err(store_error)?;
    Ok(Address::Sentinel(client))
}

fn problem(problem: &'static str) -> StoreError {
    foreign(StoreErrorKind::Other, problem)
}

/// What Sentinels listen to by default.
const SENTINEL_PORT: u16 = 26379;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read() {
        for url in [
            "redis://:hunter2@[::1]:7000/3?protocol=resp3",
            "valkey://cache",
            "redis+sentinel://app:hunter%2F2@a,b:26380/sessions/3",
            "redis+sentinel://[::1]/sessions",
            "redis+cluster://app:p@ss@a:7000,b",
            "valkey+cluster://[::1]:7000,a/",
        ] {
            assert!(Address::parse(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for url in [
            "",
            "postgres://app:hunter2@a",
            "redis://a:99999",
            "redis://a#shop",
            "unix:///run/redis.sock#shop",
            "redis://:hunter2#hunter2@a",
            "redis+cluster://",
            "redis+cluster://a,,b",
            "redis+cluster://a:7000/3",
            "redis+cluster://a?protocol=resp3",
            "redis+sentinel://a",
            "redis+sentinel:///sessions",
            "redis+sentinel://a/sessions/three",
            "redis+sentinel://a/sessions?protocol=resp3",
            // The password has a slash that is not written as %2F.
            "redis+sentinel://app:hunter2/hunter2@a/sessions",
        ] {
            let Err(error) = Address::parse(url).map(|_| ()) else {
                panic!("{url} was read");
            };
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}

//! Which nodes there are, and which of them has a session.

use sha2::{Digest, Sha256};

use super::failure::problem;
use crate::{error::StoreError, id::RecordId};

/// The address of a node, as the application wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host_and_port: String,
    seed: u64,
}

impl Address {
    /// The nodes of `memcached://HOST:PORT,HOST:PORT`.
    pub(super) fn parse_all(url: &str) -> Result<Vec<Self>, StoreError> {
        let hosts = ["memcached://", "memcache://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        let hosts = hosts.ok_or_else(|| problem("the address does not begin with memcached://"))?;
        if hosts.contains(['@', '?', '#']) {
            return Err(problem("an address of memcached has hosts and ports alone"));
        }
        let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
        let mut nodes = Vec::new();
        for host in hosts.split(',') {
            let node = Self::parse(host)?;
            if nodes.contains(&node) {
                return Err(problem("a node is named twice"));
            }
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn parse(host: &str) -> Result<Self, StoreError> {
        let is_whole = |host: &str| host.starts_with('[') && host.ends_with(']');
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !is_whole(host) => (name, port),
            _ => (host, PORT),
        };
        let is_bare = name.contains(':') && !is_whole(name);
        if name.is_empty() || name.contains('/') || is_bare {
            return Err(problem("a host is missing, or is not written as HOST:PORT"));
        }
        let port: u16 = port
            .parse()
            .map_err(|_| problem("a port is no number up to 65535"))?;
        let host_and_port = format!("{}:{port}", name.to_ascii_lowercase());
        let hash = Sha256::digest(&host_and_port);
        let mut seed = [0; size_of::<u64>()];
        seed.copy_from_slice(&hash[..size_of::<u64>()]);
        Ok(Self {
            host_and_port,
            seed: u64::from_be_bytes(seed),
        })
    }

    pub(super) fn host_and_port(&self) -> &str {
        &self.host_and_port
    }

    /// How much this node wants that session: the one that wants it most has it. Another node more or less
    /// moves no session between those that stay (rendezvous hashing).
    pub(super) fn claim(&self, id: &RecordId) -> u64 {
        let mut start = [0; size_of::<u64>()];
        start.copy_from_slice(&id.as_bytes()[..size_of::<u64>()]);
        mix(self.seed ^ u64::from_be_bytes(start))
    }
}

/// The finalizer of SplitMix64: each bit that goes in changes half of those that come out.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// What memcached listens to by default.
const PORT: &str = "11211";

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "memcached://cache-a:11211,cache-b:11211,cache-c:11211";

    fn owner<'a>(nodes: &'a [Address], id: &RecordId) -> &'a str {
        let most = nodes.iter().max_by_key(|node| node.claim(id));
        most.map_or("", Address::host_and_port)
    }

    fn ids() -> impl Iterator<Item = RecordId> {
        (0..10_000_u32).map(|number| {
            let hash = Sha256::digest(number.to_be_bytes());
            RecordId::from_bytes(hash.into())
        })
    }

    /// A change here would log everybody out.
    #[test]
    fn which_node_has_a_session_is_pinned() {
        let nodes = Address::parse_all(NODES).unwrap();
        let owners: String = ids()
            .take(40)
            .map(|id| owner(&nodes, &id).as_bytes()[6] as char)
            .collect();
        assert_eq!(owners, "abaaaccababcbaaaababcbbbcaccaccccccaccaa");
    }

    #[test]
    fn sessions_are_spread_evenly() {
        let nodes = Address::parse_all(NODES).unwrap();
        for node in &nodes {
            let has = ids().filter(|id| owner(&nodes, id) == node.host_and_port());
            let share = has.count();
            assert!((3100..3570).contains(&share), "{node:?}: {share}");
        }
    }

    #[test]
    fn a_node_that_goes_takes_its_own_sessions_alone() {
        let nodes = Address::parse_all(NODES).unwrap();
        let fewer = Address::parse_all("memcached://cache-c:11211,cache-a:11211").unwrap();
        for id in ids() {
            let before = owner(&nodes, &id);
            if before != "cache-b:11211" {
                assert_eq!(owner(&fewer, &id), before);
            }
        }
    }

    #[test]
    fn an_address_is_read_or_refused() {
        let nodes = Address::parse_all("memcache://Cache-A,[::1]:11212/").unwrap();
        let names: Vec<&str> = nodes.iter().map(Address::host_and_port).collect();
        assert_eq!(names, ["cache-a:11211", "[::1]:11212"]);
        for wrong in [
            "",
            "redis://a",
            "memcached://",
            "memcached://a,",
            "memcached://a:b",
            "memcached://a:70000",
            "memcached://::1",
            "memcached://user:hunter2@a",
            "memcached://a/b",
            "memcached://a,A:11211",
        ] {
            let error = Address::parse_all(wrong).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{wrong}");
        }
    }
}

//! The server process of one contender, as its parent sees it.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Stdio},
};

use crate::{client::Client, contender::Contender, cores};

pub struct ServerProcess {
    pub contender: Contender,
    pub address: SocketAddr,
    /// The session of each connection of the load.
    pub cookies: Vec<String>,
    child: Child,
}

impl ServerProcess {
    /// Starts it on its core. It serves when this returns.
    pub fn start(contender: Contender, redis_url: &str) -> Self {
        let mut child = cores::pinned(cores::SERVER, env::current_exe().expect("a path"))
            .args([SERVE, contender.name(), redis_url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset");
        let mut port = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut port)
            .expect("a line");
        let port: u16 = port.trim().parse().expect("a port");
        Self {
            contender,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            cookies: Vec::new(),
            child,
        }
    }

    /// Makes a session and returns its cookie.
    pub async fn login(&self) -> String {
        let mut client = Client::connect(self.address).await;
        client.send(&Client::request("/login", "")).await.cookies()
    }

    /// Seconds that it has used its core until now.
    pub fn busy(&self) -> f64 {
        // `taskset` has become the server: it is the same process.
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(path).expect("a running server");
        // The name of the program, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u32 = ticks.map(|n| n.parse::<u32>().expect("a number")).sum();
        f64::from(ticks) / cores::TICKS_PER_SECOND
    }
}

/// It ends when its input does.
impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The argument that makes this program a server.
pub const SERVE: &str = "serve";

//! The load: some connections, each with a session of its own, that send as fast as they are answered.

use std::time::{Duration, Instant};

use crate::{case::Case, client::Client, cores, process::ServerProcess, wrk};

/// How fast a server was.
#[derive(Clone, Copy)]
pub struct Speed {
    pub requests_per_second: f64,
    /// Microseconds of its core that it used for a request.
    pub micros: f64,
    /// The part of the time that it used its core.
    pub busy: f64,
    /// The part of the time that others used its core. The speed is to be trusted only where it is small.
    pub disturbed: f64,
    /// The part of the time that the core of Redis and the client was used.
    pub other_busy: f64,
}

/// How a server is loaded.
#[derive(Clone, Copy)]
pub struct Load {
    pub sender: Sender,
    /// There are as many sessions. Each connection of the client has one of its own, those of wrk have them in turn.
    pub connections: usize,
}

/// What sends the requests.
#[derive(Clone, Copy)]
pub enum Sender {
    Client,
    Wrk,
}

/// Loads the server for so long.
pub async fn run(server: &ServerProcess, case: Case, duration: Duration, sender: Sender) -> Speed {
    let clients = match sender {
        Sender::Client => connect(server, case).await,
        Sender::Wrk => Vec::new(),
    };
    let busy = server.busy();
    let cores_busy = [cores::SERVER, cores::CLIENT].map(cores::busy);
    let start = Instant::now();
    let end = start + duration;
    let sent = match sender {
        Sender::Client => send(clients, move |_| Instant::now() < end).await,
        Sender::Wrk => wrk::run(server, case, duration),
    };
    let elapsed = start.elapsed().as_secs_f64();
    let busy = server.busy() - busy;
    let [own_core, other_core] = [cores::SERVER, cores::CLIENT].map(cores::busy);
    Speed {
        requests_per_second: f64::from(sent) / elapsed,
        micros: busy * 1e6 / f64::from(sent),
        busy: busy / elapsed,
        disturbed: (own_core - cores_busy[0] - busy) / elapsed,
        other_busy: (other_core - cores_busy[1]) / elapsed,
    }
}

/// Sends so many requests from each connection, and returns how many that were.
pub async fn run_times(server: &ServerProcess, case: Case, each: u32) -> u32 {
    let clients = connect(server, case).await;
    send(clients, move |sent| sent < each).await
}

/// A connection with its request for each session.
async fn connect(server: &ServerProcess, case: Case) -> Vec<(Client, Vec<u8>)> {
    let mut clients = Vec::new();
    for cookie in &server.cookies {
        let client = Client::connect(server.address).await;
        clients.push((client, Client::request(case.path(), cookie)));
    }
    clients
}

/// Each sends until it is told, by the number of its requests, to send no more.
async fn send(
    clients: Vec<(Client, Vec<u8>)>,
    more: impl Fn(u32) -> bool + Copy + Send + 'static,
) -> u32 {
    let senders = clients.into_iter().map(|(mut client, request)| {
        tokio::spawn(async move {
            let mut sent = 0;
            while more(sent) {
                client.send(&request).await;
                sent += 1;
            }
            sent
        })
    });
    let senders: Vec<_> = senders.collect();
    let mut all = 0;
    for sender in senders {
        all += sender.await.expect("a sender");
    }
    all
}

/// How many requests are under way at a time, if nobody says how many: enough for the server's core to be the narrow
/// place.
pub const CONNECTIONS: usize = 128;
